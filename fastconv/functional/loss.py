"""Losses, as in torch.nn.functional.

Class indices are arrays of integers and get no gradient. Every loss takes `reduction`: "mean", "sum" or "none".
"""

import numpy

from fastconv import backend
from fastconv.arrays import describe, is_array, namespace_of
from fastconv.autograd import Tensor, is_float, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import log_softmax, softplus
from fastconv.functional.elementwise import (
    abs, add, cast, check_real, clamp, div, log, mul, neg, square, sub, where,
)  # fmt: skip
from fastconv.functional.reduction import mean, sum
from fastconv.functional.shape import unsqueeze

_DOC = """{summary}, as torch.nn.functional.{name}.

    Args:
        input: {input}.
        target: {target}.{parameters}
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" {none}; dtype of input; a Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree{more}, or reduction is none of the three.
        DTypeError: A dtype is unsupported, or the two differ.
        DeviceError: The arrays live on different devices.
    """
_SAME = dict(input="Tensor or array of floats", target="The shape and dtype of input", none="the shape of input")


def _documented(summary, parameters="", more="", **words):
    def decorate(function):
        words_used = {**_SAME, **words}
        name = function.__name__
        function.__doc__ = _DOC.format(name=name, summary=summary, parameters=parameters, more=more, **words_used)
        return function

    return decorate


def _reduce(operator, losses, reduction):
    if reduction == "mean":
        return mean(losses)
    if reduction == "sum":
        return sum(losses)
    if reduction == "none":
        return losses
    raise ShapeError(operator, "reduction", repr(reduction), '"mean", "sum" or "none"')


def _check_floats(operator, **values):
    """Refuse what is no floating array, and different dtypes."""
    first = None
    for argument, value in values.items():
        array = check_real(operator, argument, value)
        if not is_float(array):
            raise DTypeError(operator, argument, array.dtype.name, "a floating dtype")
        if first is not None and array.dtype != first.dtype:
            raise DTypeError(operator, argument, array.dtype.name, f"{first.dtype.name}, the dtype of input")
        first = array if first is None else first


def _check_pair(operator, input, target):
    _check_floats(operator, input=input, target=target)
    if raw(input).shape != raw(target).shape:
        raise ShapeError(operator, "target", list(raw(target).shape), f"{list(raw(input).shape)}, the shape of input")


@_documented("Squared difference")
def mse_loss(input, target, reduction="mean"):
    _check_pair("mse_loss", input, target)
    return _reduce("mse_loss", square(sub(input, target)), reduction)


@_documented("Absolute difference")
def l1_loss(input, target, reduction="mean"):
    _check_pair("l1_loss", input, target)
    return _reduce("l1_loss", abs(sub(input, target)), reduction)


def _two_parts(difference, limit):
    """0.5 * d * d where d < limit, limit * (d - 0.5 * limit) beyond."""
    inner = mul(square(difference), 0.5)
    outer = mul(sub(difference, 0.5 * limit), limit)
    return where(raw(difference) < limit, inner, outer)


@_documented("Squared below beta, absolute beyond", "\n        beta: Where the two meet, at least 0.", " or beta is negative")
def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    _check_pair("smooth_l1_loss", input, target)
    if beta < 0:
        raise ShapeError("smooth_l1_loss", "beta", beta, "at least 0")
    difference = abs(sub(input, target))
    losses = div(_two_parts(difference, beta), beta) if beta else difference
    return _reduce("smooth_l1_loss", losses, reduction)


@_documented("Squared below delta, linear beyond", "\n        delta: Where the two meet, above 0.", " or delta is not positive")
def huber_loss(input, target, reduction="mean", delta=1.0):
    _check_pair("huber_loss", input, target)
    if delta <= 0:
        raise ShapeError("huber_loss", "delta", delta, "more than 0")
    return _reduce("huber_loss", _two_parts(abs(sub(input, target)), delta), reduction)


_WEIGHT = "\n        weight: Factor of each element's loss, broadcast with input, or None."


