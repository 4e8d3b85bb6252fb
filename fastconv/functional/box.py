"""Boxes of images and volumes: areas, formats, overlaps. As in torchvision.ops, and with three axes as well.

A box is four numbers, for x and y, or six, for x, y and z: first the corner of the smallest coordinates, then that of
the largest. Where torchvision computes in more than the dtype of the boxes, so do these functions: in float32 for
halves and in int32 for smaller integers. Boxes are not required to have their corners in order, nor to lie anywhere;
lengths that are negative and coordinates that are NaN pass through the formulas as they do in torchvision.
"""

import functools
import math

import numpy

from fastconv.arrays import describe, is_float, namespace_of
from fastconv.autograd import no_grad, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import add, cast, clamp, div, maximum, minimum, mul, square, sub
from fastconv.functional.indexing import cat, stack
from fastconv.functional.operands import accumulator, array, check_broadcast, is_number, number, quiet, wrapped
from fastconv.functional.shape import reshape

FORMATS = ("xyxy", "xywh", "cxcywh")


def box_area(boxes, fmt="xyxy"):
    """Areas of boxes, or volumes, as torchvision.ops.box_area.

    Args:
        boxes: [..., 4], or [..., 6] in three axes.
        fmt: Format of the boxes, see box_convert.

    Returns:
        [...]; in float32 for halves and int32 for smaller integers; a Tensor if boxes is one.

    Raises:
        ShapeError: There are not four or six numbers a box, or fmt is none of the formats.
        DTypeError: boxes is no array of numbers.
    """
    rank = _rank("box_area", "boxes", boxes)
    _check_format("box_area", "fmt", fmt)
    wide = upcast(boxes)
    low, high = wide[..., :rank], wide[..., rank:]
    return _product(sub(high, low) if fmt == "xyxy" else high)


def box_convert(boxes, in_fmt, out_fmt):
    """Boxes in another format, as torchvision.ops.box_convert.

    Args:
        boxes: [..., 4], or [..., 6] in three axes.
        in_fmt, out_fmt: "xyxy", both corners; "xywh", the first corner and the lengths of the sides; "cxcywh", the
            centre and the lengths. In three axes they are the same words for x1 y1 z1 x2 y2 z2 and so on.
            torchvision's formats of rotated boxes are not served.

    Returns:
        Boxes of the same shape, newly made; a Tensor if boxes is one. Dtype of boxes; integers become float32 where
        a length is halved.

    Raises:
        ShapeError: There are not four or six numbers a box, or a format is none of the three.
        DTypeError: boxes is no array of numbers.
    """
    rank = _rank("box_convert", "boxes", boxes)
    _check_format("box_convert", "in_fmt", in_fmt)
    _check_format("box_convert", "out_fmt", out_fmt)
    first, second = boxes[..., :rank], boxes[..., rank:]
    if in_fmt == out_fmt:
        return cat([first, second], dim=-1)
    if in_fmt == "xywh":
        first, second = first, add(first, second)
    elif in_fmt == "cxcywh":
        half = mul(second, 0.5)
        first, second = sub(first, half), add(first, half)
    if out_fmt == "xywh":
        second = sub(second, first)
    elif out_fmt == "cxcywh":
        first, second = div(add(first, second), 2), sub(second, first)
    return cat([first, second], dim=-1)


def box_iou(boxes1, boxes2, fmt="xyxy"):
    """Intersection over union of every pair of boxes, as torchvision.ops.box_iou.

    Args:
        boxes1: [..., N, 4], or [..., N, 6] in three axes.
        boxes2: [..., M, 4] or [..., M, 6].
        fmt: Format of both, see box_convert.

    Returns:
        [..., N, M]; NaN for two boxes without area; in float32 for halves and integers; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not go together, or fmt is none of the formats.
        DTypeError: An argument is no array of numbers.
        DeviceError: The arrays live on different devices.
    """
    _check_pairs("box_iou", boxes1, boxes2)
    _check_format("box_iou", "fmt", fmt)
    inter, union = _overlaps(boxes1, boxes2, fmt)
    return div(inter, union)


