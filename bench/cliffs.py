"""`python -m bench cliffs`: whether one channel, filter, pixel or image more makes a convolution much slower."""

import itertools

import numpy

from bench import machine, turns
from bench.report import Progress, save
from bench.run import LAYOUTS
from bench.shapes import DIRECTIONS

LIMIT = 1.6  # of time per operation, between neighbours
BASE = {"batch": 2, "channels": 64, "size": 32, "filters": 64}
POWERS = {"batch": (2, 4, 8), "channels": (16, 32, 64, 128), "size": (8, 16, 32, 64), "filters": (16, 32, 64, 128)}
_ROUNDS, _QUICK_ROUNDS, _SECONDS = 9, 3, 0.005


def sweeps(options):
    """(kernel, layout, direction, what varies, its three values) of every sweep."""
    layouts = LAYOUTS if options.layout == "both" else (options.layout,)
    directions = DIRECTIONS if options.direction == "all" else (options.direction,)
    for kernel, layout, direction, (name, powers) in itertools.product((3, 1), layouts, directions, POWERS.items()):
        for power in powers[1:2] if options.quick else powers:
            yield kernel, layout, direction, name, (power - 1, power, power + 1)


def cliffs(options):
    """Time every sweep and report the steps.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 1 where `check` is set and a step is above LIMIT, otherwise 0.
    """
    facts = machine.facts(options.threads)
    todo = list(sweeps(options))
    progress = Progress(len(todo))
    steps = []
    for index, (kernel, layout, direction, name, values) in enumerate(todo):
        progress.case(index, f"{kernel}x{kernel} {layout} {direction} {name} {values}")
        progress("turns")
        problems = []
        for value in values:
            geometry = {**BASE, name: value}
            geometry["size"] = (geometry["size"],) * 2
            problems.append(turns.convolution(**geometry, kernel=kernel))
        cases = [turns.case_of(problem, direction, layout) for problem in problems]
        rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
        costs = turns.take_turns(cases, options, rounds, _SECONDS) / [problem.flops for problem in problems]
        for at in (0, 1):
            up = float(numpy.median(costs[:, at + 1] / costs[:, at]))  # of turns that follow each other
            steps.append(
                {
                    "step": max(up, 1 / up),
                    "window": f"{kernel}x{kernel}",
                    "layout": layout,
                    "direction": direction,
                    "varies": name,
                    "values": [values[at], values[at + 1]],
                    "picoseconds": [float(numpy.median(costs[:, i]) * 1e12) for i in (at, at + 1)],
                }
            )
        progress.clear()
    steps.sort(key=lambda step: -step["step"])
    _print(facts, steps)
    if options.json:
        save(options.json, {"machine": facts, "backend": options.backend, "limit": LIMIT, "steps": steps})
    return int(options.check and steps[0]["step"] > LIMIT)


def _print(facts, steps):
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    print(f"steps of time per operation around powers of two, float32, threads: {facts['threads']}, {facts['cpu']}")
    print(f"one of {base} varies; picoseconds per operation of both neighbours\n")
    for step in steps[:12]:
        (a, b), (before, after) = step["values"], step["picoseconds"]
        print(
            f"{step['step']:5.2f}  {step['window']}  {step['layout']:14}  {step['direction']:11}  "
            f"{step['varies']:8} {a:3} -> {b:3}  {before:7.2f} -> {after:7.2f}"
        )
    over = sum(step["step"] > LIMIT for step in steps)
    print(f"\nlargest step {steps[0]['step']:.2f}; {over} of {len(steps)} above {LIMIT}")
