"""`python -m bench train`: time and peak memory of a training step of the demo network beside a peer."""

import statistics

from bench import machine, pairing
from bench.process import Worker
from bench.report import BUSY_CORES, Progress, save
from bench.run import NORMAL, QUICK, start_peer

_MEMORY_STEPS = 5


def train(options):
    """Time the step in turns, then weigh it in new processes, and report both.

    Args:
        options: Options of the command.

    Returns:
        The exit status, 0.
    """
    spent = QUICK if options.quick else NORMAL
    rounds = options.rounds or spent.rounds
    repeats = 3 if options.quick else 7
    progress = Progress(2)
    facts = machine.facts(options.threads)
    with Worker(options.backend, options.threads) as ours:
        peer = start_peer(options, print)
        workers = [ours, peer] if peer else [ours]
        try:
            versions = [worker.version for worker in workers]
            for worker in workers:
                worker.request("train")
            progress.case(0, "time of a training step")
            others = machine.Others([worker.pid for worker in workers])
            timing = pairing.take_turns(workers, rounds, spent.warm_seconds, 5 * spent.sample_seconds, progress)
            taken = others.cores()
        finally:
            if peer is not None:
                peer.close()
    progress.case(1, "memory of a training step")
    names = [options.backend] + ([options.peer] if peer else [])
    memory = []
    for name in names:
        weighed = []
        for repeat in range(repeats):
            progress(f"{name} {repeat + 1}/{repeats}")
            weighed.append(_weigh(name, options.threads, spent.warm_seconds))
        memory.append(weighed)
    progress.clear()
    _report(options, facts, versions, timing, memory, taken)
    return 0


def _weigh(name, threads, warm_seconds):
    """Peak memory of a step in a new process: {"bytes", "method"}."""
    with Worker(name, threads) as worker:
        worker.request("train")
        worker.request("warm", seconds=warm_seconds)
        return worker.request("memory", steps=_MEMORY_STEPS)


def _report(options, facts, versions, timing, memory, taken):
    print(f"training step of the demo network, batch 64, float32, threads: {facts['threads']}, {facts['cpu']}")
    names = [f"fastconv {versions[0]} ({options.backend})", *[f"{options.peer} {v}" for v in versions[1:]]]
    times = [timing.ours_ms, timing.peer_ms]
    peaks = [statistics.median(one["bytes"] for one in weighed) for weighed in memory]
    for name, milliseconds, peak, weighed in zip(names, times, peaks, memory, strict=False):
        spread = sorted(one["bytes"] / 1e6 for one in weighed)
        print(
            f"{name:32}  {milliseconds:8.3f} ms  {peak / 1e6:8.2f} MB above the start "
            f"({spread[0]:.2f}-{spread[-1]:.2f} in {len(spread)} processes)"
        )
    ratio = timing.ratio()
    memory_ratio = peaks[0] / peaks[1] if ratio and peaks[1] else None
    if ratio:
        print(f"time {options.peer}/ours {ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f}), above 1 we are faster", end="")
        print(
            f"; memory ours/{options.peer} {memory_ratio:.2f}, under 1 we need less"
            if memory_ratio
            else f"; no memory ratio: {options.peer} stayed within what it held before"
        )
    if (taken or 0) > BUSY_CORES:
        print(f"disturbed: other processes took {taken:.1f} cores; repeat on a quiet machine")
    if options.json:
        save(
            options.json,
            {
                "machine": facts,
                "backend": options.backend,
                "versions": versions,
                "memory_ratio": memory_ratio,
                "time_ratio": ratio,
                "ours_seconds": timing.ours,
                "peer_seconds": timing.peer,
                "memory": memory,
                "others_cores": taken,
            },
        )
