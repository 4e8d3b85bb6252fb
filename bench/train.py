"""`python -m bench train`: time and peak memory of a training step of a network beside a peer."""

import pathlib
import statistics
import tempfile

import numpy

from bench import machine, pairing
from bench.networks import NETWORKS
from bench.process import Worker
from bench.report import BUSY_CORES, Progress, save
from bench.run import LAYOUTS, NORMAL, QUICK, start_peer

_MEMORY_STEPS = 5

# Of the norm of loss and all gradients: a ReLU or a maximum that rounding decides otherwise changes what is behind it.
TOLERANCE = 0.02


def train(options):
    """Time the step in turns, then weigh it in new processes, and report both.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 0, or 1 where loss or gradients differ.
    """
    network = NETWORKS[options.network]
    batch = (network.smaller() if options.quick and options.network != "digits" else network).shape[0]
    layouts = LAYOUTS if options.layout == "both" else (options.layout,)
    facts = machine.facts(options.threads)
    results = [_measure(options, batch, layout) for layout in layouts]
    shape = "x".join(map(str, (batch, *network.shape[1:])))
    print(f"training step of {options.network} {shape}, float32, threads: {facts['threads']}, {facts['cpu']}")
    for result in results:
        _print(options, result)
    if options.json:
        save(
            options.json,
            {
                "machine": facts,
                "backend": options.backend,
                "network": options.network,
                "batch": batch,
                "peer": options.peer,
                "layouts": results,
            },
        )
    return int(any(result["difference"] is not None and result["difference"] > TOLERANCE for result in results))


def _measure(options, batch, layout):
    """What is known of a step in one memory format, as a dict for JSON."""
    spent = QUICK if options.quick else NORMAL
    rounds = options.rounds or spent.rounds
    case = {"network": options.network, "batch": batch, "layout": layout, "learning": True}
    progress = Progress(2)
    with Worker(options.backend, options.threads) as ours:
        peer = start_peer(options, options.threads, print)
        workers = [ours, peer] if peer else [ours]
        try:
            versions = [worker.version for worker in workers]
            progress.case(0, f"{options.network} {layout}, time of a training step")
            for worker in workers:
                worker.request("network", **case)
            apart = difference(workers) if peer else None
            others = machine.Others([worker.pid for worker in workers])
            timing = pairing.take_turns(workers, rounds, spent.warm_seconds, 5 * spent.sample_seconds, progress)
            taken = others.cores()
        finally:
            if peer is not None:
                peer.close()
    progress.case(1, f"{options.network} {layout}, memory of a training step")
    memory = []
    for name in [options.backend] + ([options.peer] if peer else []):
        weighed = []
        repeats = 3 if options.quick else 7
        for repeat in range(repeats):
            progress(f"{name} {repeat + 1}/{repeats}")
            weighed.append(_weigh(name, options.threads, spent.warm_seconds, case))
        memory.append(weighed)
    progress.clear()
    peaks = [statistics.median(one["bytes"] for one in weighed) for weighed in memory]
    return {
        "layout": layout,
        "versions": versions,
        "difference": apart,
        "memory_ratio": peaks[0] / peaks[1] if peer and peaks[1] else None,
        "time_ratio": timing.ratio(),
        "ours_seconds": timing.ours,
        "peer_seconds": timing.peer,
        "memory": memory,
        "others_cores": taken,
    }


def difference(workers):
    """The norm of the difference of all that two workers compute, as a part of the norm of the second's."""
    found = []
    for worker in workers:
        with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
            worker.request("results", path=folder)
            with numpy.load(pathlib.Path(folder) / "results.npz") as results:
                found.append({name: results[name].astype("float64") for name in results.files})
    ours, peers = found
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in peers.items()}:
        return float("inf")
    squares = sum(numpy.square(ours[name] - peers[name]).sum() for name in peers)
    return float(numpy.sqrt(squares / sum(numpy.square(value).sum() for value in peers.values())))


def _weigh(name, threads, warm_seconds, case):
    """Peak memory of a step in a new process: {"bytes", "method"}."""
    with Worker(name, threads) as worker:
        worker.request("network", **case)
        worker.request("warm", seconds=warm_seconds)
        return worker.request("memory", steps=_MEMORY_STEPS)


def _print(options, result):
    versions, memory, ratio = result["versions"], result["memory"], result["time_ratio"]
    names = [f"fastconv {versions[0]} ({options.backend})", *[f"{options.peer} {v}" for v in versions[1:]]]
    times = [numpy.median(result[key]) * 1e3 for key in ("ours_seconds", "peer_seconds") if result[key]]
    print(result["layout"])
    for name, milliseconds, weighed in zip(names, times, memory, strict=True):
        spread = sorted(one["bytes"] / 1e6 for one in weighed)
        print(
            f"{name:32}  {milliseconds:8.3f} ms  {statistics.median(spread):8.2f} MB above the start "
            f"({spread[0]:.2f}-{spread[-1]:.2f} in {len(spread)} processes)"
        )
    if ratio:
        print(f"time {options.peer}/ours {ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f}), above 1 we are faster", end="")
        print(
            f"; memory ours/{options.peer} {result['memory_ratio']:.2f}, under 1 we need less"
            if result["memory_ratio"]
            else f"; no memory ratio: {options.peer} stayed within what it held before"
        )
        if not result["difference"] <= TOLERANCE:
            print(f"WRONG: loss and gradients differ by {result['difference']:.2g} of their norm")
    if (result["others_cores"] or 0) > BUSY_CORES:
        print(f"disturbed: other processes took {result['others_cores']:.1f} cores; repeat on a quiet machine")
