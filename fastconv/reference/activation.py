"""Reference softmax along one axis.

e = exp(x - max of x),  s = e / sum of e,  softmax y = s,  log_softmax y = log s = x - max - log(sum of e)

dx = y * (dy - sum of dy * y)           of softmax
dx = dy - exp(y) * sum of dy            of log_softmax
"""

import numpy


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
