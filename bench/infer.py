"""`python -m bench infer`: fused networks beside ONNX Runtime and PyTorch, at a batch of 1 and at that of training."""

import contextlib

from bench import machine, pairing
from bench.networks import NETWORKS
from bench.process import Worker, WorkerError
from bench.report import BUSY_CORES, Progress, save
from bench.run import LAYOUTS, NORMAL, QUICK
from bench.train import difference

PEERS = ("torch", "onnxruntime")
_TOLERANCE = 1e-4  # of the norm of the results


def cases(options):
    """(network, batch, layout, peer) of every row; ONNX Runtime has no channels-last arrays."""
    names = list(NETWORKS) if options.network == "all" else [options.network]
    peers = PEERS if options.peer == "all" else (options.peer,)
    return [
        (name, batch, layout, peer)
        for name in names
        for batch in sorted({1, (NETWORKS[name].smaller() if options.quick else NETWORKS[name]).shape[0]})
        for peer in peers
        for layout in (LAYOUTS if peer == "torch" else LAYOUTS[:1])
    ]


def infer(options):
    """Time every row in turns, after the results of both have been compared, and report.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 0, or 1 where results differ.
    """
    facts = machine.facts(options.threads)
    todo = cases(options)
    progress = Progress(len(todo))
    rows = []
    with contextlib.ExitStack() as stack:
        workers = {options.backend: stack.enter_context(Worker(options.backend, options.threads))}
        for peer in dict.fromkeys(peer for *_, peer in todo):
            try:
                workers[peer] = stack.enter_context(Worker(peer, options.threads))
            except WorkerError as failure:
                if "ImportError" not in failure.got and "ModuleNotFoundError" not in failure.got:
                    raise
                print(f"{peer} is not installed ({failure.got}): no rows beside it")
        print(f"inference of fused networks, float32, threads: {facts['threads']}, {facts['cpu']}")
        print(", ".join(f"{name} {worker.version}" for name, worker in workers.items()))
        print(f"\n{'network':9}  {'input':>15}  layout          peer          ours ms   peer ms  peer/ours  quartiles")
        for index, case in enumerate(case for case in todo if case[3] in workers):
            progress.case(index, " ".join(map(str, case)))
            rows.append(_measure(case, workers[options.backend], workers[case[3]], options, progress))
            progress.clear()
            _print(rows[-1])
    _print_summary(rows)
    if options.json:
        save(options.json, {"machine": facts, "backend": options.backend, "rows": rows})
    return int(any(row["status"] != "ok" for row in rows))


def _measure(case, ours, peer, options, progress):
    """A row as a dict for JSON."""
    name, batch, layout, _ = case
    spent = QUICK if options.quick else NORMAL
    row = {"network": name, "shape": (batch, *NETWORKS[name].shape[1:]), "layout": layout, "peer": peer.engine}
    for worker in (ours, peer):
        worker.request("network", network=name, batch=batch, layout=layout, learning=False)
    apart = difference((ours, peer))
    if not apart <= _TOLERANCE:
        return {**row, "status": "WRONG", "difference": apart}
    others = machine.Others([ours.pid, peer.pid])
    rounds = options.rounds or spent.rounds
    timing = pairing.take_turns((ours, peer), rounds, spent.warm_seconds, spent.sample_seconds, progress)
    return {
        **row,
        "status": "ok",
        "difference": apart,
        "ratio": timing.ratio(),
        "ours_seconds": timing.ours,
        "peer_seconds": timing.peer,
        "others_cores": others.cores(),
    }


def _print(row):
    start = f"{row['network']:9}  {'x'.join(map(str, row['shape'])):>15}  {row['layout']:14}  {row['peer']:11}"
    if row["status"] != "ok":
        print(f"{start}  {row['status']}: results differ by {row['difference']:.2g} of their norm")
        return
    timing = pairing.Timing(row["ours_seconds"], row["peer_seconds"])
    middle, low, high = row["ratio"]
    print(f"{start}  {timing.ours_ms:8.3f}  {timing.peer_ms:8.3f}  {middle:9.2f}  {low:.2f}-{high:.2f}", flush=True)


def _print_summary(rows):
    print()
    for peer in dict.fromkeys(row["peer"] for row in rows):
        ratios = {
            f"{row['network']} of {row['shape'][0]} {row['layout']}": row["ratio"][0]
            for row in rows
            if row["peer"] == peer and row["status"] == "ok"
        }
        if ratios:
            worst = min(ratios, key=ratios.get)
            mean = pairing.geometric_mean(ratios.values())
            print(f"{peer}: geometric mean of peer/ours {mean:.2f}, worst {ratios[worst]:.2f} ({worst})")
    disturbed = sum((row.get("others_cores") or 0) > BUSY_CORES for row in rows)
    if disturbed:
        print(f"{disturbed} of {len(rows)} rows were disturbed: other processes took more than {BUSY_CORES} cores")
