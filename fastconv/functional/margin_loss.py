"""Losses that ask for a margin between what belongs together and what does not, as in torch.nn.functional.

Computed in float32 for halves, and rounded once. size_average and reduce are PyTorch's older spelling of reduction.
"""

from fastconv import backend
from fastconv.arrays import check_float, describe, namespace_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import logsigmoid
from fastconv.functional.distance import pairwise_distance
from fastconv.functional.elementwise import cast, clamp, minimum, sqrt, where
from fastconv.functional.operands import (
    accumulator,
    array,
    as_reduction,
    check_broadcast,
    is_number,
    number,
    result_dtype,
)
from fastconv.functional.reduction import mean, sum

_LEAST = 9.999999960041972e-13  # 1e-12 of float32, as in PyTorch

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        {args}
        size_average, reduce: PyTorch's older spelling of reduction, which decides where one is given.
        reduction: "mean", "sum" or "none".

    Returns:
        A number, or with "none" {returns}; PyTorch's dtype of the arguments; a Tensor if one is.

    Raises:
        ShapeError: Shapes disagree, {refused}or reduction is none of the three.
        DTypeError: An argument is no array, of the wrong kind of dtype, or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """


def _documented(what, args, returns="one a pair", refused=""):
    def decorate(function):
        function.__doc__ = _DOC.format(
            what=what, name=function.__name__, args="\n        ".join(args), returns=returns, refused=refused
        )
        return function

    return decorate


def _number(name, argument, value):
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    return number(value)


def _wide(value, dtype):
    return cast(value if isinstance(value, Tensor) else Tensor(value), dtype)


class _Operands:
    """Arguments of a loss: floating ones as wide Tensors, and what brings the losses together."""

    def __init__(self, name, floats, others=None):
        self.name, self.given = name, (*floats.values(), *(others or {}).values())
        self.plain = {k: array(name, k, v) for k, v in {**floats, **(others or {})}.items()}
        for argument in floats:
            check_float(name, argument, self.plain[argument])
        backend.of(*self.plain.values())
        self.dtype = result_dtype(name, [self.plain[k] for k in floats])
        self.wide = accumulator(self.dtype)
        self.tensors = [_wide(v, self.wide) for v in floats.values()]

    def promote(self, argument):
        """Let another argument take part in the dtype of the result; it as a wide Tensor."""
        self.dtype = result_dtype(self.name, [*self.plain.values()])
        self.wide = accumulator(self.dtype)
        self.tensors = [cast(v, self.wide) for v in self.tensors]
        return _wide(self.given[list(self.plain).index(argument)], self.wide)

    def finish(self, losses, reduction):
        if reduction != "none":
            losses = (mean if reduction == "mean" else sum)(losses)
        y = cast(losses, self.dtype)
        return y if any(isinstance(v, Tensor) for v in self.given) else y.data


def _equal(x, value):
    return namespace_of(x).asarray(x == value)


_MARGIN = "margin: How far apart they shall be."


@_documented(
    "max(0, -target * (input1 - input2) + margin)",
    ["input1, input2: Tensors or arrays of floats, with as many axes.",
     "target: 1 where input1 shall be the larger, -1 where input2 shall; as many axes.", _MARGIN],
)  # fmt: skip
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    name = "margin_ranking_loss"
    reduction, margin = as_reduction(name, reduction, size_average, reduce), _number(name, "margin", margin)
    operands = _Operands(name, {"input1": input1, "input2": input2}, {"target": target})
    _same_axes(name, operands.plain)
    check_broadcast(name, operands.plain)
    t = operands.promote("target")
    a, b = operands.tensors
    return operands.finish(clamp(-t * (a - b) + margin, min=0.0), reduction)


def _same_axes(name, arrays):
    if len({v.ndim for v in arrays.values()}) > 1:
        shapes = " and ".join(str(list(v.shape)) for v in arrays.values())
        raise ShapeError(name, " and ".join(arrays), shapes, "as many axes")


@_documented(
    "input where target is 1, max(0, margin - input) where it is -1, and their sum elsewhere",
    ["input: Distances, Tensor or array of floats.", "target: 1 or -1; broadcasts with input.", _MARGIN],
)  # fmt: skip
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    name = "hinge_embedding_loss"
    reduction, margin = as_reduction(name, reduction, size_average, reduce), _number(name, "margin", margin)
    operands = _Operands(name, {"input": input}, {"target": target})
    check_broadcast(name, operands.plain)
    (x,), t = operands.tensors, operands.plain["target"]
    losses = where(_equal(t, 1), 0.0, clamp(margin - x, min=0.0)) + where(_equal(t, -1), 0.0, x)
    return operands.finish(losses, reduction)


@_documented(
    "1 - cos where target is 1, max(0, cos - margin) where it is -1, cos being that of the angle between the inputs",
    ["input1, input2: Tensors or arrays of floats, [N, L], or [L].", "target: 1 or -1, [N], or no axes.", _MARGIN],
)  # fmt: skip
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    name = "cosine_embedding_loss"
    reduction, margin = as_reduction(name, reduction, size_average, reduce), _number(name, "margin", margin)
    operands = _Operands(name, {"input1": input1, "input2": input2}, {"target": target})
    t = operands.plain["target"]
    if t.ndim > 1:
        raise ShapeError(name, "target", list(t.shape), "[N] or no axes")
    for argument in ("input1", "input2"):
        if operands.plain[argument].ndim != t.ndim + 1:
            shape = operands.plain[argument].shape
            raise ShapeError(name, argument, list(shape), f"{t.ndim + 1} axes for target {list(t.shape)}")
    check_broadcast(name, {k: operands.plain[k] for k in ("input1", "input2")})
    a, b = operands.tensors
    axis = t.ndim
    squares = (sum(a * a, axis) + _LEAST) * (sum(b * b, axis) + _LEAST)
    cosine = sum(a * b, axis) / sqrt(squares)
    check_broadcast(name, {"input1": raw(cosine), "target": t})
    losses = where(_equal(t, 1), 1 - cosine, 0.0) + where(_equal(t, -1), clamp(cosine - margin, min=0.0), 0.0)
    return operands.finish(losses, reduction)


_TRIPLET = ["anchor, positive, negative: Tensors or arrays of floats with as many axes, that broadcast."]
_SWAP = "swap: Whether the distance of positive and negative counts if it is the smaller."
_POSITIVE = "margin is not positive "


@_documented(
    "max(0, margin + distance(anchor, positive) - distance(anchor, negative)) of vectors along the last axis",
    [*_TRIPLET, _MARGIN, "p: Exponent of the norm that is the distance.", "eps: Added to every difference.", _SWAP],
    refused=_POSITIVE,
)
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None,
                        reduce=None, reduction="mean"):  # fmt: skip
    reduction = as_reduction("triplet_margin_loss", reduction, size_average, reduce)

    def distance(a, b):
        return pairwise_distance(a, b, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


@_documented(
    "max(0, margin + distance_function(anchor, positive) - distance_function(anchor, negative))",
    [*_TRIPLET, "distance_function: Function of two Tensors; None is pairwise_distance.", _MARGIN, _SWAP],
    refused=_POSITIVE,
)
def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                      reduction="mean"):  # fmt: skip
    name = "triplet_margin_with_distance_loss"
    reduction = as_reduction(name, reduction)
    distance = pairwise_distance if distance_function is None else distance_function
    if not callable(distance):
        raise DTypeError(name, "distance_function", describe(distance), "a function of two Tensors, or None")
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


triplet_margin_with_distance_loss.__doc__ = triplet_margin_with_distance_loss.__doc__.replace(
    "        size_average, reduce: PyTorch's older spelling of reduction, which decides where one is given.\n", ""
)


def _triplet(name, anchor, positive, negative, distance, margin, swap, reduction):
    margin = _number(name, "margin", margin)
    if not margin > 0:
        raise ShapeError(name, "margin", margin, "more than 0")
    operands = _Operands(name, {"anchor": anchor, "positive": positive, "negative": negative})
    _same_axes(name, operands.plain)
    check_broadcast(name, operands.plain)
    a, p, n = operands.tensors
    near, far = distance(a, p), distance(a, n)
    if swap:
        far = minimum(far, distance(p, n))
    return operands.finish(clamp(near - far + margin, min=0.0), reduction)


@_documented(
    "-mean(target * log(sigmoid(input)) + (1 - target) * log(sigmoid(-input))) over the last axis",
    ["input: Scores, [..., C].", "target: 1 for the classes that are present, otherwise 0; broadcasts with input.",
     "weight: Factors that broadcast with input, or None."],
    "the shape without its last axis",
)  # fmt: skip
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    name = "multilabel_soft_margin_loss"
    reduction = as_reduction(name, reduction, size_average, reduce)
    others = {"target": target} if weight is None else {"target": target, "weight": weight}
    operands = _Operands(name, {"input": input}, others)
    if operands.plain["input"].ndim == 0:
        raise ShapeError(name, "input", "an array without axes", "[..., C]")
    if operands.plain["target"].dtype.kind == "b":
        raise DTypeError(name, "target", "bool", "numbers", "convert it first")
    check_broadcast(name, operands.plain)
    t = operands.promote("target")
    w = None if weight is None else operands.promote("weight")
    (x,) = operands.tensors
    t = cast(t, operands.wide)
    losses = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    losses = losses if w is None else losses * w
    return operands.finish(sum(losses, -1) / operands.plain["input"].shape[-1], reduction)
