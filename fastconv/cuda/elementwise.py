"""Functions of one and of two numbers on the GPU: the formulas of fastconv.elementwise by the array's own module."""

import numpy

from fastconv.arrays import accumulator, namespace_of
from fastconv.elementwise import FUNCTIONS, PAIRS


def unary_forward(x, function, parameters):
    """y of the shape of x; see fastconv.backend."""
    return computed(x, FUNCTIONS[function].forward, (x,), parameters)


def unary_input_grad(dy, v, function, parameters):
    """dx of the shape of v; see fastconv.backend."""
    return computed(dy, FUNCTIONS[function].input_grad, (dy, v), parameters)


def binary_forward(a, b, function, parameters):
    """y of the shape of a and b; see fastconv.backend."""
    return computed(a, PAIRS[function].forward, (a, b), parameters)


def binary_sum(a, b, function, parameters):
    """The sum of y of a and b; see fastconv.backend."""
    xp, wide = namespace_of(a), accumulator(a.dtype)
    with numpy.errstate(all="ignore"):
        y = PAIRS[function].forward(xp, a.astype(wide, copy=False), b.astype(wide, copy=False), *parameters)
        return xp.asarray(xp.asarray(y).sum(dtype=wide))


def binary_grad(dy, a, b, function, parameters, operand):
    """The gradient of a or b, of its shape; see fastconv.backend."""
    return computed(a, PAIRS[function].grads["ab".index(operand)], (dy, a, b), parameters)


def computed(like, formula, operands, parameters):
    """formula(module, *operands, *parameters) in the accumulator of `like`, rounded once to its dtype."""
    xp, wide = namespace_of(like), accumulator(like.dtype)
    with numpy.errstate(all="ignore"):
        y = xp.asarray(formula(xp, *(v.astype(wide, copy=False) for v in operands), *parameters))
        y = y.astype(like.dtype.newbyteorder("="), copy=False)
    return y if all(y is not v for v in operands) else y.copy()
