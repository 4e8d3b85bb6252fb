"""Kernels of prelu and glu: one pass over memory, in pieces of a row that a thread takes one by one."""

import numpy as np

from fastconv.cpu.elementwise_functions import logistic
from fastconv.cpu.jit import get, inline, kernel, put, select
from fastconv.cpu.storage import load, store

BLOCK = 1 << 14  # elements of a piece, at most


@inline
def _piece(task, length):
    """(row, first and last element in it) of a piece of rows of this length."""
    pieces = (length + BLOCK - 1) // BLOCK
    low = task % pieces * BLOCK
    return task // pieces, low, min(low + BLOCK, length)


@kernel
def glu_segments(first, last, x, y, half):
    """y [rows, half] of x [rows, 2, half]; a task is a piece of a row."""
    for task in range(first, last):
        row, low, high = _piece(task, half)
        at, source = row * half, 2 * row * half
        for i in range(low, high):
            store(y, at + i, load(x, source + i) * logistic(load(x, source + half + i)))


@kernel
def glu_grad_segments(first, last, dy, x, dx, half):
    """dx [rows, 2, half] of dy [rows, half] and x; a task is a piece of a row."""
    for task in range(first, last):
        row, low, high = _piece(task, half)
        at, source = row * half, 2 * row * half
        for i in range(low, high):
            d, a = load(dy, at + i), load(x, source + i)
            s = logistic(load(x, source + half + i))
            store(dx, source + i, d * s)
            store(dx, source + half + i, d * a * (s - s * s))


@kernel
def prelu_first(first, last, x, w, y, channels, lanes):
    """y of x [rows, channels, lanes]; a task is a piece of a row of lanes."""
    for task in range(first, last):
        row, low, high = _piece(task, lanes)
        slope, at = load(w, row % channels), row * lanes
        for i in range(at + low, at + high):
            value = load(x, i)
            store(y, i, select(value > 0, value, value * slope))


@kernel
def prelu_last(first, last, x, w, y, channels, lanes):
    """y of x [rows, channels]; a task is a block of rows."""
    rows, step = x.size // channels, max(BLOCK // channels, 1)
    for row in range(first * step, min(last * step, rows)):
        at = row * channels
        for c in range(channels):
            value = load(x, at + c)
            store(y, at + c, select(value > 0, value, value * load(w, c)))


@kernel
def prelu_grad_first(first, last, dy, x, w, dx, partial, kept, channels, lanes):
    """dx of dy and x [rows, channels, lanes], partial [tasks]; a task is a piece of a row of lanes."""
    zero = kept.dtype.type(0)
    for task in range(first, last):
        row, low, high = _piece(task, lanes)
        slope, at, total = load(w, row % channels), row * lanes, zero
        for i in range(at + low, at + high):
            d = load(dy, i)
            store(dx, i, select(load(x, i) > 0, d, d * slope))
        # A loop that stores as well is vectorised only where its arrays lie far apart in memory, and the order of a
        # sum must not depend on that.
        for i in range(at + low, at + high):
            value = load(x, i)
            total += select(value > 0, zero, load(dy, i) * value)
        partial[task] = total


@kernel
def prelu_grad_last(first, last, dy, x, w, dx, partial, kept, channels, lanes):
    """dx of dy and x [rows, channels], partial [tasks, channels]; a task is a block of rows."""
    zero = kept.dtype.type(0)
    totals = np.empty(channels, kept.dtype)
    rows, step = x.size // channels, max(BLOCK // channels, 1)
    for task in range(first, last):
        for c in range(channels):
            put(totals, c, zero)
        for row in range(task * step, min((task + 1) * step, rows)):
            at = row * channels
            for c in range(channels):
                value, d = load(x, at + c), load(dy, at + c)
                right = value > 0
                store(dx, at + c, select(right, d, d * load(w, c)))
                put(totals, c, get(totals, c) + select(right, zero, d * value))
        for c in range(channels):
            partial[task * channels + c] = get(totals, c)
