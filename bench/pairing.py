"""Two workers that take turns, and the statistics of their turns.

A machine's speed wanders: neighbours come and go, the clock moves. Measurements made one after the
other compare two states of the machine as much as two libraries, so each of ours is paired with the
peer's that follows it at once, and the ratio is taken pair by pair.
"""

import math
from typing import NamedTuple

import numpy


class Timing(NamedTuple):
    """Seconds per call of one row.

    Attributes:
        ours: One for each round.
        peer: One for each round, or nothing without a peer.
    """

    ours: tuple
    peer: tuple

    @property
    def ours_ms(self):
        """Our median in milliseconds."""
        return float(numpy.median(self.ours)) * 1e3

    @property
    def peer_ms(self):
        """The peer's median in milliseconds, or None."""
        return float(numpy.median(self.peer)) * 1e3 if self.peer else None

    def ratio(self):
        """(median, first quartile, third quartile) of peer / ours; above 1 we are faster. None without a peer."""
        if not self.peer:
            return None
        ratios = numpy.divide(self.peer, self.ours)
        return tuple(float(q) for q in numpy.quantile(ratios, (0.5, 0.25, 0.75)))


def take_turns(workers, rounds, warm_seconds, sample_seconds, progress=lambda text: None):
    """Time what the workers have prepared: all are warmed up, then each is timed once in every round.

    Args:
        workers: One or two Workers, ours first.
        rounds: How many turns each gets.
        warm_seconds: How long each is warmed up.
        sample_seconds: About how long a turn lasts, one call at least.
        progress: Called with a few words before every round.

    Returns:
        The Timing.
    """
    progress("warm-up")
    fastest = [worker.request("warm", seconds=warm_seconds) for worker in workers]
    calls = [max(1, math.ceil(sample_seconds / max(seconds, 1e-7))) for seconds in fastest]
    seconds = [[] for _ in workers]
    for turn in range(rounds):
        progress(f"round {turn + 1}/{rounds}")
        for worker, count, series in zip(workers, calls, seconds, strict=True):
            series.append(worker.request("time", calls=count))
    return Timing(tuple(seconds[0]), tuple(seconds[1]) if len(seconds) > 1 else ())


def geometric_mean(ratios):
    """Geometric mean of positive numbers, or None of nothing."""
    ratios = list(ratios)
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None
