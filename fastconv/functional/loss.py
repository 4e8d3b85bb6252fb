"""Losses, as in torch.nn.functional: computed in float32 for halves, and rounded once.

Class indices are arrays of integers and get no gradient. Every loss takes `reduction`: "mean", "sum" or "none".
"""

import math

from fastconv import backend
from fastconv.arrays import describe, is_cupy, is_float, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import logsigmoid
from fastconv.functional.elementwise import abs, cast, clamp, log, log1p, masked, square, unary
from fastconv.functional.indexing import pick
from fastconv.functional.operands import (
    accumulator,
    array,
    as_int,
    as_reduction,
    check_broadcast,
    is_number,
    number,
    quiet,
    wrapped,
)
from fastconv.functional.reduction import mean, sum, summed
from fastconv.functional.shape import reshape, unsqueeze
from fastconv.functional.softmax import log_softmax, softmax

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: {input}.
        target: {target}.{args}
        reduction: "mean", "sum" or "none".

    Returns:
        {returns}; dtype of input; a Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree, {refused}or reduction is none of the three.
        DTypeError: Dtypes differ or are of the wrong kind, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """


def _documented(what, args="", refused="", input="Tensor or array of any shape", target="The same shape and dtype",
                returns='A number, or with "none" the shape of input'):  # fmt: skip
    def decorate(function):
        function.__doc__ = _DOC.format(
            what=what, name=function.__name__, args=args, refused=refused, input=input, target=target, returns=returns
        )
        return function

    return decorate


def _finish(name, losses, reduction, dtype, *operands):
    """The losses, a Tensor, brought together in the dtype of the input; an array if no operand is a Tensor."""
    reduction = as_reduction(name, reduction)
    y = cast(losses if reduction == "none" else (mean if reduction == "mean" else sum)(losses), dtype)
    return y if any(isinstance(v, Tensor) for v in operands) else y.data


def _wide(value, dtype):
    """A Tensor of an operand, in the dtype that its sums are kept in."""
    return cast(value if isinstance(value, Tensor) else Tensor(value), accumulator(dtype))


def _float(name, argument, value, like=None):
    """The plain array of a floating operand, of the dtype of input where that is given."""
    x = array(name, argument, value)
    if not is_float(x):
        raise DTypeError(name, argument, x.dtype.name, "a floating dtype")
    if like is not None and x.dtype.name != like.dtype.name:
        raise DTypeError(name, argument, x.dtype.name, f"{like.dtype.name}, the dtype of input")
    return x


def _pair(name, input, target, reduction, **factors):
    """Wide Tensors of input, target and the factors that broadcast with them; and what finishes the losses."""
    x, t = _float(name, "input", input), array(name, "target", target)
    _float(name, "target", target, x)
    if x.shape != t.shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(x.shape)}, the shape of input", "nothing is broadcast")
    present = {argument: _float(name, argument, v, x) for argument, v in factors.items() if v is not None}
    backend.of(x, t, *present.values())
    for argument, factor in present.items():
        if check_broadcast(name, {"input": x, argument: factor}) != x.shape:
            raise ShapeError(name, argument, list(factor.shape), f"a shape that broadcasts to {list(x.shape)}")
    operands, dtype = (input, target, *factors.values()), x.dtype.newbyteorder("=")

    def finish(losses):
        return _finish(name, losses, reduction, dtype, *operands)

    return *(None if v is None else _wide(v, dtype) for v in operands), finish


@_documented("The squared difference")
def mse_loss(input, target, reduction="mean"):
    x, t, finish = _pair("mse_loss", input, target, reduction)
    return finish(square(x - t))


@_documented("The absolute difference")
def l1_loss(input, target, reduction="mean"):
    x, t, finish = _pair("l1_loss", input, target, reduction)
    return finish(abs(x - t))


def _bound(name, argument, value, least):
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    if not (value >= 0 if least else value > 0):
        raise ShapeError(name, argument, value, "at least 0" if least else "more than 0")
    return number(value)


@_documented("d * d / (2 * beta) where d = abs(input - target) is less than beta, otherwise d - beta / 2",
             "\n        beta: Where the two meet; 0 gives l1_loss.", "beta is negative ")  # fmt: skip
def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    beta = _bound("smooth_l1_loss", "beta", beta, True)
    x, t, finish = _pair("smooth_l1_loss", input, target, reduction)
    if beta == 0:
        return finish(abs(x - t))

    def compute(xp, d):
        size = xp.abs(d)
        return xp.where(size < beta, size * size * (0.5 / beta), size - 0.5 * beta)

    def gradient(dy, d):
        return dy * clamp(d * (1 / beta), -1.0, 1.0)

    return finish(unary("smooth_l1_loss", x - t, compute, gradient, "input"))


@_documented("d * d / 2 where d = abs(input - target) is at most delta, otherwise delta * (d - delta / 2)",
             "\n        delta: Where the two meet, more than 0.", "delta is not positive ")  # fmt: skip
def huber_loss(input, target, reduction="mean", delta=1.0):
    delta = _bound("huber_loss", "delta", delta, False)
    x, t, finish = _pair("huber_loss", input, target, reduction)

    def compute(xp, d):
        size = xp.abs(d)
        return xp.where(size <= delta, size * size * 0.5, delta * (size - 0.5 * delta))

    return finish(unary("huber_loss", x - t, compute, lambda dy, d: dy * clamp(d, -delta, delta), "input"))


_FACTOR = "\n        weight: Factor of each loss, broadcast to the shape of input; or None."


@_documented("Binary cross-entropy of probabilities, whose logarithms are at least -100", _FACTOR,
             "on the CPU a probability is not in 0 to 1, ", "Probabilities, of any shape")  # fmt: skip
def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    x, t, w, finish = _pair("binary_cross_entropy", input, target, reduction, weight=weight)
    if not is_cupy(x.data):  # on a GPU, where nobody waits for the answer, the loss is NaN
        outside = x.data[(x.data < 0) | (x.data > 1)]
        if outside.size:
            raise ShapeError("binary_cross_entropy", "input", outside[0].item(), "probabilities, 0 to 1")
    losses = _cross_entropy_of_probabilities(x, t)
    return finish(losses if w is None else losses * w)


def _cross_entropy_of_probabilities(x, t):
    xp = namespace_of(x.data)
    with quiet():
        yes, no = xp.maximum(xp.log(x.data), -100), xp.maximum(xp.log1p(-x.data), -100)
        y = xp.asarray((t.data - 1) * no - t.data * yes)

    def rule(dy, _):
        return (
            lambda: dy * ((x - t) / clamp((1 - x) * x, min=1e-12)),
            lambda: dy * (log1p(-x) - log(x)),
        )

    return record("binary_cross_entropy", y, (x, t), rule, saves=(x, t))


@_documented("Binary cross-entropy of unnormalised scores, without overflow",
             _FACTOR + "\n        pos_weight: Factor of target, broadcast to the shape of input; or None.",
             input="Scores, of any shape")  # fmt: skip
def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    name = "binary_cross_entropy_with_logits"
    x, t, w, p, finish = _pair(name, input, target, reduction, weight=weight, pos_weight=pos_weight)
    certain = logsigmoid(x)  # and log(1 - sigmoid(x)) is this less x
    losses = (1 - t) * x - (certain if p is None else ((p - 1) * t + 1) * certain)
    return finish(losses if w is None else losses * w)


_CLASS_ARGS = """
        weight: [C], factor of each class; or None.
        ignore_index: A class that does not count."""
_ONE_A_TARGET = 'A number, the mean being weighted by the factors of the classes; or with "none" one a target'


@_documented("The negative log-likelihood of classes", _CLASS_ARGS, "on the CPU a class is out of range, ",
             "Log-probabilities, [C], [N, C] or [N, C, ...]", "Classes, integers, the shape of input without C",
             _ONE_A_TARGET)  # fmt: skip
def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    x = _float("nll_loss", "input", input)
    losses, each = _of_classes("nll_loss", _wide(input, x.dtype), x, target, weight, ignore_index)
    return _average("nll_loss", losses, each, reduction, x.dtype, input, target, weight)


@_documented("Cross-entropy of unnormalised scores with classes, or with probabilities of classes",
             _CLASS_ARGS + "\n        label_smoothing: Share of the target that is spread over all classes, 0 to 1.",
             "label_smoothing or, on the CPU, a class is out of range, ", "Scores, [C], [N, C] or [N, C, ...]",
             "Classes, integers, the shape of input without C; or probabilities, the shape and dtype of input",
             _ONE_A_TARGET)  # fmt: skip
def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    x, t = _float("cross_entropy", "input", input), array("cross_entropy", "target", target)
    if not (is_number(label_smoothing) and 0 <= label_smoothing <= 1):
        raise ShapeError("cross_entropy", "label_smoothing", label_smoothing, "0 to 1")
    share = number(label_smoothing)
    if is_float(t):
        logs = log_softmax(_wide(input, x.dtype), _class_axis("cross_entropy", x))
        losses = _of_probabilities(logs, x, target, weight, ignore_index, share)
        return _finish("cross_entropy", losses, reduction, x.dtype.newbyteorder("="), input, target, weight)
    losses, each = _cross_entropy_of_classes(input, x, t, weight, ignore_index, share)
    return _average("cross_entropy", losses, each, reduction, x.dtype, input, target, weight)


def _cross_entropy_of_classes(input, x, t, weight, ignore_index, share):
    """Losses of the scores x of input with class indices t, by the operators, and the plain factor of each."""
    name = "cross_entropy"
    axis, ignored = _class_axis(name, x), as_int(name, "ignore_index", ignore_index)
    _check_classes(name, x, t, axis)
    factors = _factors(name, weight, x, axis)
    xp = backend.namespace(x, t)
    counted = xp.asarray(t != ignored)
    classes = t.astype("int64", copy=False)
    w = None if factors is None else raw(weight)
    scores = input if isinstance(input, Tensor) else Tensor(input)
    scores = scores if axis else unsqueeze(scores, 0)
    arguments = (classes if axis else classes[None], w, ignored, share)
    losses, logsumexp = backend.of(x, t, w).cross_entropy_forward(raw(scores), *arguments)

    def rule(dlosses, _):
        return (lambda: _cross_entropy_grad(dlosses, scores, logsumexp, arguments),)

    losses = record(name, losses, (scores,), rule, saves=(scores,))
    each = counted.astype(losses.dtype)
    if factors is not None and x.shape[axis]:
        each = xp.asarray(factors.reshape(-1)[xp.clip(xp.where(counted, classes, 0), 0, x.shape[axis] - 1)] * each)
    return (losses if axis else reshape(losses, ())), each


def _cross_entropy_grad(dlosses, scores, logsumexp, arguments):
    """dx; of differentiable functions if somebody may ask for its gradient."""
    if not is_grad_enabled():
        plain = raw(dlosses), raw(scores), logsumexp, *arguments
        return Tensor(backend.of(*plain[:3]).cross_entropy_grad(*plain))
    classes, w, ignored, share = arguments
    x = _wide(scores, scores.dtype)
    xp = namespace_of(x.data)
    counted = xp.asarray(classes != ignored)
    count = x.shape[1]
    factors = xp.ones(count, x.dtype) if w is None else w.astype(x.dtype)
    factors = factors.reshape(-1, *(1,) * (x.ndim - 2))
    known = xp.expand_dims(xp.where(counted, classes, 0), 1)
    hits = xp.arange(count).reshape(factors.shape) == known
    shares = xp.expand_dims(counted, 1) * factors * (hits * (1 - share) + share / max(count, 1))
    totals = summed(shares, (1,), x.dtype, True)
    return cast(
        unsqueeze(masked(dlosses, counted), 1) * (softmax(x, 1) * Tensor(totals) - Tensor(shares)), scores.dtype
    )


def _class_axis(name, x):
    if x.ndim == 0:
        raise ShapeError(name, "input", "an array without axes", "[C], [N, C] or [N, C, ...]")
    return min(x.ndim - 1, 1)


def _check_classes(name, x, t, axis):
    """The shape of x without the axis of its classes, which is that of their indices t."""
    if t.dtype.kind not in "iu":
        raise DTypeError(name, "target", t.dtype.name, "integers, the indices of classes")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    if t.shape != shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(shape)}, the shape of input {list(x.shape)} without C")
    return shape


def _factors(name, weight, x, axis):
    """Factors of the classes, [C, 1, ...], wide; or None."""
    if weight is None:
        return None
    w = _float(name, "weight", weight, x)
    if w.shape != (x.shape[axis],):
        raise ShapeError(name, "weight", list(w.shape), f"[{x.shape[axis]}], one a class of input {list(x.shape)}")
    backend.of(x, w)
    return w.astype(accumulator(x.dtype), copy=False).reshape(-1, *(1,) * (x.ndim - axis - 1))


def _of_classes(name, logs, x, target, weight, ignore_index):
    """Losses of the log-probabilities of an array x with class indices, and the plain factor of each."""
    axis, t = _class_axis(name, x), array(name, "target", target)
    classes, ignored = x.shape[axis], as_int(name, "ignore_index", ignore_index)
    shape = _check_classes(name, x, t, axis)
    xp = backend.namespace(x, t)
    counted = xp.asarray(t != ignored)
    wrong = xp.asarray(counted & ((t < 0) | (t >= classes)))
    if not is_cupy(t) and wrong.any():
        first = f"class {int(t[wrong][0])}"
        raise ShapeError(name, "target", first, f"0 to {classes - 1}, or ignore_index {ignored}")
    factors = _factors(name, weight, x, axis)
    each = xp.where(wrong, math.nan, counted).astype(logs.dtype)  # NaN on a GPU, where nobody waits for the answer
    if not classes:  # then nothing is counted, and there is nothing to pick
        return sum(logs, axis), each
    known = xp.where(counted & ~wrong, t, 0).astype("int64")
    if factors is not None:
        each = xp.asarray(factors.reshape(-1)[known] * each)
    return masked(reshape(pick(logs, xp.expand_dims(known, axis), axis), shape), counted) * -each, each


def _average(name, losses, each, reduction, dtype, *operands):
    """The losses brought together, the mean weighted by the factors of the classes."""
    dtype = dtype.newbyteorder("=")
    if reduction == "mean":
        losses, reduction = sum(losses) / summed(each, tuple(range(each.ndim)), each.dtype), "none"
    return _finish(name, losses, reduction, dtype, *operands)


def _of_probabilities(logs, x, target, weight, ignore_index, smoothing):
    """Losses of the log-probabilities of an array x with probabilities of classes."""
    axis, t = _class_axis("cross_entropy", x), _float("cross_entropy", "target", target, x)
    if t.shape != x.shape:
        raise ShapeError("cross_entropy", "target", list(t.shape), f"{list(x.shape)}, the shape of input")
    if as_int("cross_entropy", "ignore_index", ignore_index) >= 0:
        raise ShapeError("cross_entropy", "ignore_index", ignore_index, "a negative one for probabilities of classes")
    backend.of(x, t)
    share = _wide(target, x.dtype)
    if smoothing:
        share = share * (1 - smoothing) + smoothing / x.shape[axis]
    factors = _factors("cross_entropy", weight, x, axis)
    return -sum(logs * share if factors is None else logs * share * factors, axis)


def one_hot(tensor, num_classes=-1):
    """Ones at class indices, as torch.nn.functional.one_hot.

    Args:
        tensor: Class indices, integers of any shape.
        num_classes: How many classes; -1 for one more than the largest index.

    Returns:
        int64, the shape of tensor and [num_classes] after it; a Tensor for a Tensor. On a GPU, where nobody waits for
        the answer, an index out of range gives zeros alone.

    Raises:
        ShapeError: On the CPU an index is out of range; or there is none to tell the number from.
        DTypeError: tensor is no array of integers.
    """
    x, count = array("one_hot", "tensor", tensor), as_int("one_hot", "num_classes", num_classes)
    if x.dtype.kind not in "iu":
        raise DTypeError("one_hot", "tensor", x.dtype.name, "integers")
    if count == -1:
        if x.size == 0:
            raise ShapeError("one_hot", "num_classes", -1, "a number, where there is no index to tell it from")
        count = int(x.max()) + 1
    if not is_cupy(x):
        wrong = x[(x < 0) | (x >= count)]
        if wrong.size:
            raise ShapeError("one_hot", "tensor", f"class {int(wrong[0])}", f"0 to {count - 1}")
    xp = namespace_of(x)
    return wrapped((xp.expand_dims(x, -1) == xp.arange(count)).astype("int64"), tensor)