@_documented("Cross entropy of probabilities with 0/1 targets", _WEIGHT, ", a probability is outside [0, 1]")
def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    _check_pair("binary_cross_entropy", input, target)
    p = raw(input)
    if ((p < 0) | (p > 1)).any():
        raise ShapeError("binary_cross_entropy", "input", f"values in [{p.min()}, {p.max()}]", "probabilities in [0, 1]")
    # PyTorch limits the logarithms to -100 so that a sure but wrong answer costs a finite amount.
    with numpy.errstate(divide="ignore"):
        yes, no = clamp(log(input), min=-100.0), clamp(log(sub(1, input)), min=-100.0)
    losses = neg(add(mul(target, yes), mul(sub(1, target), no)))
    return _reduce("binary_cross_entropy", losses if weight is None else mul(losses, weight), reduction)


@_documented(
    "Cross entropy of logits with 0/1 targets, without overflow",
    _WEIGHT + "\n        pos_weight: Factor of the positive targets, broadcast with input, or None.",
)
def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    _check_pair("binary_cross_entropy_with_logits", input, target)
    # -log(sigmoid(x)) = softplus(-x); -log(1 - sigmoid(x)) = softplus(-x) + x.
    cost = softplus(neg(input), threshold=1e9)
    if pos_weight is not None:
        cost = mul(cost, add(mul(target, sub(pos_weight, 1)), 1))
    losses = add(mul(sub(1, target), input), cost)
    losses = losses if weight is None else mul(losses, weight)
    return _reduce("binary_cross_entropy_with_logits", losses, reduction)


_CLASSES = "\n        weight: [C] factor of each class, or None.\n        ignore_index: Class index whose pixels cost nothing."
_INDEXED = dict(input="Logarithms of probabilities, [N, C], [N, C, d1, ...] or [C]", none="the shape of target")


@_documented(
    "Negative log likelihood of the right classes", _CLASSES, " or a class index is out of range",
    **_INDEXED, target="Class indices, ints, the shape of input without C",
)  # fmt: skip
def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    return _nll("nll_loss", input, target, weight, ignore_index, reduction)


def _nll(operator, input, target, weight, ignore_index, reduction):
    x, indices = check_real(operator, "input", input), check_real(operator, "target", target)
    if not is_float(x):
        raise DTypeError(operator, "input", x.dtype.name, "a floating dtype")
    if indices.dtype.kind not in "iu":
        raise DTypeError(operator, "target", indices.dtype.name, "class indices of an integer dtype")
    if x.ndim == 0 or indices.shape != x.shape[:1][: x.ndim - 1] + x.shape[2:]:
        raise ShapeError(operator, "target", list(indices.shape), f"the shape of input {list(x.shape)} without classes")
    backend.of(x, indices)
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    xp = namespace_of(x)
    counted = indices != ignore_index
    wrong = counted & ((indices < 0) | (indices >= classes))
    if wrong.any():
        raise ShapeError(operator, "target", f"class {int(indices[wrong].ravel()[0])}", f"class indices in [0, {classes})")
    place = xp.arange(classes, dtype=indices.dtype).reshape([-1] + [1] * (x.ndim - axis - 1))
    factors = (place == xp.expand_dims(indices, axis)) & xp.expand_dims(counted, axis)
    factors = factors.astype(x.dtype)
    if weight is not None:
        factors = factors * _class_weights(operator, weight, classes, x).reshape(place.shape)
    # Where nothing is counted the factor is 0, and 0 * -inf must not make a NaN of it.
    losses = neg(sum(where(factors != 0, mul(input, factors), 0.0), axis))
    if reduction != "mean":
        return _reduce(operator, losses, reduction)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return div(sum(losses), xp.asarray(factors.sum(dtype=x.dtype)))


def _class_weights(operator, weight, classes, like):
    w = check_real(operator, "weight", weight)
    if w.shape != (classes,):
        raise ShapeError(operator, "weight", list(w.shape), f"[{classes}], one a class")
    if w.dtype != like.dtype:
        raise DTypeError(operator, "weight", w.dtype.name, f"{like.dtype.name}, the dtype of input")
    return w


