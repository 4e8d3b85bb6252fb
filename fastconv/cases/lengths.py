"""Most products that an element of a result sums, of adaptive pooling and of resizing: see fastconv.tolerance.bound."""

import math

import numpy

from fastconv.resize import axes, taps


def adaptive_length(x, output_size):
    """The most input positions that an output position covers."""
    return math.prod(_most_covered(s, o) for s, o in zip(x.shape[2:], output_size, strict=True))


def adaptive_input_grad_length(dy, size):
    """The most output positions that cover an input position."""
    return math.prod(_most_covering(s, o) for s, o in zip(size, dy.shape[2:], strict=True))


def _most_covered(size, output):
    return max((-(-(p + 1) * size // output) - p * size // output for p in range(output)), default=0)


def _most_covering(size, output):
    cells = [range(p * size // output, -(-(p + 1) * size // output)) for p in range(output)]
    return max(sum(i in cell for cell in cells) for i in range(size))


def resize_forward_length(x, output_size, mode, align_corners, scales):
    """The most entries of an output position."""
    rules = axes(x.shape[2:], output_size, mode, align_corners, scales, x.dtype)
    return math.prod(int(numpy.bincount(taps(axis).output).max(initial=0)) for axis in rules)


def resize_input_grad_length(dy, size, mode, align_corners, scales):
    """The most entries of an input position."""
    rules = axes(size, dy.shape[2:], mode, align_corners, scales, dy.dtype)
    return math.prod(int(numpy.bincount(taps(axis).input).max(initial=0)) for axis in rules)
