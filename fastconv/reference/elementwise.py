"""Reference functions of one and of two numbers: the formulas of fastconv.elementwise in float64."""

import numpy

from fastconv.arrays import accumulator
from fastconv.elementwise import FUNCTIONS, PAIRS


@numpy.errstate(all="ignore")
def unary_forward(x, function, parameters):
    """y of the shape of x."""
    y = FUNCTIONS[function].forward(numpy, x.astype(numpy.float64, "C"), *parameters)
    return numpy.asarray(y).astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def unary_input_grad(dy, v, function, parameters):
    """dx of dy and v, both of one shape."""
    wide = (a.astype(numpy.float64, "C") for a in (dy, v))
    dx = FUNCTIONS[function].input_grad(numpy, *wide, *parameters)
    return numpy.asarray(dx).astype(dy.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def binary_forward(a, b, function, parameters):
    """y of a and b, of one shape or one of them without axes."""
    return _pair(PAIRS[function].forward, (a, b), parameters).astype(a.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def binary_sum(a, b, function, parameters):
    """The sum of y of a and b, both of one shape."""
    return numpy.asarray(_pair(PAIRS[function].forward, (a, b), parameters).sum(), accumulator(a.dtype))


@numpy.errstate(all="ignore")
def binary_grad(dy, a, b, function, parameters, operand):
    """The gradient of a or b, both of one shape; dy of that shape or without axes."""
    grad = _pair(PAIRS[function].grads["ab".index(operand)], (dy, a, b), parameters)
    return numpy.broadcast_to(grad, a.shape).astype(a.dtype.newbyteorder("="), "C")


def _pair(formula, operands, parameters):
    return numpy.asarray(formula(numpy, *(v.astype(numpy.float64, "C") for v in operands), *parameters))
