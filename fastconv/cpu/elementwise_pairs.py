"""The functions of fastconv.elementwise for two numbers, as kernels compile them; one table for each precision.

As in elementwise_formulas.py nothing branches and nothing is widened.
"""

import functools

import numpy as np

from fastconv.cpu.elementwise_functions import functions, largest, smallest
from fastconv.cpu.jit import formula, select


@functools.cache
def pair_formulas(dtype):
    """(forward, a_grad, b_grad) of "float32" or "float64": dicts from names of fastconv.elementwise.PAIRS.

    Returns:
        Compiled functions of (a, b, *parameters) and of (dy, a, b, *parameters).
    """
    number = np.dtype(dtype).type
    elementary = functions(dtype)
    exp, log, log1p, log1p_wide = elementary.exp, elementary.log, elementary.log1p, elementary.log1p_wide
    sigmoid, limited, magnitude = elementary.sigmoid, elementary.limited, elementary.magnitude
    zero, half, one, two = (number(v) for v in (0, 0.5, 1, 2))
    least, tiny, nan, infinite = number(-100), number(1e-12), number(np.nan), number(np.inf)
    most = np.log(np.finfo(dtype).max)
    forward, a_grad, b_grad = {}, {}, {}

    def named(table, name):
        def keep(function):
            table[name] = formula(function)
            return table[name]

        return keep

    @named(forward, "add")
    def _(a, b):
        return a + b

    @named(forward, "sub")
    def _(a, b):
        return a - b

    @named(forward, "mul")
    def _(a, b):
        return a * b

    @named(forward, "div")
    def _(a, b):
        return a / b

    @named(forward, "maximum")
    def _(a, b):
        return largest(a, b)

    @named(forward, "minimum")
    def _(a, b):
        return smallest(a, b)

    @named(forward, "square")
    def _(a, b):
        return (a - b) * (a - b)

    @named(a_grad, "square")
    def _(dy, a, b):
        return dy * ((a - b) * two)

    @named(b_grad, "square")
    def _(dy, a, b):
        return dy * ((b - a) * two)

    @formula
    def sign(d):
        return select(d > zero, one, select(d < zero, -one, zero))

    @named(forward, "absolute")
    def _(a, b):
        return magnitude(a - b)

    @named(a_grad, "absolute")
    def _(dy, a, b):
        return dy * sign(a - b)

    @named(b_grad, "absolute")
    def _(dy, a, b):
        return dy * sign(b - a)

    @named(forward, "smooth_l1")
    def _(a, b, beta):
        size = magnitude(a - b)
        return select(size < beta, size * size * (half / beta), size - half * beta)

    @named(a_grad, "smooth_l1")
    def _(dy, a, b, beta):
        return dy * limited((a - b) / beta, -one, one)

    @named(b_grad, "smooth_l1")
    def _(dy, a, b, beta):
        return dy * limited((b - a) / beta, -one, one)

    @named(forward, "huber")
    def _(a, b, delta):
        size = magnitude(a - b)
        return select(size <= delta, size * size * half, delta * (size - half * delta))

    @named(a_grad, "huber")
    def _(dy, a, b, delta):
        return dy * limited(a - b, -delta, delta)

    @named(b_grad, "huber")
    def _(dy, a, b, delta):
        return dy * limited(b - a, -delta, delta)

    @named(forward, "entropy")
    def _(a, b):
        y = (b - one) * largest(log1p_wide(-a), least) - b * largest(log(a), least)
        return select((a >= zero) & (a <= one) & (b >= zero) & (b <= one), y, nan)

    @named(a_grad, "entropy")
    def _(dy, a, b):
        return dy * ((a - b) / largest((one - a) * a, tiny))

    @named(b_grad, "entropy")
    def _(dy, a, b):
        return dy * (log1p_wide(-a) - log(a))

    @named(forward, "entropy_of_logits")
    def _(a, b):
        return (one - b) * a + (select(a >= zero, zero, -a) + log1p(exp(-magnitude(a))))

    @named(a_grad, "entropy_of_logits")
    def _(dy, a, b):
        return dy * (sigmoid(a) - b)

    @named(b_grad, "entropy_of_logits")
    def _(dy, a, b):
        return -dy * a

    @named(forward, "divergence")
    def _(a, b):
        return select(b == zero, zero, b * log(b)) - b * a

    @named(a_grad, "divergence")
    def _(dy, a, b):
        return -dy * b

    @named(b_grad, "divergence")
    def _(dy, a, b):
        return dy * (select(b == zero, zero, log(b)) + b / b - a)

    @named(forward, "divergence_of_logs")
    def _(a, b):
        return exp(b) * (b - a)

    @named(a_grad, "divergence_of_logs")
    def _(dy, a, b):
        return -dy * exp(b)

    @named(b_grad, "divergence_of_logs")
    def _(dy, a, b):
        return dy * (exp(b) * (b - a + one))

    @named(forward, "poisson")
    def _(a, b, eps):
        return a - b * log(a + eps)

    @named(a_grad, "poisson")
    def _(dy, a, b, eps):
        return dy * (one - b / (a + eps))

    @named(b_grad, "poisson")
    def _(dy, a, b, eps):
        return -dy * log(a + eps)

    @formula
    def expectation(a):
        return select(a > most, infinite, exp(a))  # whose last product could otherwise be one step with a difference

    @named(forward, "poisson_of_logs")
    def _(a, b):
        return expectation(a) - b * a

    @named(a_grad, "poisson_of_logs")
    def _(dy, a, b):
        return dy * (expectation(a) - b)

    b_grad["poisson_of_logs"] = b_grad["entropy_of_logits"]

    @formula
    def odds(z):
        e = exp(-z)
        return e / (one + e)

    @named(forward, "soft_margin")
    def _(a, b):
        return log1p_wide(exp(-(a * b)))

    @named(a_grad, "soft_margin")
    def _(dy, a, b):
        return -dy * b * odds(a * b)

    @named(b_grad, "soft_margin")
    def _(dy, a, b):
        return -dy * a * odds(a * b)

    return forward, a_grad, b_grad
