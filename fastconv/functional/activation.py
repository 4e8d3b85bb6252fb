"""Activation functions, as in torch.nn.functional.

A rule reads the result rather than the input where it can, so that the input is let go of. `inplace` is accepted
because models written for PyTorch say it everywhere, and changes nothing: arrays are values here, and no operator
writes to its input.
"""

import math

from fastconv.arrays import describe, namespace_of
from fastconv.autograd import raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, clamp, exp, masked, sigmoid, tanh, unary
from fastconv.functional.operands import accumulator, array, as_axis, floats, is_number, number, quiet, wrapped
from fastconv.functional.reduction import summed
from fastconv.functional.special import erf, erf_values

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: Tensor or array of any shape; integers are taken as float32.{args}

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An argument is out of range.
        DTypeError: input is no array, or another argument of a wrong type.
    """
_INPLACE = "\n        inplace: Accepted and without effect; input is never written to."


def _documented(what, args=""):
    def decorate(function):
        function.__doc__ = _DOC.format(what=what, name=function.__name__, args=args)
        return function

    return decorate


def _number(name, argument, value):
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    return number(value)


@_documented("max(x, 0), NaN for NaN", _INPLACE)
def relu(input, inplace=False):
    x = array("relu", "input", input)
    xp = namespace_of(x)
    y = xp.asarray(xp.maximum(x, x.dtype.type(0)))
    if x.dtype.kind in "biu":
        return wrapped(y, input)
    return record("relu", y, (input,), lambda dy, y: (lambda: masked(dy, ~(raw(y) <= 0)),), saves_output=True)


@_documented("min(max(x, 0), 6)", _INPLACE)
def relu6(input, inplace=False):
    return _limited("relu6", input, 0.0, 6.0)


@_documented("min(max(x, min_val), max_val)", "\n        min_val, max_val: The limits." + _INPLACE)
def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    low, high = _number("hardtanh", "min_val", min_val), _number("hardtanh", "max_val", max_val)
    if low > high:
        raise ShapeError("hardtanh", "min_val", low, f"at most max_val, {high}")
    return _limited("hardtanh", input, low, high)


def _limited(name, input, low, high):
    x = floats(name, "input", input)
    # Limits of the dtype, so that a result that is a limit is found to be one again.
    low, high = (x.dtype.type(limit) for limit in (low, high))
    xp = namespace_of(x)
    y = xp.asarray(xp.minimum(xp.maximum(x, low), high))

    def rule(dy, y):
        return (lambda: masked(dy, ~((raw(y) <= low) | (raw(y) >= high))),)

    return record(name, y, (input,), rule, saves_output=True)


@_documented(
    "x where x > threshold, otherwise value; NaN for NaN",
    "\n        threshold: What x is compared with.\n        value: What takes its place." + _INPLACE,
)
def threshold(input, threshold, value, inplace=False):
    limit, value = _number("threshold", "threshold", threshold), _number("threshold", "value", value)
    x = floats("threshold", "input", input)
    xp = namespace_of(x)
    y = xp.asarray(xp.where(x <= limit, x.dtype.type(value), x))
    return record("threshold", y, (input,), lambda dy, _: (lambda: masked(dy, ~(raw(input) <= limit)),), (input,))


@_documented("x where x > 0, otherwise negative_slope * x",
             "\n        negative_slope: Slope on the left of 0." + _INPLACE)  # fmt: skip
def leaky_relu(input, negative_slope=0.01, inplace=False):
    slope = _number("leaky_relu", "negative_slope", negative_slope)

    def compute(xp, x):
        # Never a choice between two values, which would be several times slower.
        return xp.maximum(x, 0) + slope * xp.minimum(x, 0)

    def gradient(dy, x):
        right = raw(x) > 0
        return masked(dy, right) + masked(dy * slope, ~right)

    return unary("leaky_relu", input, compute, gradient, "input")


def _exponential(name, input, alpha, scale, steepness):
    """scale * x where x > 0, otherwise scale * alpha * (exp(steepness * x) - 1)."""

    def compute(xp, x):
        return scale * (xp.maximum(x, 0) + alpha * xp.expm1(steepness * xp.minimum(x, 0)))

    def gradient(dy, x):
        right = raw(x) > 0
        left = masked(dy * (exp(clamp(x, max=0.0) * steepness) * (alpha * steepness)), ~right)
        return (masked(dy, right) + left) * scale

    return unary(name, input, compute, gradient, "input")


@_documented("x where x > 0, otherwise alpha * (exp(x) - 1)",
             "\n        alpha: What it tends to on the left, negated." + _INPLACE)  # fmt: skip
def elu(input, alpha=1.0, inplace=False):
    return _exponential("elu", input, _number("elu", "alpha", alpha), 1.0, 1.0)


@_documented("ELU with the constants that keep mean 0 and variance 1, of arXiv:1706.02515", _INPLACE)
def selu(input, inplace=False):
    return _exponential("selu", input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


@_documented("max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))",
             "\n        alpha: What it tends to on the left, negated; not 0." + _INPLACE)  # fmt: skip
def celu(input, alpha=1.0, inplace=False):
    alpha = _number("celu", "alpha", alpha)
    if alpha == 0:
        raise ShapeError("celu", "alpha", alpha, "a number other than 0")
    return _exponential("celu", input, alpha, 1.0, 1 / alpha)


@_documented("x * sigmoid(x)", _INPLACE)
def silu(input, inplace=False):
    def gradient(dy, x):
        s = sigmoid(x)
        return dy * (s * (1 + x * (1 - s)))

    return unary("silu", input, lambda xp, x: x / (1 + xp.exp(-x)), gradient, "input")


@_documented("x * Phi(x), Phi the distribution function of the standard normal",
             '\n        approximate: "none", or "tanh" for Phi approximated by tanh, of arXiv:1606.08415.')  # fmt: skip
def gelu(input, approximate="none"):
    if approximate == "none":
        return unary("gelu", input, lambda xp, x: x * 0.5 * (1 + erf_values(xp, x * _ROOT_HALF)), _gelu_grad, "input")
    if approximate == "tanh":
        return unary("gelu", input, lambda xp, x: x * 0.5 * (1 + xp.tanh(_inner(x))), _gelu_tanh_grad, "input")
    raise ShapeError("gelu", "approximate", repr(approximate), '"none" or "tanh"')


_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _gelu_grad(dy, x):
    density = exp(x * x * -0.5) * (_ROOT_HALF / math.sqrt(math.pi))
    return dy * ((1 + erf(x * _ROOT_HALF)) * 0.5 + x * density)


def _inner(x):
    return _ROOT_TWO_OVER_PI * (x + _CUBIC * (x * x * x))


def _gelu_tanh_grad(dy, x):
    t = tanh(_inner(x))
    slope = (1 + x * x * (3 * _CUBIC)) * _ROOT_TWO_OVER_PI
    return dy * ((1 + t) * 0.5 + x * (1 - t * t) * slope * 0.5)


def _log_one_plus_exp(xp, x):
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@_documented("x * tanh(softplus(x))", _INPLACE)
def mish(input, inplace=False):
    def gradient(dy, x):
        t = tanh(softplus(x))
        return dy * (t + x * sigmoid(x) * (1 - t * t))

    return unary("mish", input, lambda xp, x: x * xp.tanh(_log_one_plus_exp(xp, x)), gradient, "input")


@_documented(
    "log(1 + exp(beta * x)) / beta, and x where beta * x > threshold",
    "\n        beta: Sharpness of the bend at 0, not 0.\n        threshold: Where it becomes the identity.",
)
def softplus(input, beta=1.0, threshold=20.0):  # fmt: skip
    beta, limit = _number("softplus", "beta", beta), _number("softplus", "threshold", threshold)
    if beta == 0:
        raise ShapeError("softplus", "beta", beta, "a number other than 0")

    def compute(xp, x):
        return xp.where(x * beta > limit, x, _log_one_plus_exp(xp, x * beta) / beta)

    def gradient(dy, x):
        identity = raw(x) * beta > limit
        return masked(dy, identity) + masked(dy * sigmoid(x * beta), ~identity)

    return unary("softplus", input, compute, gradient, "input")


@_documented("x / (1 + abs(x))")
def softsign(input):
    def gradient(dy, x):
        steep = 1 + abs(x)
        return dy / (steep * steep)

    return unary("softsign", input, lambda xp, x: x / (1 + xp.abs(x)), gradient, "input")


@_documented("min(max(x + 3, 0), 6) / 6", _INPLACE)
def hardsigmoid(input, inplace=False):
    def gradient(dy, x):
        return masked(dy / 6, (raw(x) > -3) & (raw(x) < 3))

    return unary("hardsigmoid", input, lambda xp, x: xp.minimum(xp.maximum(x + 3, 0), 6) / 6, gradient, "input")


@_documented("x * min(max(x + 3, 0), 6) / 6", _INPLACE)
def hardswish(input, inplace=False):
    def gradient(dy, x):
        left, right = raw(x) <= -3, raw(x) >= 3
        return masked(dy, right) + masked(dy * (x / 3 + 0.5), ~(left | right))

    return unary("hardswish", input, lambda xp, x: x * xp.minimum(xp.maximum(x + 3, 0), 6) / 6, gradient, "input")


@_documented("log(1 / (1 + exp(-x)))")
def logsigmoid(input):
    return unary("logsigmoid", input, lambda xp, x: -_log_one_plus_exp(xp, -x), lambda dy, x: dy * sigmoid(-x), "input")


_AXIS = """
        dim: The axis; None is 0 for 0, 1 or 3 axes and otherwise 1.
        dtype: Convert to this dtype first."""


def _along(name, input, dim, dtype):
    """input as floats, their array in the dtype that sums are kept in, the axis and the dtype of the result."""
    input = input if dtype is None else cast(input, dtype)
    x = floats(name, "input", input)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    axis = as_axis(name, "dim", dim, x.ndim)
    wide = x.astype(accumulator(x.dtype), copy=False)
    return input, (wide if x.ndim else wide.reshape(1)), axis, x.dtype.newbyteorder("=")


def _shifted(xp, x, axis):
    """x less its largest element along the axis, so that no exponential overflows."""
    return x - x.max(axis=axis, keepdims=True, initial=-math.inf)


@_documented("exp(x) over the sum of exp(x) along an axis", _AXIS)
def softmax(input, dim=None, dtype=None):
    input, x, axis, dtype = _along("softmax", input, dim, dtype)
    xp = namespace_of(x)
    with quiet():
        e = xp.exp(_shifted(xp, x, axis))
        e /= summed(e, (axis,), e.dtype, True)
    y = e.astype(dtype, copy=False).reshape(raw(input).shape)
    wide = x.dtype

    def input_grad(dy, y):
        dy, y = cast(dy, wide), cast(y, wide)
        return cast(y * (dy - (dy * y).sum(dim=axis, keepdim=True)), dtype)

    return record("softmax", y, (input,), lambda dy, y: (lambda: input_grad(dy, y),), saves_output=True)


@_documented("The logarithm of softmax, computed without overflow", _AXIS)
def log_softmax(input, dim=None, dtype=None):
    input, x, axis, dtype = _along("log_softmax", input, dim, dtype)
    xp = namespace_of(x)
    with quiet():
        d = _shifted(xp, x, axis)
        d -= xp.log(summed(xp.exp(d), (axis,), d.dtype, True))
    y = d.astype(dtype, copy=False).reshape(raw(input).shape)
    wide = x.dtype

    def input_grad(dy, y):
        dy, y = cast(dy, wide), cast(y, wide)
        return cast(dy - exp(y) * dy.sum(dim=axis, keepdim=True), dtype)

    return record("log_softmax", y, (input,), lambda dy, y: (lambda: input_grad(dy, y),), saves_output=True)
