"""Losses of pairs of numbers, as in torch.nn.functional: computed in float32 for halves, and rounded once.

A backend computes and sums them in one pass. Every gradient is written a second time with differentiable functions,
for those that are to have gradients themselves.
"""

import math

from fastconv import backend
from fastconv.arrays import describe, is_cupy, namespace_of
from fastconv.autograd import raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import logsigmoid
from fastconv.functional.elementwise import (
    abs,
    cast,
    clamp,
    div,
    exp,
    log,
    log1p,
    masked,
    mul,
    sigmoid,
    sign,
    square,
    sub,
)
from fastconv.functional.loss_parts import (
    OLD,
    as_given,
    bound,
    brought_together,
    documented,
    factor,
    finish,
    floating,
    is_nan_somewhere,
    pair,
    pointwise,
    same_shape,
    undifferentiated,
    warn,
    wide,
)
from fastconv.functional.operands import FLOAT, REDUCTIONS, array, as_reduction, is_number, result_dtype
from fastconv.functional.reduction import sum
from fastconv.functional.shape import unsqueeze

_WEIGHT = "\n        weight: Factor of each loss, of the shape of input; or None."
_MEAN_OF = " With a weight the mean is divided by its sum."
_SQUARE = (lambda dy, a, b: dy * ((a - b) * 2), lambda dy, a, b: dy * ((b - a) * 2))
_ABSOLUTE = (lambda dy, a, b: dy * sign(a - b), lambda dy, a, b: dy * sign(b - a))


def _weighted(name, losses, input, weight, reduction, divide):
    """Losses times a weight, brought together; the mean divided by the sum of the weights, or by their number."""
    w = array(name, "weight", weight)
    if w.shape != raw(input).shape:
        raise ShapeError(name, "weight", list(w.shape), f"{list(raw(input).shape)}, the shape of input")
    losses = mul(losses, weight)
    if reduction == "mean" and divide:
        return div(sum(losses), sum(weight))
    return brought_together(losses, reduction)


@documented("The squared difference", more=_WEIGHT + _MEAN_OF)
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    reduction = as_reduction("mse_loss", reduction, size_average, reduce)
    if weight is not None:
        _refuse_bools("mse_loss", input, target)
    x, t = pair("mse_loss", input, target)
    y = pointwise("mse_loss", "square", x, t, _SQUARE, reduction if weight is None else "none")
    return y if weight is None else _weighted("mse_loss", y, input, weight, reduction, True)


@documented("The absolute difference; of integers in integers, without a mean", more=_WEIGHT + _MEAN_OF)
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    reduction = as_reduction("l1_loss", reduction, size_average, reduce)
    return _absolute("l1_loss", input, target, reduction, weight)


def _absolute(name, input, target, reduction, weight=None):
    kinds = _refuse_bools(name, input, target)
    if all(kind in "iu" for kind in kinds):
        y = abs(sub(input, target))
        if reduction == "mean" and weight is None:
            raise DTypeError(name, "input", "integers", "a floating dtype for a mean")
    else:
        x, t = pair(name, input, target)
        y = pointwise(name, "absolute", x, t, _ABSOLUTE, reduction if weight is None else "none")
        if weight is None:
            return y
    return brought_together(y, reduction) if weight is None else _weighted(name, y, input, weight, reduction, True)


def _refuse_bools(name, input, target):
    """The kinds of both dtypes, neither of which is bool: those have no difference."""
    kinds = [array(name, argument, v).dtype.kind for argument, v in (("input", input), ("target", target))]
    if "b" in kinds:
        raise DTypeError(name, "input" if kinds[0] == "b" else "target", "bool", "numbers", "convert it first")
    return kinds


@documented("d * d / (2 * beta) where d = abs(input - target) is less than beta, otherwise d - beta / 2",
            refused="beta is negative ", more="\n        beta: Where the two meet; 0 gives l1_loss.")  # fmt: skip
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    name, reduction = "smooth_l1_loss", as_reduction("smooth_l1_loss", reduction, size_average, reduce)
    beta = bound(name, "beta", beta, True)
    if beta == 0:
        return _absolute(name, input, target, reduction)
    x, t = pair(name, input, target)
    slopes = (
        lambda dy, a, b: dy * clamp((a - b) * (1 / beta), -1.0, 1.0),
        lambda dy, a, b: dy * clamp((b - a) * (1 / beta), -1.0, 1.0),
    )
    return pointwise(name, "smooth_l1", x, t, slopes, reduction, beta)


