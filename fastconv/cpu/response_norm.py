"""Local response normalisation on the CPU: one pass, in which neighbouring channels stay in the cache."""

import math

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu.layout import is_channels_last
from fastconv.cpu.response_norm_kernels import (
    LANES,
    response_grad_lanes,
    response_grad_rows,
    response_lanes,
    response_rows,
)
from fastconv.cpu.storage import memory
from fastconv.cpu.threads import parallel_for

_SPEED = 0.5  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def response_norm_forward(x, size, alpha, beta, k):
    """y of the shape and memory format of x; see fastconv.backend."""
    return _computed((response_lanes, response_rows), (x,), size, alpha, beta, k)


def response_norm_input_grad(dy, x, size, alpha, beta, k):
    """dx of the shape and memory format of dy; see fastconv.backend."""
    return _computed((response_grad_lanes, response_grad_rows), (dy, x), size, alpha, beta, k)


def _computed(kernels, operands, size, alpha, beta, k):
    """The result of one of two kernels, channels first and channels last."""
    last = is_channels_last(operands[0])
    operands = [np.moveaxis(v, 1, -1) for v in operands] if last else operands
    shape, dtype = operands[0].shape, operands[0].dtype
    y = np.empty(shape, dtype.newbyteorder("="))
    if y.size:
        channels = shape[-1] if last else shape[1]
        positions = 1 if last else math.prod(shape[2:])
        rows = y.size // (channels * positions)
        tasks = rows if last else rows * -(-positions // LANES)
        kept = np.zeros(0, accumulator(dtype))  # its dtype is that of the arithmetic
        numbers = np.array((alpha / size, k, beta, 2 * alpha * beta / size), kept.dtype)
        memories = [memory(v) for v in (*operands, y)]
        parallel_for(
            kernels[last], tasks, len(operands) * y.size / _SPEED, *memories, kept, channels, positions, size, numbers
        )
    return np.moveaxis(y, -1, 1) if last else y
