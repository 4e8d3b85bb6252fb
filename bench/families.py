"""`python -m bench FAMILY`: every function of a family beside a peer's, forward and backward, on large tensors."""

import fnmatch
import pathlib
import tempfile

import numpy

from bench import machine, pairing
from bench.process import Worker
from bench.report import BUSY_CORES, Progress, save
from bench.rows import FAMILIES
from bench.run import NORMAL, QUICK, start_peer

# Of float32 results of about 1, some of them over sums of 10^5 numbers; a function that is wrong is wrong by more. One
# element in _OUTLIERS may differ: what passes a ReLU hangs on the sign of a number that is rounded.
_TOLERANCE, _OUTLIERS = 1e-4, 10_000


def rows(name, quick, pattern="*"):
    """The Operators of a family that are timed.

    Args:
        name: A name in bench.rows.FAMILIES.
        quick: Whether tensors are smaller.
        pattern: Only functions whose name matches.
    """
    return [
        (row.smaller() if quick else row)._replace(direction=direction)
        for row in FAMILIES[name]
        if fnmatch.fnmatchcase(row.function, pattern)
        for direction in ("forward", "backward")[: 1 + row.has_backward]
    ]


def family(options):
    """Time every row in turns, after the results of both have been compared, and report.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 0, or 1 where results differ.
    """
    spent = QUICK if options.quick else NORMAL
    cases = rows(options.command, options.quick, options.rows)
    progress = Progress(len(cases))
    facts = machine.facts(options.threads)
    results = []
    with Worker(options.backend, options.threads) as ours:
        peer = start_peer(options, options.threads, print)
        workers = [ours, peer] if peer else [ours]
        versions = [worker.version for worker in workers]
        print(
            f"{options.command}, float32, threads: {facts['threads']}, {facts['cpu']}\n"
            f"fastconv {versions[0]} ({options.backend})" + "".join(f", {options.peer} {v}" for v in versions[1:])
        )
        print(f"\n{'function':48}  {'shape':>16}  direction   ours ms   peer ms  peer/ours  quartiles")
        try:
            for index, case in enumerate(cases):
                progress.case(index, f"{case.name} {case.direction}")
                others = machine.Others([worker.pid for worker in workers])
                for worker in workers:
                    worker.request("operator", case=case._asdict())
                error = _difference(workers) if peer else None
                right = error is None or error <= _TOLERANCE
                timing = None
                if right:
                    rounds = options.rounds or spent.rounds
                    timing = pairing.take_turns(workers, rounds, spent.warm_seconds, spent.sample_seconds, progress)
                results.append((case, timing, error, others.cores()))
                progress.clear()
                _print_row(*results[-1])
        finally:
            if peer is not None:
                peer.close()
    _print_summary(options, results)
    if options.json:
        _save(options, facts, versions, results)
    return int(any(timing is None for _, timing, _, _ in results))


def _difference(workers):
    """The difference of the two results, relative to 1 and their size, that few exceed; NaN where one has a NaN."""
    found = []
    for worker in workers:
        with tempfile.TemporaryDirectory() as folder:
            worker.request("result", path=folder, magnitude=False)
            found.append(numpy.load(pathlib.Path(folder) / "y.npy"))
    a, b = found
    if a.shape != b.shape:
        return float("inf")
    difference = (abs(a - b) / (1 + abs(b))).reshape(-1)
    rank = max(difference.size - 1 - difference.size // _OUTLIERS, 0)
    return float(numpy.partition(difference, rank)[rank]) if difference.size else 0.0


def _print_row(case, timing, error, _):
    shape = "x".join(map(str, case.shape))
    name = case.name + (" last" if case.layout == "channels_last" else "")
    start = f"{name:48}  {shape:>16}  {case.direction:9}"
    if timing is None:
        print(f"{start}  WRONG: differs by {error:.2g}")
        return
    ratio = timing.ratio()
    tail = f"  {timing.peer_ms:8.3f}  {ratio[0]:9.2f}  {ratio[1]:.2f}-{ratio[2]:.2f}" if ratio else ""
    print(f"{start}  {timing.ours_ms:8.3f}{tail}", flush=True)


def _print_summary(options, results):
    print()
    for direction in ("forward", "backward"):
        ratios = {
            (case.name, case.shape, case.layout): timing.ratio()[0]
            for case, timing, _, _ in results
            if timing is not None and timing.peer and case.direction == direction
        }
        if ratios:
            worst = min(ratios, key=ratios.get)
            mean = pairing.geometric_mean(ratios.values())
            print(
                f"{direction}: geometric mean of {options.peer}/ours {mean:.2f}, worst {ratios[worst]:.2f} "
                f"({worst[0]}), {sum(r < 1 for r in ratios.values())} of {len(ratios)} under 1"
            )
    disturbed = sum((cores or 0) > BUSY_CORES for *_, cores in results)
    if disturbed:
        print(f"{disturbed} of {len(results)} rows were disturbed: other processes took more than {BUSY_CORES} cores")


def _save(options, facts, versions, results):
    rows_ = [
        {
            **case._asdict(),
            "ours_seconds": timing and timing.ours,
            "peer_seconds": timing and timing.peer,
            "error": error,
            "others_cores": cores,
        }
        for case, timing, error, cores in results
    ]
    document = {"family": options.command, "machine": facts, "backend": options.backend, "versions": versions}
    save(options.json, {**document, "rows": rows_})
