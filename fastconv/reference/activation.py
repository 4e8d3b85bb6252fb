"""Reference softmax along one axis, glu and prelu.

e = exp(x - max of x),  s = e / sum of e,  softmax y = s,  log_softmax y = log s = x - max - log(sum of e)

dx = y * (dy - sum of dy * y)           of softmax
dx = dy - exp(y) * sum of dy            of log_softmax
"""

import numpy

from fastconv.elementwise import FUNCTIONS


@numpy.errstate(all="ignore")
def softmax_forward(x, axis, log):
    """y of the shape of x."""
    wide = x.astype(numpy.float64, "C")
    shifted = wide - wide.max(axis=axis, keepdims=True, initial=-numpy.inf)
    e = numpy.exp(shifted)
    total = e.sum(axis=axis, keepdims=True)
    y = shifted - numpy.log(total) if log else e / total
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def softmax_input_grad(dy, y, axis, log):
    """dx of dy and y, both of one shape."""
    wide_dy, wide_y = (a.astype(numpy.float64, "C") for a in (dy, y))
    if log:
        dx = wide_dy - numpy.exp(wide_y) * wide_dy.sum(axis=axis, keepdims=True)
    else:
        dx = wide_y * (wide_dy - (wide_dy * wide_y).sum(axis=axis, keepdims=True))
    return dx.astype(dy.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def glu_forward(x, axis):
    """a * sigmoid(b), x being a and b one after the other along the axis."""
    a, b = numpy.split(x.astype(numpy.float64, "C"), 2, axis=axis)
    y = a * FUNCTIONS["sigmoid"].forward(numpy, b)
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def glu_input_grad(dy, x, axis):
    """dx: dy * s and dy * a * s * (1 - s), s = sigmoid(b), one after the other along the axis."""
    d = dy.astype(numpy.float64, "C")
    a, b = numpy.split(x.astype(numpy.float64, "C"), 2, axis=axis)
    s = FUNCTIONS["sigmoid"].forward(numpy, b)
    dx = numpy.concatenate([d * s, d * a * (s * (1 - s))], axis=axis)
    return dx.astype(dy.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def prelu_forward(x, w):
    """x where x > 0, otherwise w * x; w has one element, or one for each channel of x [N, C, ...]."""
    wide = x.astype(numpy.float64, "C")
    y = numpy.where(wide > 0, wide, wide * _slopes(w, x))
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def prelu_grad(dy, x, w):
    """dx, and dw: the sum of dy * x of a channel where x is not positive."""
    d, wide = dy.astype(numpy.float64, "C"), x.astype(numpy.float64, "C")
    dx = numpy.where(wide > 0, d, d * _slopes(w, x))
    products = numpy.where(wide > 0, 0, d * wide)
    axes = tuple(range(x.ndim)) if w.size == 1 else tuple(i for i in range(x.ndim) if i != 1)
    dtype = dy.dtype.newbyteorder("=")
    return dx.astype(dtype, "C"), products.sum(axis=axes).reshape(w.shape).astype(dtype)


def _slopes(w, x):
    """w in float64, to broadcast against x."""
    wide = w.astype(numpy.float64, "C")
    return wide.reshape(()) if w.size == 1 else wide.reshape(-1, *(1,) * (x.ndim - 2))
