"""Activation functions, as in torch.nn.functional.

A rule reads the result rather than the input where it can, so that the input is let go of. `inplace` is accepted
because models written for PyTorch say it everywhere, and changes nothing: arrays are values here, and no operator
writes to its input.
"""

import functools
import math

import numpy

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, describe, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.elementwise import CUBIC, ROOT_TWO_OVER_PI
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, clamp, exp, fused, masked, mul, sigmoid, tanh
from fastconv.functional.indexing import cat, chunk
from fastconv.functional.operands import accumulator, array, as_axis, is_number, number, quiet, wrapped
from fastconv.functional.shape import reshape
from fastconv.functional.special import erf
from fastconv.random import Generator, default_generator

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: Tensor or array of any shape, {dtype}.{args}

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An argument is out of range.
        DTypeError: input is no array, or another argument of a wrong type.
    """
_WHOLE = "of numbers; integers stay integers"
_AS_FLOATS = "of numbers; integers are taken as float32"
_INPLACE = "\n        inplace: Accepted and without effect; input is never written to."


def _documented(what, args="", dtype="of floats"):
    def decorate(function):
        function.__doc__ = _DOC.format(what=what, name=function.__name__, args=args, dtype=dtype)
        return function

    return decorate


def _floats(name, input):
    """The plain array of an operand that has to be floating: PyTorch defines no more."""
    x = array(name, "input", input)
    check_float(name, "input", x)
    return x


def _fused(name, function, input, gradient, *parameters):
    _floats(name, input)
    return fused(name, function, input, gradient, *parameters)


def _numbers(name, input):
    """The plain array of an operand that may be of integers, but not of bools."""
    x = array(name, "input", input)
    if x.dtype.kind == "b":
        raise DTypeError(name, "input", "bool", "numbers", "convert it first")
    return x


def _number(name, argument, value):
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    return number(value)


@_documented("max(x, 0), NaN for NaN", _INPLACE, _WHOLE)
def relu(input, inplace=False):
    x = _numbers("relu", input)
    if x.dtype.kind in "iu":
        return wrapped(namespace_of(x).maximum(x, x.dtype.type(0)), input)
    return fused("relu", "relu", input, lambda dy, y: masked(dy, ~(raw(y) <= 0)))


@_documented("min(max(x, 0), 6)", _INPLACE, _WHOLE)
def relu6(input, inplace=False):
    return _limited("relu6", input, 0.0, 6.0)


@_documented(
    "min(max(x, min_val), max_val)",
    "\n        min_val, max_val: The limits; cut to integers beside integers." + _INPLACE,
    _WHOLE,
)
def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    low, high = _number("hardtanh", "min_val", min_val), _number("hardtanh", "max_val", max_val)
    if low > high:
        raise ShapeError("hardtanh", "min_val", low, f"at most max_val, {high}")
    return _limited("hardtanh", input, low, high)


def _rounded(x, *numbers):
    """Numbers of the dtype of x, so that what is compared with an element is what an element can be."""
    with quiet():
        return tuple(float(x.dtype.type(number)) for number in numbers)


def _whole(name, x, **numbers):
    """Numbers cut to integers of the dtype of x, by argument."""
    cut = []
    for argument, value in numbers.items():
        limits = numpy.iinfo(x.dtype)
        if not limits.min <= value < limits.max + 1:
            raise DTypeError(name, argument, value, f"a number that {x.dtype.name} holds")
        cut.append(x.dtype.type(math.trunc(value)))
    return cut


def _limited(name, input, low, high):
    x = _numbers(name, input)
    if x.dtype.kind in "iu":
        low, high = _whole(name, x, min_val=low, max_val=high)
        return wrapped(namespace_of(x).clip(x, low, high), input)
    low, high = _rounded(x, low, high)

    def gradient(dy, y):
        return masked(dy, ~((raw(y) <= low) | (raw(y) >= high)))

    return fused(name, "hardtanh", input, gradient, low, high)


@_documented(
    "x where x > threshold, otherwise value; NaN for NaN",
    "\n        threshold: What x is compared with.\n        value: What takes its place." + _INPLACE,
    _WHOLE,
)
def threshold(input, threshold, value, inplace=False):
    limit, value = _number("threshold", "threshold", threshold), _number("threshold", "value", value)
    x = _numbers("threshold", input)
    if x.dtype.kind in "iu":
        limit, value = _whole("threshold", x, threshold=limit, value=value)
        return wrapped(namespace_of(x).where(x > limit, x, value), input)
    limit, value = _rounded(x, limit, value)
    return fused("threshold", "threshold", input, lambda dy, x: masked(dy, ~(raw(x) <= limit)), limit, value)


@_documented("x where x > 0, otherwise negative_slope * x",
             "\n        negative_slope: Slope on the left of 0." + _INPLACE)  # fmt: skip
def leaky_relu(input, negative_slope=0.01, inplace=False):
    slope = _number("leaky_relu", "negative_slope", negative_slope)

    def gradient(dy, x):
        right = raw(x) > 0
        return masked(dy, right) + masked(dy * slope, ~right)

    return _fused("leaky_relu", "leaky_relu", input, gradient, slope)


@_documented(
    "x where x > 0, otherwise a slope times x that is drawn for each element when training",
    "\n        lower, upper: Limits of the slope; their mean when not training.\n        training: Whether to draw."
    + _INPLACE
    + "\n        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.",
)
def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False, generator=None):
    lower, upper = _number("rrelu", "lower", lower), _number("rrelu", "upper", upper)
    if not lower <= upper:
        raise ShapeError("rrelu", "lower", lower, f"at most upper, {upper}")
    generator = default_generator if generator is None else generator
    if not isinstance(generator, Generator):
        raise DTypeError("rrelu", "generator", describe(generator), "a fastconv.Generator or None")
    x = _floats("rrelu", input)
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    xp, dtype = namespace_of(x), x.dtype.newbyteorder("=")
    slopes = xp.asarray(generator.numpy.uniform(lower, upper, x.shape)).astype(dtype)
    return mul(cast(input, dtype), xp.where(x <= 0, slopes, dtype.type(1)).astype(dtype, copy=False))


@_documented(
    "x where x > 0, otherwise weight * x",
    "\n        weight: One slope for all elements, or [C] for the channels of [N, C, ...]; dtype of input.",
)
def prelu(input, weight):
    x, w = array("prelu", "input", input), array("prelu", "weight", weight)
    check_float("prelu", "input", x)
    check_same_dtype("prelu", "weight", w, "input", x)
    if w.ndim > 1:
        raise ShapeError("prelu", "weight", list(w.shape), "no axes or one")
    if w.size != 1:
        channels = x.shape[1] if x.ndim > 1 else 1
        if x.ndim == 0 or w.size != channels:
            raise ShapeError("prelu", "weight", list(w.shape), f"1 element or {channels}, one a channel of input")
    y = backend.of(x, w).prelu_forward(x, w)

    def rule(dy, _):
        if is_grad_enabled():
            return _prelu_grads(dy, input, weight)

        @functools.cache
        def both():
            return backend.of(raw(dy), x, w).prelu_grad(raw(dy), x, w)

        return lambda: Tensor(both()[0]), lambda: Tensor(both()[1])

    return record("prelu", y, (input, weight), rule, (input, weight))


def _prelu_grads(dy, x, w):
    """Thunks for dx and dw, of functions that have gradients."""
    right, dtype, wide = raw(x) > 0, dy.dtype, accumulator(dy.dtype)
    w_shape, ndim = raw(w).shape, dy.ndim
    dy, x = cast(dy, wide), cast(x, wide)
    one = raw(w).size == 1
    axes = tuple(range(ndim)) if one else tuple(i for i in range(ndim) if i != 1)

    def input_grad():
        slopes = reshape(cast(w, wide), *(() if one else (-1, *(1,) * (ndim - 2))))
        return cast(masked(dy, right) + masked(mul(dy, slopes), ~right), dtype)

    def weight_grad():
        products = mul(masked(dy, ~right), x)
        return cast(reshape(products.sum(dim=axes) if axes else products, *w_shape), dtype)

    return input_grad, weight_grad


def _exponential(name, input, alpha, scale, steepness):
    """scale * x where x > 0, otherwise scale * alpha * (exp(steepness * x) - 1)."""

    def gradient(dy, x):
        left = raw(x) <= 0
        below = masked(dy * (exp(clamp(x, max=0.0) * steepness) * (alpha * steepness)), left)
        return (masked(dy, ~left) + below) * scale

    return _fused(name, "elu", input, gradient, alpha, scale, steepness)


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

    return _fused("silu", "silu", input, gradient)


@_documented("x * Phi(x), Phi the distribution function of the standard normal",
             '\n        approximate: "none", or "tanh" for Phi approximated by tanh, of arXiv:1606.08415.')  # fmt: skip
def gelu(input, approximate="none"):
    if approximate == "none":
        return _fused("gelu", "gelu", input, _gelu_grad)
    if approximate == "tanh":
        return _fused("gelu", "gelu_tanh", input, _gelu_tanh_grad)
    raise ShapeError("gelu", "approximate", repr(approximate), '"none" or "tanh"')


def _gelu_grad(dy, x):
    density = exp(x * x * -0.5) * (math.sqrt(0.5) / math.sqrt(math.pi))
    return dy * ((1 + erf(x * math.sqrt(0.5))) * 0.5 + x * density)


def _gelu_tanh_grad(dy, x):
    t = tanh((x + CUBIC * (x * x * x)) * ROOT_TWO_OVER_PI)
    slope = (1 + x * x * (3 * CUBIC)) * ROOT_TWO_OVER_PI
    return dy * ((1 + t) * 0.5 + x * (1 - t * t) * slope * 0.5)


@_documented("x * tanh(softplus(x))", _INPLACE)
def mish(input, inplace=False):
    def gradient(dy, x):
        t = tanh(softplus(x))
        return dy * (t + x * sigmoid(x) * (1 - t * t))

    return _fused("mish", "mish", input, gradient)


@_documented(
    "log(1 + exp(beta * x)) / beta, and x where beta * x > threshold",
    "\n        beta: Sharpness of the bend at 0, not 0.\n        threshold: Where it becomes the identity.",
)
def softplus(input, beta=1.0, threshold=20.0):  # fmt: skip
    beta, limit = _number("softplus", "beta", beta), _number("softplus", "threshold", threshold)
    if beta == 0:
        raise ShapeError("softplus", "beta", beta, "a number other than 0")

    def gradient(dy, x):
        identity = raw(x) * beta > limit
        return masked(dy, identity) + masked(dy * sigmoid(x * beta), ~identity)

    return _fused("softplus", "softplus", input, gradient, beta, limit)


@_documented("x / (1 + abs(x))", dtype=_AS_FLOATS)
def softsign(input):
    _numbers("softsign", input)

    def gradient(dy, x):
        steep = 1 + abs(x)
        return dy / (steep * steep)

    return fused("softsign", "softsign", input, gradient)


@_documented("min(max(x + 3, 0), 6) / 6", _INPLACE)
def hardsigmoid(input, inplace=False):
    def gradient(dy, x):
        return masked(dy / 6, (raw(x) > -3) & (raw(x) < 3))

    return _fused("hardsigmoid", "hardsigmoid", input, gradient)


@_documented("x * min(max(x + 3, 0), 6) / 6", _INPLACE)
def hardswish(input, inplace=False):
    def gradient(dy, x):
        left, bent = raw(x) <= -3, raw(x) < 3
        return masked(dy, ~bent) + masked(dy * (x / 3 + 0.5), bent & ~left)

    return _fused("hardswish", "hardswish", input, gradient)


@_documented("log(1 / (1 + exp(-x)))")
def logsigmoid(input):
    return _fused("logsigmoid", "logsigmoid", input, lambda dy, x: dy * sigmoid(-x))


@_documented("x - tanh(x)", dtype=_AS_FLOATS)
def tanhshrink(input):
    _numbers("tanhshrink", input)

    def gradient(dy, x):
        t = tanh(x)
        return dy * (t * t)

    return fused("tanhshrink", "tanhshrink", input, gradient)


@_documented("x nearer to 0 by lambd, and 0 where that would pass it",
             "\n        lambd: By how much, at least 0.")  # fmt: skip
def softshrink(input, lambd=0.5):
    bound = _number("softshrink", "lambd", lambd)
    if not bound >= 0:
        raise ShapeError("softshrink", "lambd", bound, "at least 0")
    return _shrunk("softshrink", input, bound)


@_documented("x where it is beyond -lambd to lambd, otherwise 0", "\n        lambd: The limit.")
def hardshrink(input, lambd=0.5):
    return _shrunk("hardshrink", input, _number("hardshrink", "lambd", lambd))


def _shrunk(name, input, bound):
    (bound,) = _rounded(_floats(name, input), bound)

    def gradient(dy, x):
        return masked(dy, ~((raw(x) >= -bound) & (raw(x) <= bound)))

    return _fused(name, name, input, gradient, bound)


@_documented("The first half of an axis times sigmoid of the second",
             "\n        dim: The axis, of an even size.")  # fmt: skip
def glu(input, dim=-1):
    x = _floats("glu", input)
    axis = as_axis("glu", "dim", dim, x.ndim)
    if x.ndim == 0 or x.shape[axis] % 2:
        raise ShapeError("glu", "input", list(x.shape), f"an even size on axis {axis}")
    y = backend.of(x).glu_forward(x, axis)

    def rule(dy, _):
        if is_grad_enabled():
            return (lambda: _glu_grad(dy, input, axis),)
        served_by = backend.of(raw(dy), x)
        return (lambda: Tensor(served_by.glu_input_grad(raw(dy), x, axis)),)

    return record("glu", y, (input,), rule, (input,))


def _glu_grad(dy, x, axis):
    """The gradient by functions that have gradients."""
    dtype, wide = dy.dtype, accumulator(dy.dtype)
    dy = cast(dy, wide)
    a, b = chunk(cast(x, wide), 2, dim=axis)
    s = sigmoid(b)
    return cast(cat([dy * s, dy * a * (s * (1 - s))], dim=axis), dtype)
