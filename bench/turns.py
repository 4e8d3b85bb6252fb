"""Calls of fastconv alone that take turns in this process, for questions that need no peer."""

import gc
import itertools
import math
import time

import numpy

import fastconv
from bench.engines import Case, FastconvEngine
from bench.shapes import Problem


def convolution(batch, channels, size, filters, kernel):
    """The Problem of a convolution of stride 1 that keeps its size; kernel is as long on every axis."""
    rank = len(size)
    ones = (1,) * rank
    return Problem(
        "turns", "", "conv", batch, channels, size, filters, (kernel,) * rank, ones, (kernel // 2,) * rank, ones, 1
    )


def take_turns(cases, options, rounds, seconds, around=None):
    """Seconds of every case in every round, [rounds, cases]; on one thread those that it ran, whoever else did.

    Args:
        cases: bench.engines.Case rows.
        options: Options of the command: backend and threads.
        rounds: Turns of each.
        seconds: About how long a turn lasts; one call at least.
        around: A context manager for each case within which it is called, or None.
    """
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    engine = FastconvEngine(options.backend)
    fastconv.set_num_threads(options.threads)
    around = around or [engine.active] * len(cases)
    with engine.active():
        calls = [engine.prepare(case).call for case in cases]
        counts = []
        for call, within in zip(calls, around, strict=True):
            with within():
                call()
                start = clock()
                call()
                counts.append(max(1, math.ceil(seconds / max(clock() - start, 1e-7))))
        found = numpy.empty((rounds, len(cases)))
        gc.disable()
        try:
            for turn, index in itertools.product(range(rounds), range(len(cases))):
                with around[index]():
                    calls[index]()  # takes the caches back
                    start = clock()
                    for _ in range(counts[index]):
                        calls[index]()
                    found[turn, index] = (clock() - start) / counts[index]
        finally:
            gc.enable()
    return found


def case_of(problem, direction, layout):
    """A Case in float32."""
    return Case(problem, direction, layout, "float32")