def generalized_box_iou(boxes1, boxes2):
    """Generalised intersection over union of every pair of boxes, as torchvision.ops.generalized_box_iou.

    It is the intersection over union, less the share of the smallest box around both that neither covers.

    Args:
        boxes1: [..., N, 4], or [..., N, 6] in three axes: corners.
        boxes2: [..., M, 4] or [..., M, 6].

    Returns:
        [..., N, M], from -1 to 1; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not go together.
        DTypeError: An argument is no array of numbers.
        DeviceError: The arrays live on different devices.

    Source: Rezatofighi et al., arXiv:1902.09630.
    """
    _check_pairs("generalized_box_iou", boxes1, boxes2)
    inter, union = _overlaps(boxes1, boxes2, "xyxy")
    around = _product(_sides_around(boxes1, boxes2))
    return sub(div(inter, union), div(sub(around, union), around))


def distance_box_iou(boxes1, boxes2, eps=1e-7):
    """Intersection over union less a distance of centres, of every pair, as torchvision.ops.distance_box_iou.

    Subtracted is the square of the distance over that of the diagonal of the smallest box around both.

    Args:
        boxes1: [..., N, 4], or [..., N, 6] in three axes: corners.
        boxes2: [..., M, 4] or [..., M, 6].
        eps: Added to the divisor.

    Returns:
        [..., N, M]; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not go together.
        DTypeError: An argument is no array of numbers, or eps no number.
        DeviceError: The arrays live on different devices.

    Source: Zheng et al., arXiv:1911.08287.
    """
    _check_pairs("distance_box_iou", boxes1, boxes2)
    return _distance_iou(upcast(boxes1), upcast(boxes2), as_number("distance_box_iou", "eps", eps))[0]


def complete_box_iou(boxes1, boxes2, eps=1e-7):
    """distance_box_iou less a difference of shapes, of every pair of boxes, as torchvision.ops.complete_box_iou.

    Args:
        boxes1: [..., N, 4], corners; width over height has no counterpart in three axes.
        boxes2: [..., M, 4].
        eps: Added to divisors.

    Returns:
        [..., N, M]; a Tensor if an argument is one. No gradient flows through the factor of the difference.

    Raises:
        ShapeError: The shapes do not go together.
        DTypeError: An argument is no array of numbers, or eps no number.
        DeviceError: The arrays live on different devices.

    Source: Zheng et al., arXiv:1911.08287.
    """
    name = "complete_box_iou"
    _check_pairs(name, boxes1, boxes2)
    check_two_axes(name, "boxes1", boxes1)
    eps = as_number(name, "eps", eps)
    boxes1, boxes2 = upcast(boxes1), upcast(boxes2)
    distance, iou = _distance_iou(boxes1, boxes2, eps)
    shape1, shape2 = _shape(boxes1), _shape(boxes2)
    return sub(distance, shape_penalty(name, sub(shape1[..., None], shape2[..., None, :]), iou, eps))


def remove_small_boxes(boxes, min_size):
    """Which boxes have no side shorter than a length, as torchvision.ops.remove_small_boxes.

    Args:
        boxes: [N, 4], or [N, 6] in three axes: corners.
        min_size: The shortest length that is kept.

    Returns:
        [K] int64, the positions of these boxes; a Tensor if boxes is one. How many there are depends on the values: on
        a GPU this is one of the few calls that wait for it.

    Raises:
        ShapeError: boxes is of another shape.
        DTypeError: boxes is no array of numbers, or min_size no number.
    """
    name = "remove_small_boxes"
    rank = _rank(name, "boxes", boxes)
    x, limit = raw(boxes), as_number(name, "min_size", min_size)
    if x.ndim != 2:
        raise ShapeError(name, "boxes", list(x.shape), "[N, 4] or [N, 6]")
    xp = namespace_of(x)
    long = raw(sub(x[:, rank:], x[:, :rank])) >= limit
    kept = functools.reduce(lambda a, b: a & b, (long[:, i] for i in range(rank)))
    return wrapped(xp.nonzero(kept)[0].astype("int64", copy=False), boxes)