@documented("d * d / 2 where d = abs(input - target) is at most delta, otherwise delta * (d - delta / 2)", "",
            "delta is not positive ", "\n        delta: Where the two meet, more than 0." + _WEIGHT,
            dtype="dtype of input")  # fmt: skip
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    name, reduction = "huber_loss", as_reduction("huber_loss", reduction)
    delta = bound(name, "delta", delta, False)
    dtype = floating(name, "input", input).dtype.newbyteorder("=")
    refusal = _refusal_of_gradient(name, input, target)
    x, t = pair(name, input, target)
    slopes = (
        lambda dy, a, b: dy * clamp(a - b, -delta, delta),
        lambda dy, a, b: dy * clamp(b - a, -delta, delta),
    )
    y = pointwise(
        name, "huber", x, t, slopes, reduction if weight is None else "none", delta, dtype=dtype, refusal=refusal
    )
    return y if weight is None else _weighted(name, y, input, weight, reduction, False)


def _refusal_of_gradient(name, input, target):
    """The error of asking operands of two dtypes for a gradient, for which PyTorch has none; None for one dtype."""
    x, t = raw(input), array(name, "target", target)
    if x.dtype.name == t.dtype.name:
        return None
    return DTypeError(name, "target", t.dtype.name, f"{x.dtype.name}, the dtype of input, for a gradient")


_FACTOR = "\n        weight: Factor of each loss, broadcast to the shape of input; or None. It has no gradient."
_LEAST = 1e-12  # least product of a probability and its complement that a gradient divides by


@documented("Binary cross-entropy of probabilities, whose logarithms are at least -100", _FACTOR + OLD,
            "on the CPU a probability is not in 0 to 1, ", input="Probabilities, of any shape",
            target="The same shape and dtype", dtype="dtype of input")  # fmt: skip
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    name = "binary_cross_entropy"
    reduction = as_reduction(name, reduction, size_average, reduce)
    x = floating(name, "input", input)
    t = floating(name, "target", target, x)
    backend.of(x, t)
    same_shape(name, input, target)
    w, dtype = factor(name, "weight", weight, x), x.dtype.newbyteorder("=")
    slopes = (
        lambda dy, a, b: _entropy_slope(dy, a, b),
        lambda dy, a, b: dy * (log1p(-a) - log(a)),
    )
    if w is None:
        y = pointwise(name, "entropy", input, target, slopes, reduction)
    else:
        losses = pointwise(name, "entropy", wide(input, dtype), wide(target, dtype), slopes, "none")
        y = finish(losses * cast(w, losses.dtype), reduction, dtype, input, target, weight)
    if is_nan_somewhere(y):  # as is every loss of what is no probability; on a GPU this is what tells
        for argument, v in (("input", x), ("target", t)):
            outside = v[~((v >= 0) & (v <= 1))]
            if outside.size and (argument == "input" or not math.isnan(float(outside.ravel()[0]))):
                raise ShapeError(name, argument, float(outside.ravel()[0]), "probabilities, 0 to 1")
    return as_given(y, input, target, weight)


def _entropy_slope(dy, x, t):
    """dy * (x - t) / (x (1 - x)), whose gradients add a little where it limits its denominator, as in PyTorch."""
    a, b, d = raw(x), raw(t), raw(dy)
    xp = namespace_of(a)
    y = xp.asarray(d * ((a - b) / xp.maximum((1 - a) * a, _LEAST)))

    def rule(g, _):
        near, far = x + _LEAST, 1 - x + _LEAST
        return (
            lambda: _of_shape(g * (x - t) / (near * far), dy),
            lambda: g * dy * (x * x - 2 * x * t + t) / square(near * far),
            lambda: -g * dy / ((1 - x) * x),
        )

    return record("binary_cross_entropy", y, (dy, x, t), rule, (dy, x, t))


def _of_shape(gradient, dy):
    """The gradient of dy, which was broadcast if it has no axes."""
    return sum(gradient) if raw(dy).ndim == 0 else gradient


