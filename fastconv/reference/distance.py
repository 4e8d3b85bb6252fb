"""Reference of vectors over their length along one axis.

length = sqrt(sum of x * x),  y = x / max(length, eps)

dx = (dy - y * sum of dy * y) / length          where length >= eps
dx = dy / eps                                   where it is less
"""

import numpy


@numpy.errstate(all="ignore")
def normalize_forward(x, axis, eps):
    """y of the shape of x."""
    wide = x.astype(numpy.float64, "C")
    return (wide / numpy.maximum(_length(wide, axis), eps)).astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def normalize_grad(dy, x, axis, eps):
    """dx of dy and x, both of one shape."""
    d, wide = dy.astype(numpy.float64, "C"), x.astype(numpy.float64, "C")
    length = _length(wide, axis)
    y = wide / length
    along = (d * y).sum(axis=axis, keepdims=True)
    dx = numpy.where(length < eps, d / eps, (d - y * along) / numpy.maximum(length, eps))
    return dx.astype(dy.dtype.newbyteorder("="), "C")


def _length(x, axis):
    return numpy.sqrt((x * x).sum(axis=axis, keepdims=True))
