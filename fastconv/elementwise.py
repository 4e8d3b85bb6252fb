"""The functions of one and of two numbers that every backend computes, by name: formulas for whole arrays.

Each is as in torch.nn.functional. A gradient reads the input or, where it can, the result, so that the input is let go
of. Where dy is not wanted it is replaced by 0, never multiplied with it, so that an infinite one is cut off.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from fastconv.special import normal_values

ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715  # of arXiv:1606.08415
_DENSITY = 1 / math.sqrt(2 * math.pi)


class Function(NamedTuple):
    """One function and its derivative.

    Attributes:
        forward: forward(xp, x, *parameters), xp being numpy or cupy.
        input_grad: input_grad(xp, dy, v, *parameters), v being what it reads.
        reads: "input" or "output".
    """

    forward: Callable
    input_grad: Callable
    reads: str = "input"

    @property
    def parameters(self):
        """How many parameters it takes."""
        return self.forward.__code__.co_argcount - 2


def _sigmoid(xp, x):
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, 1) / (1 + e)


def _log_one_plus_exp(xp, x):
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _elu(xp, x, alpha, scale, steepness):
    return scale * (xp.maximum(x, 0) + alpha * xp.expm1(steepness * xp.minimum(x, 0)))


def _elu_grad(xp, dy, x, alpha, scale, steepness):
    left = dy * (xp.exp(steepness * xp.minimum(x, 0)) * (alpha * steepness))
    return xp.where(x <= 0, left, dy) * scale


def _silu_grad(xp, dy, x):
    s = _sigmoid(xp, x)
    return dy * (s * (1 + x * (1 - s)))


def _gelu_grad(xp, dy, x):
    return dy * (normal_values(xp, x) + x * xp.exp(x * x * -0.5) * _DENSITY)


def _inner(x):
    return ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x))


def _gelu_tanh_grad(xp, dy, x):
    x = xp.clip(x, -40, 40)  # where the slope has long been 0 or 1, and a power of x could become infinite
    s = _sigmoid(xp, 2 * _inner(x))
    return dy * (s + x * (s * (1 - s)) * (2 * ROOT_TWO_OVER_PI * (1 + 3 * CUBIC * x * x)))


def _mish_grad(xp, dy, x):
    t = xp.tanh(_log_one_plus_exp(xp, x))
    return dy * (t + x * _sigmoid(xp, x) * (1 - t * t))


def _softplus(xp, x, beta, threshold):
    return xp.where(x * beta > threshold, x, _log_one_plus_exp(xp, x * beta) / beta)


def _softplus_grad(xp, dy, x, beta, threshold):
    return xp.where(x * beta > threshold, dy, dy * _sigmoid(xp, x * beta))


def _softsign_grad(xp, dy, x):
    steep = 1 + xp.abs(x)
    return dy / (steep * steep)


def _hardswish_grad(xp, dy, x):
    return xp.where(x <= -3, 0, xp.where(x < 3, dy * (x / 3 + 0.5), dy))


def _tanhshrink_grad(xp, dy, x):
    t = xp.tanh(x)
    return dy * (t * t)


def _softshrink(xp, x, bound):
    return xp.where(x > bound, x - bound, xp.where(x < -bound, x + bound, x * 0))


def _shrink_grad(xp, dy, x, bound):
    return xp.where((x >= -bound) & (x <= bound), 0, dy)


FUNCTIONS = {
    "relu": Function(
        lambda xp, x: xp.maximum(x, 0),
        lambda xp, dy, y: xp.where(y <= 0, 0, dy),
        "output",
    ),
    "hardtanh": Function(
        lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high),
        lambda xp, dy, y, low, high: xp.where((y <= low) | (y >= high), 0, dy),
        "output",
    ),
    "threshold": Function(
        lambda xp, x, threshold, value: xp.where(x <= threshold, value, x),
        lambda xp, dy, x, threshold, value: xp.where(x <= threshold, 0, dy),
    ),
    "leaky_relu": Function(
        lambda xp, x, slope: xp.maximum(x, 0) + slope * xp.minimum(x, 0),
        lambda xp, dy, x, slope: xp.where(x > 0, dy, dy * slope),
    ),
    "elu": Function(_elu, _elu_grad),
    "silu": Function(lambda xp, x: x * _sigmoid(xp, x), _silu_grad),
    "gelu": Function(lambda xp, x: x * normal_values(xp, x), _gelu_grad),
    "gelu_tanh": Function(lambda xp, x: x * _sigmoid(xp, 2 * _inner(x)), _gelu_tanh_grad),
    "mish": Function(lambda xp, x: x * xp.tanh(_log_one_plus_exp(xp, x)), _mish_grad),
    "softplus": Function(_softplus, _softplus_grad),
    "softsign": Function(lambda xp, x: x / (1 + xp.abs(x)), _softsign_grad),
    "hardsigmoid": Function(
        lambda xp, x: xp.minimum(xp.maximum(x + 3, 0), 6) / 6,
        lambda xp, dy, x: xp.where((x > -3) & (x < 3), dy / 6, 0),
    ),
    "hardswish": Function(lambda xp, x: x * xp.minimum(xp.maximum(x + 3, 0), 6) / 6, _hardswish_grad),
    "logsigmoid": Function(
        lambda xp, x: -_log_one_plus_exp(xp, -x),
        lambda xp, dy, x: dy * _sigmoid(xp, -x),
    ),
    "sigmoid": Function(_sigmoid, lambda xp, dy, y: dy * (y * (1 - y)), "output"),
    "tanh": Function(lambda xp, x: xp.tanh(x), lambda xp, dy, y: dy * (1 - y * y), "output"),
    "tanhshrink": Function(lambda xp, x: x - xp.tanh(x), _tanhshrink_grad),
    "softshrink": Function(_softshrink, _shrink_grad),
    "hardshrink": Function(
        lambda xp, x, bound: xp.where((x >= -bound) & (x <= bound), 0, x),
        _shrink_grad,
    ),
}


class Pair(NamedTuple):
    """One function of two numbers and its derivatives.

    Attributes:
        forward: forward(xp, a, b, *parameters), xp being numpy or cupy.
        grads: (xp, dy, a, b, *parameters) -> the gradient of a, and the same for b; None for a function whose
            gradients are compositions.
    """

    forward: Callable
    grads: tuple | None = None

    @property
    def parameters(self):
        """How many parameters it takes."""
        return self.forward.__code__.co_argcount - 3


def _sign(xp, d):
    return xp.where(d > 0, 1.0, xp.where(d < 0, -1.0, 0.0))


def _smooth_l1(xp, a, b, beta):
    size = xp.abs(a - b)
    return xp.where(size < beta, size * size * (0.5 / beta), size - 0.5 * beta)


def _huber(xp, a, b, delta):
    size = xp.abs(a - b)
    return xp.where(size <= delta, size * size * 0.5, delta * (size - 0.5 * delta))


def _clipped(xp, d, bound):
    return xp.minimum(xp.maximum(d, -bound), bound)


def _of_difference(forward, slope):
    """The Pair of a function of a - b, whose derivative is slope(xp, a - b, *parameters)."""
    return Pair(
        forward,
        (
            lambda xp, dy, a, b, *parameters: dy * slope(xp, a - b, *parameters),
            lambda xp, dy, a, b, *parameters: dy * slope(xp, b - a, *parameters),
        ),
    )


def _entropy(xp, a, b):
    """Of a probability and one that is wanted; NaN where one of them is no probability."""
    yes, no = xp.maximum(xp.log(a), -100), xp.maximum(xp.log1p(-a), -100)
    return xp.where((a >= 0) & (a <= 1) & (b >= 0) & (b <= 1), (b - 1) * no - b * yes, math.nan)


def _times_log(xp, a, b):
    """a * log(b), 0 where a is 0."""
    return xp.where((a == 0) & (b == b), 0, a * xp.log(b))


def _odds(xp, z):
    """exp(-z) / (1 + exp(-z)) as PyTorch computes it: NaN where the exponential is infinite."""
    e = xp.exp(-z)
    return e / (1 + e)


PAIRS = {
    "add": Pair(lambda xp, a, b: a + b),
    "sub": Pair(lambda xp, a, b: a - b),
    "mul": Pair(lambda xp, a, b: a * b),
    "div": Pair(lambda xp, a, b: a / b),
    "maximum": Pair(lambda xp, a, b: xp.maximum(a, b)),
    "minimum": Pair(lambda xp, a, b: xp.minimum(a, b)),
    "square": _of_difference(lambda xp, a, b: (a - b) * (a - b), lambda xp, d: d * 2),
    "absolute": _of_difference(lambda xp, a, b: xp.abs(a - b), _sign),
    "smooth_l1": _of_difference(_smooth_l1, lambda xp, d, beta: _clipped(xp, d / beta, 1)),
    "huber": _of_difference(_huber, _clipped),
    "entropy": Pair(
        _entropy,
        (
            lambda xp, dy, a, b: dy * ((a - b) / xp.maximum((1 - a) * a, 1e-12)),
            lambda xp, dy, a, b: dy * (xp.log1p(-a) - xp.log(a)),
        ),
    ),
    "entropy_of_logits": Pair(
        lambda xp, a, b: (1 - b) * a + _log_one_plus_exp(xp, -a),
        (lambda xp, dy, a, b: dy * (_sigmoid(xp, a) - b), lambda xp, dy, a, b: -dy * a),
    ),
    "divergence": Pair(
        lambda xp, a, b: _times_log(xp, b, b) - b * a,
        (
            lambda xp, dy, a, b: -dy * b,
            lambda xp, dy, a, b: dy * (xp.where(b == 0, 0, xp.log(b)) + b / b - a),
        ),
    ),
    "divergence_of_logs": Pair(
        lambda xp, a, b: xp.exp(b) * (b - a),
        (lambda xp, dy, a, b: -dy * xp.exp(b), lambda xp, dy, a, b: dy * (xp.exp(b) * (b - a + 1))),
    ),
    "poisson": Pair(
        lambda xp, a, b, eps: a - b * xp.log(a + eps),
        (lambda xp, dy, a, b, eps: dy * (1 - b / (a + eps)), lambda xp, dy, a, b, eps: -dy * xp.log(a + eps)),
    ),
    "poisson_of_logs": Pair(
        lambda xp, a, b: xp.exp(a) - b * a,
        (lambda xp, dy, a, b: dy * (xp.exp(a) - b), lambda xp, dy, a, b: -dy * a),
    ),
    "soft_margin": Pair(
        lambda xp, a, b: xp.log1p(xp.exp(-(a * b))),
        (
            lambda xp, dy, a, b: -dy * b * _odds(xp, a * b),
            lambda xp, dy, a, b: -dy * a * _odds(xp, a * b),
        ),
    ),
}
