"""Resizing of images of bytes by the array's own functions, for loaders of images and masks: nothing trains there.

Nearest neighbours are copied. Other modes sum products of bytes and of shares of 16 bits, the columns first, and round
to bytes in between. Source: PyTorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp, as Pillow's Resample.c.
"""

import numpy

from fastconv.arrays import namespace_of
from fastconv.resize import axes, padded, taps

_MOST_DIGITS = 22  # of a share behind the binary point


def resized_bytes(x, output, mode, align_corners, scales):
    """y [N, C, *output] of bytes x [N, C, *size]; arguments as of resize_forward."""
    xp = namespace_of(x)
    nearest = "nearest" in mode
    number = numpy.dtype("float32" if nearest else "float64")
    rules = axes(x.shape[2:], output, mode, align_corners, scales, number)
    inner = xp.moveaxis(x, 1, -1)
    last = inner.flags.c_contiguous and not x.flags.c_contiguous
    y, first = (inner, 1) if last else (x, 2)
    for at, axis in reversed(list(enumerate(rules, first))):
        if nearest:
            y = xp.take(y, xp.asarray(taps(axis).input), axis=at)
        elif axis.size != axis.output:
            y = _summed(xp, y, axis, at)
    y = y.copy()
    return xp.moveaxis(y, -1, 1) if last else y


def _summed(xp, x, axis, at):
    """The sums along one axis, as bytes."""
    positions, shares, largest = _shares(axis)
    digits = 0
    while digits < _MOST_DIGITS and int(0.5 + largest * 2 ** (digits + 1)) < 2**15:
        digits += 1
    whole = numpy.trunc(shares * 2**digits + numpy.copysign(0.5, shares)).astype(numpy.int32)
    row = (-1, *(1,) * (x.ndim - 1 - at))
    total = 2 ** (digits - 1)
    for source, share in zip(positions, whole, strict=True):
        total = total + xp.take(x, xp.asarray(source), axis=at).astype("int32") * xp.asarray(share).reshape(row)
    return xp.clip(xp.right_shift(total, digits), 0, 255).astype("uint8")


def _shares(axis):
    """(positions, shares, largest share): tables [most taps, output]; those that fall on one position are added up."""
    _, positions, shares = padded(axis, False)
    if "antialias" in axis.mode:
        return positions, shares, max(shares.max(), 0.0)
    slots, outputs = positions - positions[0], numpy.arange(axis.output)
    added, largest = numpy.zeros_like(shares), 0.0
    for slot, share in zip(slots, shares, strict=True):
        added[slot, outputs] += share
        largest = max(largest, added[slot, outputs].max())  # while they add up, as PyTorch does
    return numpy.minimum(positions[0] + numpy.arange(len(positions))[:, None], axis.size - 1), added, largest