@documented("Binary cross-entropy of unnormalised scores, without overflow", _FACTOR + OLD,
            more="\n        pos_weight: Factor of target, broadcast to the shape of input; or None; without gradient.",
            input="Scores, of any shape", target="Probabilities, of the shape of input",
            dtype="dtype of target")  # fmt: skip
def binary_cross_entropy_with_logits(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None
):
    name = "binary_cross_entropy_with_logits"
    reduction = as_reduction(name, reduction, size_average, reduce)
    x, dtype = floating(name, "input", input), floating(name, "target", target).dtype.newbyteorder("=")
    same_shape(name, input, target)
    w, p = factor(name, "weight", weight, x), factor(name, "pos_weight", pos_weight, x)
    x, t = pair(name, input, target)
    slopes = lambda dy, a, b: dy * (sigmoid(a) - b), lambda dy, a, b: -dy * a
    if w is None and p is None:
        y = pointwise(name, "entropy_of_logits", x, t, slopes, reduction, dtype=dtype)
        return as_given(y, input, target)
    x, t = wide(x, raw(x).dtype), wide(t, raw(t).dtype)
    if p is None:
        losses = pointwise(name, "entropy_of_logits", x, t, slopes, "none")
    else:
        losses = (1 - t) * x - ((cast(p, t.dtype) - 1) * t + 1) * logsigmoid(x)
    if w is not None:
        losses = losses * cast(w, losses.dtype)
    return finish(losses, reduction, dtype, input, target, weight, pos_weight)


@documented("The Kullback-Leibler divergence of log-probabilities from probabilities",
            input="Log-probabilities, of any shape",
            target="Probabilities, of a shape that broadcasts with it; with log_target their logarithms",
            reductions='"mean", "batchmean", "sum" or "none"; "batchmean" is '
            "the sum\n            over the first size of input",
            more="\n        log_target: Whether target holds log-probabilities too.")  # fmt: skip
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    if reduction == "mean" and size_average is None and reduce is None:
        warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' "
             "divides only by the batch size, and aligns with the KL div math definition.", 4)  # fmt: skip
    reduction = as_reduction("kl_div", reduction, size_average, reduce, (*REDUCTIONS, "batchmean"))
    x = floating("kl_div", "input", input)
    floating("kl_div", "target", target)
    a, b = pair("kl_div", input, target, warns=False)
    how = "sum" if reduction == "batchmean" else reduction
    if log_target:
        slopes = lambda dy, a, b: -dy * exp(b), lambda dy, a, b: dy * (exp(b) * (b - a + 1))
        y = pointwise("kl_div", "divergence_of_logs", a, b, slopes, how)
    else:
        slopes = lambda dy, a, b: -dy * b, lambda dy, a, b: dy * (_log_or_zero(b) + b / b - a)
        y = pointwise("kl_div", "divergence", a, b, slopes, how)
    return div(y, x.shape[0]) if reduction == "batchmean" and x.ndim else y


def _log_or_zero(b):
    """log(b), 0 where b is 0."""
    return masked(log(b), raw(b) != 0)


@documented("The negative log-likelihood of counts under Poisson distributions",
            "\n        log_input: Whether input holds the logarithms of the expectations."
            "\n        full: Whether to add Stirling's approximation of the logarithm of target's factorial."
            "\n        size_average, reduce: The older spelling of reduction, which decides where one of them is given."
            "\n        eps: Added to the expectations before their logarithm is taken, unless log_input.",
            input="Expectations or their logarithms, of any shape", dtype="the dtype that both combine to, float32 for "
            "two of integers")  # fmt: skip