def clip_boxes_to_image(boxes, size):
    """Boxes cut off at the edges of an image or volume, as torchvision.ops.clip_boxes_to_image.

    Args:
        boxes: [..., 4], or [..., 6] in three axes: corners.
        size: (height, width), or (depth, height, width).

    Returns:
        The shape and dtype of boxes; a Tensor if boxes is one.

    Raises:
        ShapeError: There are not four or six numbers a box, or not as many sizes as axes.
        DTypeError: boxes is no array of numbers, or a size no number.
    """
    name = "clip_boxes_to_image"
    rank = _rank(name, "boxes", boxes)
    if not isinstance(size, (tuple, list)) or len(size) != rank:
        raise ShapeError(name, "size", size if isinstance(size, (tuple, list)) else describe(size), f"{rank} sizes")
    limits = [as_number(name, "size", s) for s in reversed(size)]
    axes = [clamp(boxes[..., i::rank], min=0, max=limit) for i, limit in enumerate(limits)]
    return reshape(stack(axes, dim=-1), raw(boxes).shape)


def masks_to_boxes(masks):
    """The smallest boxes around masks, as torchvision.ops.masks_to_boxes.

    Args:
        masks: [N, H, W], or [N, D, H, W] for volumes: what is not 0 belongs to the mask.

    Returns:
        [N, 4] or [N, 6] float32, corners, both of them positions that belong to the mask; zeros for an empty mask, and
        no box at all where masks has no element. A Tensor if masks is one.

    Raises:
        ShapeError: masks has another number of axes.
        DTypeError: masks is no array of numbers or bools.
    """
    x = array("masks_to_boxes", "masks", masks)
    if x.ndim not in (3, 4):
        raise ShapeError("masks_to_boxes", "masks", list(x.shape), "[N, H, W] or [N, D, H, W]")
    xp, rank = namespace_of(x), x.ndim - 1
    if x.size == 0:
        return wrapped(xp.zeros((0, 2 * rank), "float32"), masks)
    inside = x != 0
    first, last = [], []
    for axis in reversed(range(1, x.ndim)):
        others = tuple(i for i in range(1, x.ndim) if i != axis)
        along = inside.any(axis=others).astype("int8")
        first.append(xp.argmax(along, axis=1))
        last.append(x.shape[axis] - 1 - xp.argmax(xp.flip(along, 1), axis=1))
    boxes = xp.stack([*first, *last], axis=1).astype("float32")
    some = inside.any(axis=tuple(range(1, x.ndim)))
    return wrapped(xp.where(some[:, None], boxes, xp.float32(0)), masks)


def upcast(boxes):
    """Boxes in what their areas are computed in: float32 for halves, int32 for smaller integers."""
    dtype = raw(boxes).dtype
    if is_float(raw(boxes)):
        return cast(boxes, accumulator(dtype))
    return boxes if dtype.name in ("int32", "int64") else cast(boxes, "int32")


def shape_penalty(name, difference, iou, eps):
    """alpha * v of a difference of shapes, its factor alpha without a gradient."""
    v = mul(square(difference), 4 / math.pi**2)
    with no_grad():
        alpha = div(v, add(add(sub(1, iou), v), eps))
    return mul(alpha, v)


def angle(x):
    """The arc tangent."""
    plain = raw(x)
    xp = namespace_of(plain)
    with quiet():
        y = xp.asarray(xp.arctan(plain))
    return record("atan", y, (x,), lambda dy, _: (lambda: div(dy, add(square(x), 1)),), (x,))


def check_two_axes(name, argument, boxes):
    """Refuse boxes of volumes."""
    if raw(boxes).shape[-1] != 4:
        raise ShapeError(name, argument, list(raw(boxes).shape), "four numbers a box")


