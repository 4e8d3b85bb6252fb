"""Time of a training step of the demo network, beside PyTorch where that is installed."""

from typing import NamedTuple

from bench import machine, pairing
from bench.networks import NETWORKS
from bench.process import Worker, WorkerError

_ROUNDS = 15
_WARM_SECONDS = 1.0
_SAMPLE_SECONDS = 0.15


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        timing: Seconds per step of both libraries, round by round: a bench.pairing.Timing.
        threads: Threads of each library.
        peer_version: Version of PyTorch, or None where there is no comparison.
        why_no_peer: The reason, or None.
        others: Cores that other processes took meanwhile, or None where the system does not tell.
    """

    timing: pairing.Timing
    threads: int
    peer_version: str | None
    why_no_peer: str | None
    others: float | None


TRAINING = {"network": "digits", "batch": NETWORKS["digits"].shape[0], "layout": "channels_first", "learning": True}


def measure(threads, with_peer=True, rounds=_ROUNDS, progress=lambda text: None):
    """Time steps of batch 64 in float32, each library in a process of its own, in turns.

    Args:
        threads: Threads of each library.
        with_peer: Whether to look for PyTorch.
        rounds: Turns that each library gets.
        progress: Called with a few words before every round.

    Returns:
        A Speed.
    """
    why = None if with_peer else "was left out on request"
    with Worker("cpu", threads) as ours:
        peer = None
        if with_peer:
            try:
                peer = Worker("torch", threads)
            except WorkerError as error:
                if "ModuleNotFoundError" not in str(error.got):
                    raise
                why = "is not installed here"
        workers = [ours, peer] if peer else [ours]
        try:
            for worker in workers:
                worker.request("network", **TRAINING)
            others = machine.Others([worker.pid for worker in workers])
            timing = pairing.take_turns(workers, rounds, _WARM_SECONDS, _SAMPLE_SECONDS, progress)
            return Speed(timing, threads, peer and peer.version, why, others.cores())
        finally:
            if peer is not None:
                peer.close()