@_documented(
    "Cross entropy of logits with class indices or class probabilities",
    _CLASSES + "\n        label_smoothing: Share of the target in [0, 1] that is spread over all classes.",
    ", a class index is out of range or label_smoothing outside [0, 1]",
    input="Logits, [N, C], [N, C, d1, ...] or [C]", none="the shape of input without C",
    target="Class indices, ints, the shape of input without C; or probabilities, the shape and dtype of input",
)  # fmt: skip
def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    x = check_real("cross_entropy", "input", input)
    t = raw(target)
    if not 0 <= label_smoothing <= 1:
        raise ShapeError("cross_entropy", "label_smoothing", label_smoothing, "a share in [0, 1]")
    if x.ndim == 0:
        raise ShapeError("cross_entropy", "input", "a scalar", "[N, C], [N, C, d1, ...] or [C]")
    axis = 0 if x.ndim == 1 else 1
    logs = log_softmax(input, axis)
    if is_array(t) and is_float(t):
        return _soft_cross_entropy(logs, target, weight, reduction, label_smoothing, axis)
    hard = _nll("cross_entropy", logs, target, weight, ignore_index, reduction)
    if label_smoothing == 0:
        return hard
    smooth = _smoothing(logs, t, weight, ignore_index, reduction, axis)
    return add(mul(hard, 1 - label_smoothing), mul(smooth, label_smoothing / x.shape[axis]))


def _smoothing(logs, indices, weight, ignore_index, reduction, axis):
    """Cost of a uniform target, summed over classes, for the pixels that are not ignored."""
    x = raw(logs)
    xp = namespace_of(x)
    classes = x.shape[axis]
    shape = [-1] + [1] * (x.ndim - axis - 1)
    w = xp.ones(classes, x.dtype) if weight is None else _class_weights("cross_entropy", weight, classes, x)
    counted = indices != ignore_index
    costs = neg(sum(mul(logs, w.reshape(shape)), axis))
    costs = where(xp.asarray(counted), costs, 0.0)
    if reduction != "mean":
        return _reduce("cross_entropy", costs, reduction)
    total = w[xp.where(counted, indices, 0)] * counted
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return div(sum(costs), xp.asarray(total.sum(dtype=x.dtype)))


def _soft_cross_entropy(logs, target, weight, reduction, label_smoothing, axis):
    x, t = raw(logs), raw(target)
    _check_pair("cross_entropy", logs, target)
    classes = x.shape[axis]
    if label_smoothing:
        target = add(mul(target, 1 - label_smoothing), label_smoothing / classes)
    costs = mul(logs, target)
    if weight is not None:
        w = _class_weights("cross_entropy", weight, classes, x)
        costs = mul(costs, w.reshape([-1] + [1] * (x.ndim - axis - 1)))
    losses = neg(sum(costs, axis))
    if reduction != "mean":
        return _reduce("cross_entropy", losses, reduction)
    return div(sum(losses), float(t.size // max(classes, 1))) if t.size else mul(sum(losses), float("nan"))


def one_hot(tensor, num_classes=-1):
    """Ones at class indices, as torch.nn.functional.one_hot.

    Args:
        tensor: Class indices, ints, any shape.
        num_classes: How many classes; -1 for one more than the largest index.

    Returns:
        int64, the shape of tensor and [num_classes] after it; a Tensor for a Tensor.

    Raises:
        ShapeError: An index is out of range, or there is none to tell the number from.
        DTypeError: tensor is no array of an integer dtype.
    """
    x = check_real("one_hot", "tensor", tensor)
    if x.dtype.kind not in "iu":
        raise DTypeError("one_hot", "tensor", x.dtype.name, "an integer dtype")
    if num_classes == -1:
        if x.size == 0:
            raise ShapeError("one_hot", "num_classes", -1, "a number, where there is no index to tell it from")
        num_classes = int(x.max()) + 1
    if x.size and (x.min() < 0 or x.max() >= num_classes):
        got = int(x.min()) if x.min() < 0 else int(x.max())
        raise ShapeError("one_hot", "tensor", f"class {got}", f"class indices in [0, {num_classes})")
    xp = namespace_of(x)
    y = (xp.expand_dims(x, -1) == xp.arange(num_classes)).astype("int64")
    return Tensor(y) if isinstance(tensor, Tensor) else y
