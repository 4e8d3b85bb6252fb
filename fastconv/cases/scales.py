"""Scales of the errors of functions of one number and of softmax, see fastconv.tolerance.bound."""

import numpy

from fastconv import reference
from fastconv.elementwise import FUNCTIONS


def unary_forward_scale(x, function, parameters):
    """|y| + |x * dy/dx|: as if x and y were each rounded once; and |x| where x itself is subtracted."""
    y = reference.unary_forward(x, function, parameters)
    v = y if FUNCTIONS[function].reads == "output" else x
    with numpy.errstate(invalid="ignore"):
        moved = abs(x * reference.unary_input_grad(numpy.ones_like(x), v, function, parameters))
    scale = abs(y) + numpy.where(numpy.isfinite(moved), moved, 0)
    return scale + abs(x) if function == "tanhshrink" else scale


def unary_input_grad_scale(dy, v, function, parameters):
    """|dx| + |dy|: derivatives are sums of terms of about 1."""
    return abs(reference.unary_input_grad(dy, v, function, parameters)) + abs(dy)


@numpy.errstate(invalid="ignore")
def softmax_forward_scale(x, axis, log):
    """1 + |y| of the logarithm; otherwise y * (1 + |x - max|), the exponent being rounded before exp."""
    y = reference.softmax_forward(x, axis, log)
    if log:
        return 1 + abs(y)
    return y * (1 + abs(x - x.max(axis=axis, keepdims=True, initial=-numpy.inf)))


@numpy.errstate(invalid="ignore", over="ignore")
def softmax_input_grad_scale(dy, y, axis, log):
    """The formula with every difference made a sum."""
    if log:
        return abs(dy) + numpy.exp(y) * abs(dy).sum(axis=axis, keepdims=True)
    return y * (abs(dy) + (abs(dy) * y).sum(axis=axis, keepdims=True))
