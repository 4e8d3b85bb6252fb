"""The functions of fastconv.elementwise for one number, as kernels compile them; one table for each precision.

Every choice is between two values that are both there, and every constant has the precision, so that nothing branches
or is widened. Where a derivative needs what the value needs, such as an exponential, it is computed once.
"""

import functools

import numpy as np

from fastconv.cpu.elementwise_functions import functions
from fastconv.cpu.jit import formula, select
from fastconv.elementwise import CUBIC, ROOT_TWO_OVER_PI


@functools.cache
def formulas(dtype):
    """(forward, input_grad) of "float32" or "float64": dicts from names of fastconv.elementwise.FUNCTIONS.

    Returns:
        Compiled functions of (x, *parameters) and of (dy, v, *parameters).
    """
    number = np.dtype(dtype).type
    elementary = functions(dtype)
    exp, expm1, log1p, tanh = elementary.exp, elementary.expm1, elementary.log1p, elementary.tanh
    sigmoid, normal = elementary.sigmoid, elementary.normal
    limited, magnitude = elementary.limited, elementary.magnitude
    zero, half, one, two, three, four, six = (number(v) for v in (0, 0.5, 1, 2, 3, 4, 6))
    cubic, slope, steep = number(CUBIC), number(2 * ROOT_TWO_OVER_PI), number(6 * ROOT_TWO_OVER_PI * CUBIC)
    density_at_zero, sixth, third = number(1 / np.sqrt(2 * np.pi)), number(1 / 6), number(1 / 3)
    far = number(40)  # where the tanh of gelu_tanh has long been 1 and a power of x is not yet infinite
    forward, input_grad = {}, {}

    def named(table, name):
        def keep(function):
            table[name] = formula(function)
            return table[name]

        return keep

    @named(forward, "relu")
    def _(x):
        return select(x <= zero, zero, x)

    @named(input_grad, "relu")
    def _(dy, y):
        return select(y <= zero, zero, dy)

    @named(forward, "hardtanh")
    def _(x, low, high):
        return limited(x, low, high)

    @named(input_grad, "hardtanh")
    def _(dy, y, low, high):
        return select((y <= low) | (y >= high), zero, dy)

    @named(forward, "threshold")
    def _(x, limit, value):
        return select(x <= limit, value, x)

    @named(input_grad, "threshold")
    def _(dy, x, limit, value):
        return select(x <= limit, zero, dy)

    @named(forward, "leaky_relu")
    def _(x, slope):
        return select(x > zero, x, x * slope)

    @named(input_grad, "leaky_relu")
    def _(dy, x, slope):
        return select(x > zero, dy, dy * slope)

    @named(forward, "elu")
    def _(x, alpha, scale, steepness):
        left = select(x > zero, zero, x)
        return scale * select(x >= zero, x, alpha * expm1(steepness * left))

    @named(input_grad, "elu")
    def _(dy, x, alpha, scale, steepness):
        left = select(x > zero, zero, x)
        return scale * select(x <= zero, dy * (exp(steepness * left) * (alpha * steepness)), dy)

    @named(forward, "silu")
    def _(x):
        return x * sigmoid(x)

    @named(input_grad, "silu")
    def _(dy, x):
        s = sigmoid(x)
        return dy * (s * (one + x * (one - s)))

    @named(forward, "gelu")
    def _(x):
        below, _ = normal(x)
        return x * below

    @named(input_grad, "gelu")
    def _(dy, x):
        below, density = normal(x)
        return dy * (below + x * (density * density_at_zero))

    @named(forward, "gelu_tanh")
    def _(x):
        near = limited(x, -far, far)
        return x * sigmoid(slope * (near + cubic * (near * near * near)))

    @named(input_grad, "gelu_tanh")
    def _(dy, x):
        near = limited(x, -far, far)
        square = near * near
        s = sigmoid(slope * (near + cubic * (near * square)))
        return dy * (s + near * (s * (one - s)) * (slope + steep * square))

    @formula
    def mish_parts(x):
        """(e, right, n, 1 / d): e = exp(-|x|), whether x >= 0, and tanh(log(1 + exp(x))) = n / d."""
        e = exp(-magnitude(x))
        right = x >= zero
        n = select(right, one + two * e, e * (e + two))
        return e, right, n, one / (n + two * select(right, e * e, one))

    @named(forward, "mish")
    def _(x):
        _, _, n, r = mish_parts(x)
        return x * (n * r)

    @named(input_grad, "mish")
    def _(dy, x):
        e, right, n, r = mish_parts(x)
        falling = select(right, e * e, e) * (one + e)
        return dy * (n * r + x * (four * falling * r * r))

    @formula
    def log_one_plus_exp(x):
        return select(x <= zero, zero, x) + log1p(exp(-magnitude(x)))

    @named(forward, "softplus")
    def _(x, beta, limit):
        return select(x * beta > limit, x, log_one_plus_exp(x * beta) / beta)

    @named(input_grad, "softplus")
    def _(dy, x, beta, limit):
        return select(x * beta > limit, dy, dy * sigmoid(x * beta))

    @named(forward, "softsign")
    def _(x):
        return x / (one + magnitude(x))

    @named(input_grad, "softsign")
    def _(dy, x):
        steepness = one + magnitude(x)
        return dy / (steepness * steepness)

    @named(forward, "hardsigmoid")
    def _(x):
        return limited(x + three, zero, six) * sixth

    @named(input_grad, "hardsigmoid")
    def _(dy, x):
        return select((x > -three) & (x < three), dy * sixth, zero)

    @named(forward, "hardswish")
    def _(x):
        return x * limited(x + three, zero, six) * sixth

    @named(input_grad, "hardswish")
    def _(dy, x):
        return select(x <= -three, zero, select(x < three, dy * (x * third + half), dy))

    @named(forward, "logsigmoid")
    def _(x):
        return -log_one_plus_exp(-x)

    @named(input_grad, "logsigmoid")
    def _(dy, x):
        return dy * sigmoid(-x)

    @named(forward, "sigmoid")
    def _(x):
        return sigmoid(x)

    @named(input_grad, "sigmoid")
    def _(dy, y):
        return dy * (y * (one - y))

    @named(forward, "tanh")
    def _(x):
        return tanh(x)

    @named(input_grad, "tanh")
    def _(dy, y):
        return dy * (one - y * y)

    @named(forward, "tanhshrink")
    def _(x):
        return x - tanh(x)

    @named(input_grad, "tanhshrink")
    def _(dy, x):
        t = tanh(x)
        return dy * (t * t)

    @named(forward, "softshrink")
    def _(x, bound):
        return select(x > bound, x - bound, select(x < -bound, x + bound, x * zero))

    @named(input_grad, "softshrink")
    def _(dy, x, bound):
        return select((x >= -bound) & (x <= bound), zero, dy)

    @named(forward, "hardshrink")
    def _(x, bound):
        return select((x >= -bound) & (x <= bound), zero, x)

    input_grad["hardshrink"] = input_grad["softshrink"]
    return forward, input_grad
