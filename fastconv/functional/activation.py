"""Activation functions, as in torch.nn.functional.

Most are compositions of elementwise functions; ReLU, on which every network spends its time, is one pass forward
and one pass back, and its rule reads only the result. `inplace` is accepted because models say it everywhere, and
changes nothing: arrays are values here, and no argument is ever written.
"""

import math

import numpy

from fastconv.arrays import HALVES, describe, namespace_of
from fastconv.autograd import Tensor, is_float, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import (
    _quiet, _unary, add, cast, check_real, clamp, div, exp, expm1, log1p, mul, neg, sigmoid, sub, tanh, where,
)  # fmt: skip
from fastconv.functional.reduction import axes_of, sum
from fastconv.functional.special import erf

_DOC = """{summary}, as torch.nn.functional.{name}.

    Args:
        input: Tensor or array of floats, any shape.{parameters}

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array of a floating dtype.

    Source: {source}.
    """
_INPLACE = "\n        inplace: Accepted and without effect: results are always new arrays."
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _documented(summary, source, parameters=""):
    def decorate(function):
        function.__doc__ = _DOC.format(name=function.__name__, summary=summary, source=source, parameters=parameters)
        return function

    return decorate


def _check(operator, input):
    x = check_real(operator, "input", input)
    if not is_float(x):
        raise DTypeError(operator, "input", x.dtype.name, "a floating dtype", "convert it first")
    return x


@_documented("max(0, x); NaN stays", "Nair & Hinton, ICML 2010", _INPLACE)
def relu(input, inplace=False):
    x = _check("relu", input)
    y = namespace_of(x).maximum(x, x.dtype.type(0))

    def rule(dy, y):
        return (lambda: mul(dy, Tensor((raw(y) > 0).astype(dy.dtype))),)

    return record("relu", y, (input,), rule, saves_output=True)


@_documented("min(max(0, x), 6)", "Howard et al., arXiv:1704.04861", _INPLACE)
def relu6(input, inplace=False):
    return hardtanh(input, 0.0, 6.0)


@_documented(
    "x limited to [min_val, max_val]", "Collobert, 2004",
    "\n        min_val, max_val: The limits." + _INPLACE,
)  # fmt: skip
def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    x = _check("hardtanh", input)
    if min_val > max_val:
        raise ShapeError("hardtanh", "min_val", min_val, f"at most max_val, {max_val}")
    y = namespace_of(x).clip(x, min_val, max_val)

    def rule(dy, _):
        x = raw(input)
        return (lambda: mul(dy, Tensor(((x > min_val) & (x < max_val)).astype(dy.dtype))),)

    return record("hardtanh", y, (input,), rule, saves=(input,))


@_documented(
    "x where x > 0, negative_slope * x elsewhere", "Maas et al., ICML 2013",
    "\n        negative_slope: Slope below 0." + _INPLACE,
)  # fmt: skip
def leaky_relu(input, negative_slope=0.01, inplace=False):
    x = _check("leaky_relu", input)
    y = namespace_of(x).where(x > 0, x, x * negative_slope)

    def rule(dy, _):
        return (lambda: where(raw(input) > 0, dy, mul(dy, negative_slope)),)

    return record("leaky_relu", y, (input,), rule, saves=(input,))


def _exponential_unit(input, positive, negative, scale):
    """positive * x above 0, negative * (exp(x * scale) - 1) elsewhere; the exponent is clamped so that neither side overflows."""
    above = raw(input) > 0
    below = mul(expm1(mul(where(above, 0.0, input), scale)), negative)
    return where(above, mul(input, positive) if positive != 1 else input, below)


@_documented(
    "x where x > 0, alpha * (exp(x) - 1) elsewhere", "Clevert et al., arXiv:1511.07289",
    "\n        alpha: Minus the limit for small x." + _INPLACE,
)  # fmt: skip
def elu(input, alpha=1.0, inplace=False):
    _check("elu", input)
    return _exponential_unit(input, 1, alpha, 1)


@_documented("ELU, scaled so that means and variances keep", "Klambauer et al., arXiv:1706.02515", _INPLACE)
def selu(input, inplace=False):
    _check("selu", input)
    return _exponential_unit(input, _SELU_SCALE, _SELU_SCALE * _SELU_ALPHA, 1)


@_documented(
    "x where x > 0, alpha * (exp(x / alpha) - 1) elsewhere", "Barron, arXiv:1704.07483",
    "\n        alpha: Minus the limit for small x, not 0." + _INPLACE,
)  # fmt: skip
def celu(input, alpha=1.0, inplace=False):
    _check("celu", input)
    if alpha == 0:
        raise ShapeError("celu", "alpha", alpha, "a number other than 0")
    return _exponential_unit(input, 1, alpha, 1 / alpha)


@_documented("x * sigmoid(x)", "Elfwing et al., arXiv:1702.03118", _INPLACE)
def silu(input, inplace=False):
    _check("silu", input)
    return mul(input, sigmoid(input))


