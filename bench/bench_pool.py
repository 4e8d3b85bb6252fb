"""Pooling, forward and backward, both memory formats."""

from bench import shapes

IS_POOL = True
QUICK_SELECTION = shapes.suite("pool")


def bench_pool(timed):
    timed()
