"""Softmax, prelu and glu on the CPU: each one pass over memory, or one a row."""

import functools
import math

import numpy as np

from fastconv import arrays, blocks
from fastconv.cpu.elementwise import memory_order
from fastconv.cpu.gate_kernels import (
    BLOCK,
    glu_grad_segments,
    glu_segments,
    prelu_first,
    prelu_grad_first,
    prelu_grad_last,
    prelu_last,
)
from fastconv.cpu.softmax_kernels import (
    LANES,
    softmax_grad_lanes,
    softmax_grad_rows,
    softmax_lanes,
    softmax_rows,
)
from fastconv.cpu.storage import memory
from fastconv.cpu.threads import parallel_for

accumulator = functools.cache(arrays.accumulator)  # finding the name of a dtype takes a microsecond

_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def softmax_forward(x, axis, log):
    """y of the shape and memory order of x; see fastconv.backend."""
    return _along((softmax_rows, softmax_lanes), axis, log, x)


def softmax_input_grad(dy, y, axis, log):
    """dx of the shape and memory order of y; see fastconv.backend."""
    return _along((softmax_grad_rows, softmax_grad_lanes), axis, log, dy, y)


def glu_forward(x, axis):
    """y in the memory order of x, of half its size on the axis; see fastconv.backend."""
    (x,), axis, order = _ordered((x,), axis)
    y = _empty(_halved(x.shape, axis), x.dtype)
    if y.size:
        half = y.size // math.prod(y.shape[:axis])
        tasks = y.size // half * -(-half // BLOCK)
        parallel_for(glu_segments, tasks, y.size / _SPEED, memory(x), memory(y), half)
    return _restored(y, order)


def glu_input_grad(dy, x, axis):
    """dx of the shape and memory order of x; see fastconv.backend."""
    (dy, x), axis, order = _ordered((dy, x), axis)
    dx = _empty(x.shape, dy.dtype)
    if dx.size:
        half = dy.size // math.prod(dy.shape[:axis])
        tasks = dy.size // half * -(-half // BLOCK)
        parallel_for(glu_grad_segments, tasks, dx.size / _SPEED, memory(dy), memory(x), memory(dx), half)
    return _restored(dx, order)


def prelu_forward(x, w):
    """y of the shape and memory order of x; see fastconv.backend."""
    (x,), channels, lanes, order = _by_channels((x,), w.size)
    y = _empty(x.shape, x.dtype)
    if y.size:
        run = prelu_last if lanes == 1 and channels > 1 else prelu_first
        tasks = _prelu_tasks(y.size, channels, lanes)
        parallel_for(run, tasks, y.size / _SPEED, memory(x), memory(w), memory(y), channels, lanes)
    return _restored(y, order)


def prelu_grad(dy, x, w):
    """dx of the shape and memory order of x, dw of the shape of w; see fastconv.backend."""
    (dy, x), channels, lanes, order = _by_channels((dy, x), w.size)
    dx = _empty(x.shape, dy.dtype)
    dw = np.zeros(channels)
    if dx.size:
        last = lanes == 1 and channels > 1
        tasks = _prelu_tasks(dx.size, channels, lanes)
        partial = np.empty(tasks * channels if last else tasks)
        run = prelu_grad_last if last else prelu_grad_first
        memories = (memory(dy), memory(x), memory(w), memory(dx), partial)
        parallel_for(run, tasks, dx.size / _SPEED, *memories, np.zeros(0, accumulator(x.dtype)), channels, lanes)
        # A row may be cut into pieces, which follow each other.
        dw = partial.reshape(-1, channels, -(-lanes // BLOCK)).sum(axis=(0, 2))
    return _restored(dx, order), dw.reshape(w.shape).astype(dx.dtype)


def _prelu_tasks(size, channels, lanes):
    """Blocks of rows of channels where they are innermost, otherwise pieces of the rows of one channel."""
    if lanes == 1 and channels > 1:
        return -(-size // channels // max(BLOCK // channels, 1))
    return size // lanes * -(-lanes // BLOCK)


def _by_channels(operands, count):
    """(operands in memory order, channels, elements of a channel that follow each other, order): one channel of all
    elements where there is one weight."""
    if count == 1:
        operands, _, order = _ordered(operands, 0)
        return operands, 1, operands[0].size, order
    operands, axis, order = _ordered(operands, 1 if operands[0].ndim > 1 else 0)
    return operands, count, math.prod(operands[0].shape[axis + 1 :]), order


def _ordered(operands, axis):
    """(operands, axis, order) in the memory order of the last operand, order None where it is that of C."""
    last = operands[-1]
    order = None if last.flags.c_contiguous else memory_order(last)
    if order is None:
        return operands, axis, None
    return tuple(v.transpose(order) for v in operands), order.index(axis), order


def _restored(y, order):
    return y if order is None else y.transpose(np.argsort(order))


def _halved(shape, axis):
    return (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])


def _empty(shape, dtype):
    return blocks.empty(shape, dtype if dtype.isnative else dtype.newbyteorder("="))


def _along(kernels, axis, log, *operands):
    """The result of one of two kernels, for rows and for lanes, on operands of one shape."""
    operands, axis, order = _ordered(operands, axis)
    shape, dtype = operands[0].shape, operands[0].dtype
    y = _empty(shape, dtype)
    if y.size:
        length, lanes = shape[axis], math.prod(shape[axis + 1 :])
        outer = y.size // (length * lanes)
        tasks = outer if lanes == 1 else outer * -(-lanes // LANES)
        kept = np.zeros(0, accumulator(dtype))  # its dtype is that of the arithmetic
        memories = [memory(v) for v in (*operands, y)]
        parallel_for(kernels[lanes > 1], tasks, 2 * y.size / _SPEED, *memories, kept, length, lanes, log)
    return _restored(y, order)
