"""What may follow a convolution, in place: max(y, 0), gelu by the error function, y * sigmoid(y).

Source: Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.
"""

import math

from fastconv.cpu.jit import get, kernel, put
from fastconv.cpu.threads import parallel_for

_BLOCK = 4096  # elements of a task


def activate(ys, activation):
    """Apply it to a flat array, where it is not None."""
    if activation is not None:
        run, speed = _ACTIVATIONS[activation]
        parallel_for(run, -(-ys.size // _BLOCK), ys.size / speed, ys)


@kernel
def _relu(first, last, ys):
    zero = ys.dtype.type(0)
    for i in range(first * _BLOCK, min(last * _BLOCK, ys.size)):
        y = get(ys, i)
        put(ys, i, zero if y < zero else y)  # NaN stays


@kernel
def _gelu(first, last, ys):
    for i in range(first * _BLOCK, min(last * _BLOCK, ys.size)):
        y = float(get(ys, i))
        put(ys, i, ys.dtype.type(0.5 * y * math.erfc(-y / math.sqrt(2.0))))


@kernel
def _silu(first, last, ys):
    for i in range(first * _BLOCK, min(last * _BLOCK, ys.size)):
        y = float(get(ys, i))
        put(ys, i, ys.dtype.type(y / (1.0 + math.exp(-y))))


# Kernel, and elements in a nanosecond of one thread, roughly.
_ACTIVATIONS = {"relu": (_relu, 4), "gelu": (_gelu, 0.05), "silu": (_silu, 0.1)}
