"""Pooling of whole planes for channels first, x [planes, size]: global maxima, and averages forward and back."""

import numpy as np

from fastconv.cpu.jit import get, kernel, put
from fastconv.cpu.vectors import (
    QUAD,
    add,
    any_lane,
    either,
    equals,
    first_lane,
    larger,
    largest_lane,
    load,
    load_first,
    no_number,
    splat,
    store_within,
    sum_of_lanes,
)


@kernel
def max_planes_first(first, last, x, y, indices, size):
    """The maximum of each plane and where it is; a task is one plane."""
    for plane in range(first, last):
        start = plane * size
        best = splat(x, -np.inf, QUAD)
        wrong = no_number(best)
        for i in range(0, size, QUAD):
            value = load_first(x, start + i, QUAD, size - i, -np.inf)
            best, wrong = larger(value, best), either(wrong, no_number(value))
        at = 0
        if any_lane(wrong):  # of NaNs the last
            for i in range(size):
                if get(x, start + i) != get(x, start + i):
                    at = i
        else:  # of equals the first
            wanted = splat(x, largest_lane(best), QUAD)
            for i in range(0, size, QUAD):
                found = equals(load_first(x, start + i, QUAD, size - i, -np.inf), wanted)
                if any_lane(found):
                    at = i + first_lane(found)
                    break
        put(y, plane, get(x, start + at))
        put(indices, plane, at)


@kernel
def average_planes_first(first, last, x, y, size, divisor):
    """The sum of each plane over the divisor; a task is one plane."""
    whole = size // QUAD * QUAD
    for plane in range(first, last):
        start = plane * size
        total = load_first(x, start + whole, QUAD, size - whole, 0)
        for i in range(start, start + whole, QUAD):
            total = add(total, load(x, i, QUAD))
        put(y, plane, sum_of_lanes(total) / divisor)


@kernel
def spread_planes_first(first, last, dy, dx, size, factor):
    """Planes whose elements are all dy times the factor; a task is one plane."""
    for plane in range(first, last):
        value = splat(dx, get(dy, plane) * factor, QUAD)
        for i in range(0, size, QUAD):
            store_within(dx, plane * size + i, value, size - i)
