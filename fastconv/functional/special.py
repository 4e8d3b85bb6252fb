"""The error function."""

import math

from fastconv.functional.elementwise import exp, unary
from fastconv.special import erf_values


def erf(input):
    """The error function: 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x, as torch.erf.

    Args:
        input: Tensor or array of any shape; integers are taken as float32.

    Returns:
        The shape and dtype of input, within a few units in the last place; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array of a real dtype.

    Source: W. J. Cody, Mathematics of Computation 23 (1969).
    """
    return unary("erf", input, erf_values, lambda dy, x: dy * (exp(-(x * x)) * (2 / math.sqrt(math.pi))), "input")
