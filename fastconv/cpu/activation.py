"""Softmax along one axis on the CPU: row by row where the axis is innermost in memory, lane by lane where it is not.

The passes over a row follow each other, so that the later ones find it in the cache. Sums are those of pieces in the
precision of the row, added up in float64.
"""

import math

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu.elementwise import memory_order
from fastconv.cpu.elementwise_functions import exponential, largest
from fastconv.cpu.jit import formula, get, inline, kernel, put
from fastconv.cpu.storage import load, memory, store
from fastconv.cpu.threads import parallel_for

_PIECE = 1024  # elements that are summed in the precision of the row
_LANES = 128  # that are worked on together: their sums stay in the cache
_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def softmax_forward(x, axis, log):
    """y of the shape and memory order of x; see fastconv.backend."""
    return _along((softmax_rows, softmax_lanes), axis, log, x)


def softmax_input_grad(dy, y, axis, log):
    """dx of the shape and memory order of y; see fastconv.backend."""
    return _along((softmax_grad_rows, softmax_grad_lanes), axis, log, dy, y)


def _along(kernels, axis, log, *operands):
    """The result of one of two kernels, for rows and for lanes, on operands of one shape."""
    last = operands[-1]
    order = None if last.flags.c_contiguous else memory_order(last)
    if order is not None:
        operands = [v.transpose(order) for v in operands]
        axis = order.index(axis)
    shape, dtype = operands[0].shape, operands[0].dtype
    y = np.empty(shape, dtype if dtype.isnative else dtype.newbyteorder("="))
    if y.size:
        length, lanes = shape[axis], math.prod(shape[axis + 1 :])
        outer = y.size // (length * lanes)
        tasks = outer if lanes == 1 else outer * -(-lanes // _LANES)
        kept = np.zeros(0, accumulator(dtype))  # its dtype is that of the arithmetic
        arrays = [memory(v) for v in (*operands, y)]
        parallel_for(kernels[lanes > 1], tasks, 2 * y.size / _SPEED, *arrays, kept, length, lanes, log)
    return y if order is None else y.transpose(np.argsort(order))


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
        for low in range(0, length, _PIECE):
            part = number(0)
            for i in range(low, min(low + _PIECE, length)):
                value = exponential(load(x, at + i) - high)
                put(e, i, value)
                part += value
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
        for low in range(at, at + length, _PIECE):
            part = number(0)
            if log:
                for i in range(low, min(low + _PIECE, at + length)):
                    part += load(dy, i)
            else:
                for i in range(low, min(low + _PIECE, at + length)):
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
def _lanes_of(task, length, lanes):
    """(index of the first lane's first element, number of lanes) of a task."""
    blocks = (lanes + _LANES - 1) // _LANES
    low = task % blocks * _LANES
    return task // blocks * length * lanes + low, min(_LANES, lanes - low)


@kernel
def softmax_lanes(first, last, x, y, kept, length, lanes, log):
    """y of x [outer, length, lanes]; a task is a block of lanes."""
    number = kept.dtype.type
    high, part, total = np.empty(_LANES, kept.dtype), np.empty(_LANES, kept.dtype), np.empty(_LANES, np.float64)
    for task in range(first, last):
        at, count = _lanes_of(task, length, lanes)
        for c in range(count):
            put(high, c, number(-np.inf))
            put(total, c, 0.0)
        for i in range(length):
            for c in range(count):
                put(high, c, largest(get(high, c), load(x, at + i * lanes + c)))
        for low in range(0, length, _PIECE):
            for c in range(count):
                put(part, c, number(0))
            for i in range(low, min(low + _PIECE, length)):
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
    part, total = np.empty(_LANES, kept.dtype), np.empty(_LANES, np.float64)
    for task in range(first, last):
        at, count = _lanes_of(task, length, lanes)
        for c in range(count):
            put(total, c, 0.0)
        for low in range(0, length, _PIECE):
            for c in range(count):
                put(part, c, number(0))
            for i in range(low, min(low + _PIECE, length)):
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
