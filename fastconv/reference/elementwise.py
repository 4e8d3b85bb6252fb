"""Reference functions of one number: the formulas of fastconv.elementwise in float64."""

import numpy

from fastconv.elementwise import FUNCTIONS


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