def poisson_nll_loss(
    input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"
):
    name = "poisson_nll_loss"
    reduction = as_reduction(name, reduction, size_average, reduce)
    if not is_number(eps):
        raise DTypeError(name, "eps", describe(eps), "a number")
    kind = array(name, "input", input).dtype.kind
    if kind == "b" and not log_input:
        raise DTypeError(name, "input", "bool", "numbers", "convert it first")
    if kind in "biu":  # whose exponential or logarithm is of float32
        input = cast(input, FLOAT)
    x, t = pair(name, input, target, warns=False)
    if log_input:
        function, parameters = "poisson_of_logs", ()
        slopes = lambda dy, a, b: dy * (exp(a) - b), lambda dy, a, b: -dy * a
    else:
        function, parameters = "poisson", (float(eps),)
        slopes = lambda dy, a, b: dy * (1 - b / (a + eps)), lambda dy, a, b: -dy * log(a + eps)
    if not full:
        return pointwise(name, function, x, t, slopes, reduction, *parameters)
    dtype = raw(x).dtype
    losses = pointwise(name, function, wide(x, dtype), wide(t, dtype), slopes, "none", *parameters)
    t = wide(target, raw(target).dtype)  # integers in float32, whatever input is
    stirling = masked(t * log(t) - t + log(t * (2 * math.pi)) * 0.5, t.data > 1)
    losses = losses + stirling
    return finish(losses, reduction, dtype, input, target)


@documented("The negative log-likelihood under normal distributions",
            "\n        var: Variances, of the shape of input, or with one size of 1, or without the last axis, or a "
            "float."
            "\n        full: Whether to add log(2 pi) / 2."
            "\n        eps: Least variance; the gradient passes it unchanged.", "on the CPU a variance is negative, ",
            input="Means, of any shape", dtype="the dtype that all combine to")  # fmt: skip
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    name = "gaussian_nll_loss"
    reduction, x, t = as_reduction(name, reduction), array(name, "input", input), array(name, "target", target)
    if not is_number(eps):
        raise DTypeError(name, "eps", describe(eps), "a number")
    for argument, v in (("input", x), ("target", t)):
        if v.dtype.kind == "b":
            raise DTypeError(name, argument, "bool", "numbers", "convert it first")
    if isinstance(var, float):
        v = namespace_of(x).full(x.shape, var, floating(name, "input", input).dtype)
        backend.of(x, t, v)
        spread = v
    else:
        v = floating(name, "var", var)
        backend.of(x, t, v)
        spread = _variances(name, x, v, var)
    negative = var < 0 if isinstance(var, float) else not is_cupy(v) and bool((v < 0).any())
    if negative:
        raise ShapeError(name, "var", "a negative number", "at least 0")
    dtype = result_dtype(name, (x, t, v))
    spread = wide(spread, dtype)
    floor = namespace_of(v).maximum(spread.data, spread.dtype.type(eps))
    spread = record(name, namespace_of(v).asarray(floor), (spread,), lambda dy, _: (lambda: dy,))
    losses = (log(spread) + square(wide(input, dtype) - wide(target, dtype)) / spread) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return finish(losses, reduction, dtype, input, target, var)


def _variances(name, x, v, var):
    """Variances in a shape that broadcasts with that of x."""
    if v.shape == x.shape:
        return var
    if x.shape[:-1] == v.shape:
        return unsqueeze(var, -1)
    differing = [size for own, size in zip(x.shape, v.shape, strict=False) if own != size]
    if x.ndim != v.ndim or differing != [1]:
        expected = f"{list(x.shape)}, the shape of input, one of these sizes as 1, or all but the last"
        raise ShapeError(name, "var", list(v.shape), expected)
    return var


@documented("log(1 + exp(-target * input)), infinite where the exponential is", dtype="dtype of input",
            target="Classes, 1 or -1, of a shape that broadcasts to that of input; it has no gradient")  # fmt: skip
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    name = "soft_margin_loss"
    reduction = as_reduction(name, reduction, size_average, reduce)
    x, t = floating(name, "input", input), array(name, "target", target)
    undifferentiated(name, "target", target)
    refusal = DTypeError(name, "target", "bool", "numbers for a gradient", "convert it first")
    a, b = pair(name, input, target, warns=False)
    if raw(a).shape != x.shape:
        raise ShapeError(name, "target", list(t.shape), f"a shape that broadcasts to {list(x.shape)}")
    slopes = lambda dy, a, b: -dy * b * _odds(a * b), lambda dy, a, b: -dy * a * _odds(a * b)
    return pointwise(name, "soft_margin", a, b, slopes, reduction, dtype=x.dtype.newbyteorder("="),
                     refusal=refusal if t.dtype.kind == "b" else None)  # fmt: skip


def _odds(z):
    e = exp(-z)
    return e / (1 + e)