@_documented("x * tanh(softplus(x))", "Misra, arXiv:1908.08681", _INPLACE)
def mish(input, inplace=False):
    _check("mish", input)
    return mul(input, tanh(softplus(input)))


@_documented(
    "x * Phi(x), Phi the normal distribution function", "Hendrycks & Gimpel, arXiv:1606.08415",
    '\n        approximate: "none", or "tanh" for the approximation of the paper.',
)  # fmt: skip
def gelu(input, approximate="none"):
    _check("gelu", input)
    if approximate == "none":
        return mul(mul(input, 0.5), add(erf(mul(input, math.sqrt(0.5))), 1))
    if approximate != "tanh":
        raise ShapeError("gelu", "approximate", repr(approximate), '"none" or "tanh"')
    inner = mul(add(input, mul(mul(mul(input, input), input), 0.044715)), math.sqrt(2 / math.pi))
    return mul(mul(input, 0.5), add(tanh(inner), 1))


@_documented(
    "log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold", "Dugas et al., NIPS 2000",
    "\n        beta: Sharpness, not 0.\n        threshold: Where the function becomes x.",
)  # fmt: skip
def softplus(input, beta=1.0, threshold=20.0):
    _check("softplus", input)
    if beta == 0:
        raise ShapeError("softplus", "beta", beta, "a number other than 0")
    straight = raw(input) * beta > threshold
    # The curve is computed at 0 where it is not used, so that its exponential does not overflow there.
    curve = div(log1p(exp(mul(where(straight, 0.0, input), beta))), beta)
    return where(straight, input, curve)


@_documented("x / (1 + abs(x))", "Turian et al., IJCNN 2009")
def softsign(input):
    from fastconv.functional.elementwise import abs

    _check("softsign", input)
    return div(input, add(abs(input), 1))


@_documented("min(max(0, x + 3), 6) / 6", "Howard et al., arXiv:1905.02244", _INPLACE)
def hardsigmoid(input, inplace=False):
    _check("hardsigmoid", input)
    return div(relu6(add(input, 3)), 6)


@_documented("x * hardsigmoid(x)", "Howard et al., arXiv:1905.02244", _INPLACE)
def hardswish(input, inplace=False):
    _check("hardswish", input)
    return mul(input, hardsigmoid(input))


@_documented("log(sigmoid(x)) without overflow", "Bridle, 1990")
def logsigmoid(input):
    _check("logsigmoid", input)
    return neg(softplus(neg(input)))


@_documented(
    "x where x > threshold, value elsewhere", "McCulloch & Pitts, 1943",
    "\n        threshold: The limit.\n        value: What stands at and below it." + _INPLACE,
)  # fmt: skip
def threshold(input, threshold, value, inplace=False):
    x = _check("threshold", input)
    return where(~(x <= threshold), input, value)


_SOFTMAX_PARAMETERS = "\n        dim: The axis that sums to one.\n        dtype: Convert to this dtype first, or None."


def _softmax_axis(operator, input, dim):
    x = _check(operator, input)
    if dim is None:
        raise DTypeError(operator, "dim", "None", "an axis")
    return axes_of(operator, x.ndim, (dim,))


@_documented("exp(x) / sum(exp(x)) along an axis, without overflow", "Bridle, 1990", _SOFTMAX_PARAMETERS)
def softmax(input, dim=None, dtype=None):
    input = input if dtype is None else cast(input, dtype)
    axes = _softmax_axis("softmax", input, dim)
    x = _wide(raw(input))
    with numpy.errstate(invalid="ignore", under="ignore"):
        e = namespace_of(x).exp(x - x.max(axis=axes, keepdims=True, initial=-math.inf))
        y = (e / e.sum(axis=axes, keepdims=True)).astype(raw(input).dtype)

    def rule(dy, y):
        return (lambda: mul(y, sub(dy, sum(mul(dy, y), axes, keepdim=True))),)

    return record("softmax", y, (input,), rule, saves_output=True)


@_documented("log(softmax(x)) along an axis, without overflow", "Bridle, 1990", _SOFTMAX_PARAMETERS)
def log_softmax(input, dim=None, dtype=None):
    input = input if dtype is None else cast(input, dtype)
    axes = _softmax_axis("log_softmax", input, dim)
    x = _wide(raw(input))
    xp = namespace_of(x)
    with numpy.errstate(invalid="ignore", under="ignore", divide="ignore"):
        shifted = x - x.max(axis=axes, keepdims=True, initial=-math.inf)
        y = (shifted - xp.log(xp.exp(shifted).sum(axis=axes, keepdims=True))).astype(raw(input).dtype)

    def rule(dy, y):
        return (lambda: sub(dy, mul(exp(y), sum(dy, axes, keepdim=True))),)

    return record("log_softmax", y, (input,), rule, saves_output=True)


def _wide(x):
    """Halves as float32, in which sums of exponentials are taken."""
    return x.astype("float32") if x.dtype.name in HALVES else x