def as_number(name, argument, value):
    """value as a Python number.

    Raises:
        DTypeError: It is none.
    """
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    return number(value)


def _rank(name, argument, boxes):
    """How many axes boxes have."""
    x = array(name, argument, boxes)
    if x.dtype.kind == "b":
        raise DTypeError(name, argument, x.dtype.name, "numbers")
    if x.ndim == 0 or x.shape[-1] not in (4, 6):
        raise ShapeError(name, argument, list(x.shape), "[..., 4] or [..., 6]")
    return x.shape[-1] // 2


def _check_format(name, argument, value):
    if value not in FORMATS:
        raise ShapeError(name, argument, repr(value), " or ".join(map(repr, FORMATS)))


def _check_pairs(name, boxes1, boxes2):
    ranks = _rank(name, "boxes1", boxes1), _rank(name, "boxes2", boxes2)
    shapes = raw(boxes1).shape, raw(boxes2).shape
    if ranks[0] != ranks[1]:
        raise ShapeError(name, "boxes2", list(shapes[1]), f"{2 * ranks[0]} numbers a box, as boxes1 has")
    for argument, shape in zip(("boxes1", "boxes2"), shapes, strict=True):
        if len(shape) < 2:
            raise ShapeError(name, argument, list(shape), "[..., N, 4] or [..., N, 6]")
    batches = {"boxes1": numpy.empty((*shapes[0][:-2], 0)), "boxes2": numpy.empty((*shapes[1][:-2], 0))}
    check_broadcast(name, batches)


def _product(sides):
    return functools.reduce(mul, (sides[..., i] for i in range(sides.shape[-1])))


def _corners(boxes, fmt):
    """The corners of the smallest and of the largest coordinates."""
    rank = boxes.shape[-1] // 2
    first, second = boxes[..., :rank], boxes[..., rank:]
    if fmt == "xyxy":
        return first, second
    if fmt == "xywh":
        return first, add(first, second)
    half = div(second, 2)
    return sub(first, half), add(first, half)


def _overlaps(boxes1, boxes2, fmt):
    """Areas of the intersection and of the union of every pair."""
    area1, area2 = box_area(boxes1, fmt), box_area(boxes2, fmt)
    (low1, high1), (low2, high2) = _corners(boxes1, fmt), _corners(boxes2, fmt)
    low = maximum(low1[..., :, None, :], low2[..., None, :, :])
    high = minimum(high1[..., :, None, :], high2[..., None, :, :])
    inter = _product(clamp(upcast(sub(high, low)), min=0))
    return inter, sub(add(area1[..., :, None], area2[..., None, :]), inter)


def _sides_around(boxes1, boxes2):
    """Sides of the smallest box around both of every pair."""
    (low1, high1), (low2, high2) = _corners(boxes1, "xyxy"), _corners(boxes2, "xyxy")
    low = minimum(low1[..., :, None, :], low2[..., None, :, :])
    high = maximum(high1[..., :, None, :], high2[..., None, :, :])
    return clamp(upcast(sub(high, low)), min=0)


def _distance_iou(boxes1, boxes2, eps):
    """distance_box_iou and box_iou of boxes that are wide."""
    iou = box_iou(boxes1, boxes2)
    sides = square(_sides_around(boxes1, boxes2))
    (low1, high1), (low2, high2) = _corners(boxes1, "xyxy"), _corners(boxes2, "xyxy")
    centre1, centre2 = div(add(low1, high1), 2), div(add(low2, high2), 2)
    apart = square(sub(centre1[..., :, None, :], centre2[..., None, :, :]))
    return sub(iou, div(_total(apart), add(_total(sides), eps))), iou


def _total(terms):
    return functools.reduce(add, (terms[..., i] for i in range(terms.shape[-1])))


def _shape(boxes):
    """The angle whose tangent is width over height."""
    return angle(div(sub(boxes[..., 2], boxes[..., 0]), sub(boxes[..., 3], boxes[..., 1])))
