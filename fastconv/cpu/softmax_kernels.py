"""Kernels of softmax along one axis: row by row where it is innermost in memory, lane by lane where it is not.

The passes over a row follow each other, so that the later ones find it in the cache. Sums are those of pieces in the
precision of the row, added up in float64.
"""

import math

import numpy as np

from fastconv.cpu.elementwise_functions import exponential, largest
from fastconv.cpu.jit import formula, get, inline, kernel, put
from fastconv.cpu.storage import load, store

PIECE = 1024  # elements that are summed in the precision of the row
LANES = 128  # that are worked on together: their sums stay in the cache


@formula
def logarithm(x, high, shift):
    """In this order: the first difference is exact where it is small, high + shift is not."""
    return (x - high) - shift


@kernel
def softmax_rows(first, last, x, y, kept, length, lanes, log):
    """y of x [rows, length]; a task is a row."""
    number = kept.dtype.type
    e = np.empty(length, kept.dtype)
    for row in range(first, last):
        at = row * length
        high = number(-np.inf)
        for i in range(at, at + length):
            high = largest(high, load(x, i))
        total = 0.0
        for low in range(0, length, PIECE):
            stop, part = min(low + PIECE, length), number(0)
            for i in range(low, stop):
                put(e, i, exponential(load(x, at + i) - high))
            for i in range(low, stop):  # apart: see prelu_grad_first in gate_kernels.py
                part += get(e, i)
            total += part
        if log:
            shift = number(math.log(total))
            for i in range(at, at + length):
                store(y, i, logarithm(load(x, i), high, shift))
        else:
            scale = number(1 / total)
            for i in range(length):
                store(y, at + i, get(e, i) * scale)


@kernel
def softmax_grad_rows(first, last, dy, y, dx, kept, length, lanes, log):
    """dx of dy and y [rows, length]; a task is a row."""
    number = kept.dtype.type
    for row in range(first, last):
        at = row * length
        total = 0.0
        for low in range(at, at + length, PIECE):
            part = number(0)
            if log:
                for i in range(low, min(low + PIECE, at + length)):
                    part += load(dy, i)
            else:
                for i in range(low, min(low + PIECE, at + length)):
                    part += load(dy, i) * load(y, i)
            total += part
        share = number(total)
        if log:
            for i in range(at, at + length):
                store(dx, i, load(dy, i) - exponential(load(y, i)) * share)
        else:
            for i in range(at, at + length):
                store(dx, i, load(y, i) * (load(dy, i) - share))


@inline
def lanes_of(task, length, lanes):
    """(index of the first lane's first element, number of lanes) of a task."""
    blocks = (lanes + LANES - 1) // LANES
    low = task % blocks * LANES
    return task // blocks * length * lanes + low, min(LANES, lanes - low)


@kernel
def softmax_lanes(first, last, x, y, kept, length, lanes, log):
    """y of x [outer, length, lanes]; a task is a block of lanes."""
    number = kept.dtype.type
    high, part, total = np.empty(LANES, kept.dtype), np.empty(LANES, kept.dtype), np.empty(LANES, np.float64)
    for task in range(first, last):
        at, count = lanes_of(task, length, lanes)
        for c in range(count):
            put(high, c, number(-np.inf))
            put(total, c, 0.0)
        for i in range(length):
            for c in range(count):
                put(high, c, largest(get(high, c), load(x, at + i * lanes + c)))
        for low in range(0, length, PIECE):
            for c in range(count):
                put(part, c, number(0))
            for i in range(low, min(low + PIECE, length)):
                for c in range(count):
                    put(part, c, get(part, c) + exponential(load(x, at + i * lanes + c) - get(high, c)))
            for c in range(count):
                put(total, c, get(total, c) + get(part, c))
        for c in range(count):
            put(part, c, number(math.log(total[c]) if log else 1 / total[c]))
        for i in range(length):
            row = at + i * lanes
            if log:
                for c in range(count):
                    store(y, row + c, logarithm(load(x, row + c), get(high, c), get(part, c)))
            else:
                for c in range(count):
                    store(y, row + c, exponential(load(x, row + c) - get(high, c)) * get(part, c))


@kernel
def softmax_grad_lanes(first, last, dy, y, dx, kept, length, lanes, log):
    """dx of dy and y [outer, length, lanes]; a task is a block of lanes."""
    number = kept.dtype.type
    part, total = np.empty(LANES, kept.dtype), np.empty(LANES, np.float64)
    for task in range(first, last):
        at, count = lanes_of(task, length, lanes)
        for c in range(count):
            put(total, c, 0.0)
        for low in range(0, length, PIECE):
            for c in range(count):
                put(part, c, number(0))
            for i in range(low, min(low + PIECE, length)):
                row = at + i * lanes
                if log:
                    for c in range(count):
                        put(part, c, get(part, c) + load(dy, row + c))
                else:
                    for c in range(count):
                        put(part, c, get(part, c) + load(dy, row + c) * load(y, row + c))
            for c in range(count):
                put(total, c, get(total, c) + get(part, c))
        for c in range(count):
            put(part, c, number(total[c]))
        for i in range(length):
            row = at + i * lanes
            if log:
                for c in range(count):
                    store(dx, row + c, load(dy, row + c) - exponential(load(y, row + c)) * get(part, c))
            else:
                for c in range(count):
                    store(dx, row + c, load(y, row + c) * (load(dy, row + c) - get(part, c)))
