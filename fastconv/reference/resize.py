"""Reference resizing, 1-D to 3-D, along one axis after the other.

    y[p] = sum over the entries (p, i, share) of an axis of share * x[i]
    dx[i] = sum over the same entries of share * dy[p]

The entries are those of fastconv.resize.taps. Their shares are of the dtype of the images, everything else is float64.
A share of zero counts as well: next to an infinity it makes NaN, as in PyTorch.
"""

import numpy

from fastconv import resize


@numpy.errstate(over="ignore", invalid="ignore")
def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size] of x [N, C, *size]."""
    y = x.astype(numpy.float64, "C")
    for at, axis in enumerate(resize.axes(x.shape[2:], tuple(output_size), mode, align_corners, scales, x.dtype), 2):
        y = moved(y, resize.taps(axis), axis.output, at)
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore")
def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size] of dy [N, C, *output_size]."""
    dx = dy.astype(numpy.float64, "C")
    for at, axis in enumerate(resize.axes(tuple(size), dy.shape[2:], mode, align_corners, scales, dy.dtype), 2):
        dx = moved(dx, resize.taps(axis).transposed(), axis.size, at)
    return dx.astype(dy.dtype.newbyteorder("="), "C")


def moved(x, taps, positions, at):
    """The sums of one axis, which has so many positions afterwards."""
    source = numpy.moveaxis(x, at, 0)
    y = numpy.zeros((positions, *source.shape[1:]))
    shares = taps.share.astype(numpy.float64).reshape(-1, *(1,) * (source.ndim - 1))
    numpy.add.at(y, taps.output, shares * source[taps.input])
    return numpy.moveaxis(y, 0, at)
