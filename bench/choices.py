"""`python -m bench choices`: where Winograd's algorithm is faster than the direct one, and what is chosen."""

import itertools

import numpy

import fastconv
from bench import machine, turns
from bench.report import Progress, save
from bench.run import LAYOUTS

# batch, channels, size, filters; the first few are those of a quick run.
GRID = [
    (1, 64, (28, 28), 64),
    (1, 16, (16, 16, 16), 16),
    *((1, c, (size, size), c) for c in (16, 32, 64, 128, 256) for size in (7, 14, 28, 56)),
    *((8, c, (size, size), c) for c in (32, 128) for size in (8, 14, 28)),
    *((1, 64, (28, 28), k) for k in (8, 32, 256)),
    *((1, c, (28, 28), 64) for c in (8, 32, 256)),
    *((1, c, (size,) * 3, c) for c in (16, 32, 64) for size in (8, 16, 32)),
]
DIRECTIONS = ("forward", "input_grad")
_ROUNDS, _QUICK_ROUNDS, _SECONDS = 9, 3, 0.005
_TOLERATED = 1.05  # what is chosen may be slower than the best by so much before it counts as a mistake


def choices(options):
    """Time both algorithms, and the choice, on every shape of the grid.

    Args:
        options: Options of the command.

    Returns:
        The exit status, 0.
    """
    facts = machine.facts(options.threads)
    layouts = LAYOUTS if options.layout == "both" else (options.layout,)
    grid = GRID[:2] if options.quick else list(dict.fromkeys(GRID))
    todo = list(itertools.product(grid, DIRECTIONS, layouts))
    progress = Progress(len(todo))
    print(f"3x3 and 3x3x3 convolutions, float32, threads: {facts['threads']}, {facts['cpu']}\n")
    print(f"{'problem':28}  direction   layout          direct ms  winograd ms  direct/winograd  chosen ms")
    rows = []
    for index, (shape, direction, layout) in enumerate(todo):
        problem = turns.convolution(*shape, kernel=3)
        progress.case(index, f"{problem.describe()} {direction} {layout}")
        progress("turns")
        modes = ("off", "always", "auto")
        rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
        around = [lambda mode=mode: fastconv.winograd(mode) for mode in modes]
        seconds = turns.take_turns(
            [turns.case_of(problem, direction, layout)] * len(modes), options, rounds, _SECONDS, around
        )
        progress.clear()
        direct, winograd, chosen = (float(value) * 1e3 for value in numpy.median(seconds, axis=0))
        ratio = float(numpy.median(seconds[:, 0] / seconds[:, 1]))
        loss = float(numpy.median(seconds[:, 2] / seconds[:, :2].min(axis=1)))
        rows.append(
            {
                "problem": problem.describe(),
                "direction": direction,
                "layout": layout,
                "direct_ms": direct,
                "winograd_ms": winograd,
                "chosen_ms": chosen,
                "ratio": ratio,
                "loss": loss,
            }
        )
        print(
            f"{problem.describe():28}  {direction:10}  {layout:14}  {direct:9.3f}  {winograd:11.3f}  {ratio:15.2f}  "
            f"{chosen:9.3f}" + (f"  {loss:.2f} times the best" if loss > _TOLERATED else ""),
            flush=True,
        )
    mistakes = [row["loss"] for row in rows if row["loss"] > _TOLERATED]
    won = sum(row["ratio"] > 1 for row in rows)
    print(f"\nWinograd's is faster in {won} of {len(rows)} rows", end="; ")
    print(f"the choice costs more than {_TOLERATED:.2f} times the best in {len(mistakes)}", end="")
    print(f", {max(mistakes):.2f} at most" if mistakes else "")
    if options.json:
        save(options.json, {"machine": facts, "backend": options.backend, "rows": rows})
    return 0
