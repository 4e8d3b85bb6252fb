"""Focal losses: cross-entropy in which an element counts the less the surer the network already is of it.

Source: Lin et al., arXiv:1708.02002. PyTorch has none; sigmoid_focal_loss is torchvision's.
"""

import math

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, describe, is_float
from fastconv.autograd import Tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import logsigmoid
from fastconv.functional.class_target import class_factors, power, scores, shares, wide
from fastconv.functional.elementwise import cast, expm1, masked, mul, sigmoid
from fastconv.functional.operands import array, as_reduction, is_number, number
from fastconv.functional.reduction import mean, sum
from fastconv.functional.shape import reshape
from fastconv.functional.softmax import log_softmax


def sigmoid_focal_loss(inputs, targets, alpha=0.25, gamma=2, reduction="none"):
    """Focal loss of one class or of classes that exclude none, as torchvision.ops.sigmoid_focal_loss.

    With p = sigmoid(input), q = p * t + (1 - p) * (1 - t): cross-entropy * (1 - q) ** gamma, times
    alpha * t + (1 - alpha) * (1 - t); computed from logarithms of the sigmoid, without overflow.

    Args:
        inputs: Scores, Tensor or array of floats of any shape.
        targets: The same shape: 1 where the class is present and 0 elsewhere, or anything between.
        alpha: Factor of what is present, 0 to 1; -1 for no factors.
        gamma: Power of the modulating factor, at least 0.
        reduction: "mean" or "sum" over all elements, or "none".

    Returns:
        A number, or with "none" the shape of inputs; dtype of inputs; a Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree, alpha or gamma is out of range, or reduction is none of the three.
        DTypeError: inputs are no array of floats, targets floats of another dtype, or alpha or gamma no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    name = "sigmoid_focal_loss"
    x, t = array(name, "inputs", inputs), array(name, "targets", targets)
    check_float(name, "inputs", x)
    if is_float(t):
        check_same_dtype(name, "targets", t, "inputs", x)
    if t.shape != x.shape:
        raise ShapeError(name, "targets", list(t.shape), f"{list(x.shape)}, the shape of inputs")
    backend.of(x, t)
    alpha, gamma, reduction = _number(name, "alpha", alpha), _gamma(name, gamma), as_reduction(name, reduction)
    if not 0 <= alpha <= 1 and alpha != -1:
        raise ShapeError(name, "alpha", alpha, "0 to 1, or -1 for no factors")
    z, t = wide(inputs, x.dtype), wide(targets, x.dtype)
    losses = -(t * logsigmoid(z) + (1.0 - t) * logsigmoid(-z))
    if gamma:
        losses = losses * power(t * sigmoid(-z) + (1.0 - t) * sigmoid(z), gamma)
    if alpha >= 0:
        losses = losses * (t * alpha + (1.0 - t) * (1.0 - alpha))
    if reduction != "none":
        losses = (mean if reduction == "mean" else sum)(losses)
    return _like(losses, x, inputs, targets)


def focal_loss(input, target, weight=None, ignore_index=-100, reduction="mean", *, gamma=2.0):
    """Focal loss of classes of which each element has one: cross_entropy with each term times (1 - p) ** gamma.

    p is the probability of the class, the softmax of the scores. With gamma = 0 it is cross_entropy.

    Args:
        input: Scores, [N, C, ...].
        target: Classes, integers [N, ...] or [N, 1, ...]; or how far each belongs to each class, integers, bools or
            floats of the shape of input.
        weight: [C], factor of each class; or None.
        ignore_index: An integer in target that does not count.
        reduction: "mean" or "sum" over the elements, or "none". The mean is weighted by the factors of the classes.
        gamma: Power of the modulating factor, at least 0.

    Returns:
        A number, or with "none" [N, ...]; dtype of input; a Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree, gamma is negative, reduction is none of the three, or on the CPU a class is out
            of range; on a GPU, where nobody waits for the answer, the loss of such a class is NaN.
        DTypeError: input is no array of floats, another dtype is of the wrong kind, or gamma no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    name = "focal_loss"
    x = scores(name, input)
    if x.shape[1] == 1:
        raise ShapeError(name, "input", list(x.shape), "more than one class", "use sigmoid_focal_loss")
    gamma, reduction = _gamma(name, gamma), as_reduction(name, reduction)
    t, counted = shares(name, x, target, ignore_index)
    z = wide(input, x.dtype)
    if counted is not None:
        z, t = masked(z, counted), masked(t, counted)
    logs = log_softmax(z, 1)
    if weight is not None:
        t = t * reshape(class_factors(name, weight, x), -1, *(1,) * (x.ndim - 2))
    losses = mul(t, logs)
    # What does not belong to a class does not count, were its logarithm infinite.
    losses = masked(losses, t.data != 0)
    if gamma:
        losses = losses * power(-expm1(logs), gamma)
    losses = -sum(losses, 1)
    if reduction == "mean":
        # Of classes the factors are added up, of anything between them the elements, as in cross_entropy.
        count = math.prod(losses.shape) if is_float(array(name, "target", target)) else sum(t)
        losses = sum(losses) / count
    elif reduction == "sum":
        losses = sum(losses)
    return _like(losses, x, input, target, weight)


def _number(name, argument, value):
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    return number(value)


def _gamma(name, value):
    gamma = _number(name, "gamma", value)
    if not 0 <= gamma < math.inf:
        raise ShapeError(name, "gamma", gamma, "at least 0")
    return gamma


def _like(losses, x, *operands):
    """The losses in the dtype of x; an array if no operand is a Tensor."""
    y = cast(losses, x.dtype.newbyteorder("="))
    return y if any(isinstance(v, Tensor) for v in operands) else y.data
