"""Vectors over their length along one axis on the CPU: one pass for the lengths, one for the result."""

import math

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu.distance_kernels import (
    LANES,
    normalize_grad_lanes,
    normalize_grad_rows,
    normalize_lanes,
    normalize_rows,
)
from fastconv.cpu.elementwise import memory_order
from fastconv.cpu.storage import memory
from fastconv.cpu.threads import parallel_for

_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def normalize_forward(x, axis, eps):
    """y of the shape and memory order of x; see fastconv.backend."""
    return _along((normalize_rows, normalize_lanes), axis, eps, x)


def normalize_grad(dy, x, axis, eps):
    """dx of the shape and memory order of x; see fastconv.backend."""
    return _along((normalize_grad_rows, normalize_grad_lanes), axis, eps, dy, x)


def _along(kernels, axis, eps, *operands):
    """The result of one of two kernels, for rows and for lanes, on operands of one shape."""
    last = operands[-1]
    order = None if last.flags.c_contiguous else memory_order(last)
    if order is not None:
        operands, axis = [v.transpose(order) for v in operands], order.index(axis)
    shape, dtype = operands[0].shape, operands[0].dtype
    y = np.empty(shape, dtype.newbyteorder("="))
    if y.size:
        length, lanes = shape[axis], math.prod(shape[axis + 1 :])
        outer = y.size // (length * lanes)
        tasks = outer if lanes == 1 else outer * -(-lanes // LANES)
        kept = np.zeros(0, accumulator(dtype))  # its dtype is that of the arithmetic
        memories = [memory(v) for v in (*operands, y)]
        parallel_for(kernels[lanes > 1], tasks, 2 * y.size / _SPEED, *memories, kept, length, lanes, float(eps))
    return y if order is None else y.transpose(np.argsort(order))
