"""Maxima and means of windows of integers: exact for all of them, by the array's own functions, tap after tap.

Networks pool floats; this is for label maps and quantised images, which no kernel is worth.
"""

import functools
import itertools

import numpy

from fastconv.arrays import is_array, namespace_of

# Those of PyTorch's kernels.
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


def is_integer(value):
    """Whether value is an array of integers that max pooling serves."""
    return is_array(value) and value.dtype.name in INTEGERS


def like_floats(x):
    """An array of floats of the shape of x, for checks that look at the shape alone; it takes no memory."""
    return numpy.broadcast_to(numpy.float32(0), x.shape)


def integer_maxima(x, window):
    """y [N, C, *output] and its int64 positions in the flattened *size, as of max_pool_forward.

    Args:
        x: Array of integers [N, C, *size].
        window: A Window each of which holds an element.
    """
    xp = namespace_of(x)
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    positions = xp.arange(x[0, 0].size if x.size else 0).reshape(window.size if x.size else (0,) * window.rank)
    y = xp.full(window.output_shape, numpy.iinfo(x.dtype).min, x.dtype)
    indices = xp.full(window.output_shape, -1, "int64")
    for taps in itertools.product(*map(range, window.kernel)) if x.size else ():
        at_y, at_x = zip(*(_meetings(window, axis, tap) for axis, tap in enumerate(taps)), strict=True)
        at_y, candidates = (..., *at_y), x[(..., *at_x)]
        wins = (indices[at_y] < 0) | (candidates > y[at_y])
        y[at_y] = xp.where(wins, candidates, y[at_y])
        indices[at_y] = xp.where(wins, positions[at_x], indices[at_y])
    return y, indices


def integer_means(x, window, count_include_pad, divisor):
    """y [N, C, *output], sums divided as C++ divides, towards 0.

    Args:
        x: Array of int64 [N, C, *size].
        window: A Window without dilation.
        count_include_pad: Whether the padding counts as elements of a window.
        divisor: What to divide by instead of the number of elements, or None.
    """
    xp = namespace_of(x)
    y = xp.zeros(window.output_shape, "int64")
    for taps in itertools.product(*map(range, window.kernel)):
        at_y, at_x = zip(*(_meetings(window, axis, tap) for axis, tap in enumerate(taps)), strict=True)
        y[(..., *at_y)] += x[(..., *at_x)]
    if divisor is None:
        counts = [_counts(window, axis, count_include_pad) for axis in range(window.rank)]
        divisor = xp.asarray(functools.reduce(numpy.multiply.outer, counts))
    quotient = xp.floor_divide(xp.abs(y), abs(divisor))
    return xp.where((y < 0) == (divisor < 0), quotient, -quotient)


def _counts(window, axis, count_include_pad):
    """Elements of each window along an axis."""
    before, after = window.padding[axis] if count_include_pad else (0, 0)
    start = numpy.arange(window.output[axis]) * window.stride[axis] - window.padding[axis][0]
    stop = start + window.kernel[axis]
    return numpy.minimum(stop, window.size[axis] + after) - numpy.maximum(start, -before)


def _meetings(window, axis, tap):
    """Slices of output and input positions where a tap of the window meets the input along an axis."""
    stride, size, output = window.stride[axis], window.size[axis], window.output[axis]
    offset = tap * window.dilation[axis] - window.padding[axis][0]
    first = max(-(offset // stride), 0)  # the first p for which p * stride + offset is no less than 0
    count = max(min(output, (size - 1 - offset) // stride + 1) - first, 0)
    start = first * stride + offset
    return slice(first, first + count), slice(start, start + max(count * stride - stride + 1, 0), stride)
