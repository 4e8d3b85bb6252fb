"""Losses of predicted boxes by their overlap with the true ones, as in torchvision.ops."""

import functools
import math

import numpy

from fastconv import backend
from fastconv.arrays import is_float, namespace_of
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.functional.box import angle, as_number, check_two_axes, shape_penalty
from fastconv.functional.elementwise import add, cast, div, maximum, minimum, mul, square, sub, where
from fastconv.functional.operands import FLOAT, REDUCTIONS, array, check_broadcast
from fastconv.functional.reduction import mean, sum


def generalized_box_iou_loss(boxes1, boxes2, reduction="none", eps=1e-7):
    """1 less the generalised intersection over union, as torchvision.ops.generalized_box_iou_loss.

    Args:
        boxes1: [..., 4], or [..., 6] in three axes: corners, the first smaller than the second.
        boxes2: The same shape, or one that broadcasts to it.
        reduction: "none", "mean" or "sum".
        eps: Added to divisors.

    Returns:
        A number, or with "none" the shape of boxes1 without its last axis; in float32 for halves and integers; a Tensor
        if an argument is one. The mean of no box is 0.

    Raises:
        ShapeError: The shapes do not go together, or reduction is none of the three.
        DTypeError: An argument is no array of numbers, or eps no number.
        DeviceError: The arrays live on different devices.

    Source: Rezatofighi et al., arXiv:1902.09630.
    """
    name = "generalized_box_iou_loss"
    pair, eps = _Pair(name, boxes1, boxes2, reduction), as_number(name, "eps", eps)
    inter, union = pair.overlap()
    around = pair.product(pair.sides_around())
    generalized = sub(div(inter, add(union, eps)), div(sub(around, union), add(around, eps)))
    return _reduced(sub(1, generalized), reduction)


def distance_box_iou_loss(boxes1, boxes2, reduction="none", eps=1e-7):
    """1 less the intersection over union, and a distance of centres, as torchvision.ops.distance_box_iou_loss.

    Args:
        boxes1: [..., 4], or [..., 6] in three axes: corners, the first smaller than the second.
        boxes2: The same shape, or one that broadcasts to it.
        reduction: "none", "mean" or "sum".
        eps: Added to divisors.

    Returns:
        A number, or with "none" the shape of boxes1 without its last axis; in float32 for halves and integers; a Tensor
        if an argument is one. The mean of no box is 0.

    Raises:
        ShapeError: The shapes do not go together, or reduction is none of the three.
        DTypeError: An argument is no array of numbers, or eps no number.
        DeviceError: The arrays live on different devices.

    Source: Zheng et al., arXiv:1911.08287.
    """
    name = "distance_box_iou_loss"
    pair, eps = _Pair(name, boxes1, boxes2, reduction), as_number(name, "eps", eps)
    return _reduced(pair.distance_loss(eps)[0], reduction)


def complete_box_iou_loss(boxes1, boxes2, reduction="none", eps=1e-7):
    """distance_box_iou_loss and a difference of shapes, as torchvision.ops.complete_box_iou_loss.

    Args:
        boxes1: [..., 4], corners, the first smaller than the second; width over height has no counterpart in three
            axes.
        boxes2: The same shape, or one that broadcasts to it.
        reduction: "none", "mean" or "sum".
        eps: Added to the divisor of the factor of the difference, through which no gradient flows. As in torchvision,
            that of the distance is 1e-7 whatever eps is.

    Returns:
        A number, or with "none" the shape of boxes1 without its last axis; in float32 for halves and integers; a Tensor
        if an argument is one. The mean of no box is 0.

    Raises:
        ShapeError: The shapes do not go together, or reduction is none of the three.
        DTypeError: An argument is no array of numbers, or eps no number.
        DeviceError: The arrays live on different devices.

    Source: Zheng et al., arXiv:1911.08287.
    """
    name = "complete_box_iou_loss"
    pair, eps = _Pair(name, boxes1, boxes2, reduction), as_number(name, "eps", eps)
    check_two_axes(name, "boxes1", boxes1)
    loss, iou = pair.distance_loss(1e-7)
    sides1, sides2 = sub(pair.high1, pair.low1), sub(pair.high2, pair.low2)
    shapes = [angle(div(sides[..., 0], sides[..., 1])) for sides in (sides2, sides1)]
    return _reduced(add(loss, shape_penalty(name, sub(*shapes), iou, eps)), reduction)


class _Pair:
    """Boxes in float32 or float64, each with the one that it is compared with, checked.

    Attributes:
        low1, high1, low2, high2: Their corners, [..., 2] or [..., 3].
    """

    def __init__(self, name, boxes1, boxes2, reduction):
        if reduction not in REDUCTIONS:
            raise ShapeError(name, "reduction", repr(reduction), " or ".join(map(repr, REDUCTIONS)))
        plain = {"boxes1": array(name, "boxes1", boxes1), "boxes2": array(name, "boxes2", boxes2)}
        for argument, x in plain.items():
            if x.ndim == 0 or x.shape[-1] not in (4, 6):
                raise ShapeError(name, argument, list(x.shape), "[..., 4] or [..., 6]")
        shapes = [x.shape for x in plain.values()]
        if shapes[0][-1] != shapes[1][-1] or check_broadcast(name, plain) != shapes[0]:
            raise ShapeError(name, "boxes2", list(shapes[1]), f"{list(shapes[0])}, or what broadcasts to it")
        backend.of(*plain.values())
        rank = shapes[0][-1] // 2
        boxes1, boxes2 = _wide(boxes1), _wide(boxes2)
        self.low1, self.high1 = boxes1[..., :rank], boxes1[..., rank:]
        self.low2, self.high2 = boxes2[..., :rank], boxes2[..., rank:]

    @staticmethod
    def product(sides):
        return functools.reduce(mul, (sides[..., i] for i in range(sides.shape[-1])))

    def overlap(self):
        """Areas of the intersections and of the unions."""
        sides = sub(minimum(self.high1, self.high2), maximum(self.low1, self.low2))
        lengths = raw(sides)
        meet = namespace_of(lengths).asarray((lengths > 0).all(axis=-1))
        inter = where(meet, self.product(sides), 0.0)
        whole = add(self.product(sub(self.high1, self.low1)), self.product(sub(self.high2, self.low2)))
        return inter, sub(whole, inter)

    def sides_around(self):
        """Sides of the smallest boxes around both."""
        return sub(maximum(self.high1, self.high2), minimum(self.low1, self.low2))

    def distance_loss(self, eps):
        """distance_box_iou_loss and the intersection over union."""
        inter, union = self.overlap()
        iou = div(inter, add(union, eps))
        diagonal = add(_total(square(self.sides_around())), eps)
        centres = div(add(self.high1, self.low1), 2), div(add(self.low2, self.high2), 2)
        return add(sub(1, iou), div(_total(square(sub(*centres))), diagonal)), iou


def _wide(boxes):
    x = raw(boxes)
    return boxes if is_float(x) and x.dtype.itemsize >= 4 and x.dtype.isnative else cast(boxes, _dtype(x))


def _dtype(x):
    return numpy.dtype("float64") if x.dtype.name == "float64" else FLOAT


def _total(terms):
    return functools.reduce(add, (terms[..., i] for i in range(terms.shape[-1])))


def _reduced(losses, reduction):
    if reduction == "none":
        return losses
    if reduction == "mean" and math.prod(losses.shape):
        return mean(losses)
    return sum(losses)
