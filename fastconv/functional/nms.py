"""Non-maximum suppression: of boxes that overlap, the one with the highest score."""

import math

import numpy

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, namespace_of
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.functional.box import as_number
from fastconv.functional.operands import accumulator, array, wrapped


def nms(boxes, scores, iou_threshold):
    """Which boxes remain once every one that overlaps a better one too much is dropped, as torchvision.ops.nms.

    From the highest score to the lowest, a box is kept unless its intersection over union with one that was kept
    already is more than the threshold. Of equal scores the first counts as higher, on every device; NaN is the highest
    score, as in sorting by PyTorch. A box with a coordinate that is NaN, and one without area, overlaps nothing.

    Args:
        boxes: [N, 4], or [N, 6] for volumes: corners, those of the smallest coordinates first.
        scores: [N], dtype of boxes.
        iou_threshold: A number. Nothing is dropped from 1 on; below 0, all that comes after a box with some area is.

    Returns:
        [K] int64, the positions of the boxes that are kept, the best first; a Tensor if an argument is one. How many
        there are depends on the values: on a GPU this is one of the few calls that wait for it.

    Raises:
        ShapeError: boxes or scores is of another shape, or iou_threshold is NaN.
        DTypeError: The dtypes differ or are not floating, or iou_threshold is no number.
        DeviceError: The arrays live on different devices.
    """
    return _suppressed("nms", boxes, scores, None, iou_threshold)


def batched_nms(boxes, scores, idxs, iou_threshold):
    """nms within each category by itself, as torchvision.ops.batched_nms.

    Categories are told apart by their indices alone. Where torchvision moves the boxes of each category far from those
    of the others, which rounds their coordinates, a pair at the threshold may come out differently.

    Args:
        boxes: [N, 4], or [N, 6] for volumes: corners, those of the smallest coordinates first.
        scores: [N], dtype of boxes.
        idxs: [N], the category of each box: integers, or floats as torchvision also takes.
        iou_threshold: As for nms.

    Returns:
        [K] int64, the positions of the boxes that are kept, the best of all categories first; a Tensor if an argument
        is one. On a GPU this waits, as nms does.

    Raises:
        ShapeError: boxes, scores or idxs is of another shape, or iou_threshold is NaN.
        DTypeError: The dtypes differ or are not floating, idxs is no array, or iou_threshold is no number.
        DeviceError: The arrays live on different devices.
    """
    return _suppressed("batched_nms", boxes, scores, idxs, iou_threshold)


def _suppressed(name, boxes, scores, idxs, iou_threshold):
    b, s = raw(boxes), raw(scores)
    check_float(name, "boxes", b)
    check_same_dtype(name, "scores", s, "boxes", b)
    if b.ndim != 2 or b.shape[1] not in (4, 6):
        raise ShapeError(name, "boxes", list(b.shape), "[N, 4] or [N, 6]")
    _check_each(name, "scores", s, b)
    threshold = as_number(name, "iou_threshold", iou_threshold)
    if math.isnan(threshold):
        raise ShapeError(name, "iou_threshold", threshold, "a number that is not NaN")
    groups = None
    if idxs is not None:
        groups = array(name, "idxs", idxs)
        _check_each(name, "idxs", groups, b)
        groups = _numbered(groups)
    kept = backend.of(b, s, groups).nms(b, _descending(s), groups, float(threshold))
    return wrapped(kept, boxes, scores, idxs)


def _check_each(name, argument, value, boxes):
    if value.shape != boxes.shape[:1]:
        raise ShapeError(name, argument, list(value.shape), f"[{boxes.shape[0]}], one a box")


def _numbered(idxs):
    """An int64 for each index, equal where the indices are."""
    if idxs.dtype.kind in "biu":
        return idxs.astype("int64")
    return (idxs.astype("float64") + 0.0).view("int64")  # by their bits; the sum makes one of both zeros


def _descending(scores):
    """Positions of scores from the highest to the lowest, equal ones in their order, NaN first."""
    xp = namespace_of(scores)
    backwards = xp.flip(scores, 0).astype(accumulator(scores.dtype))
    order = xp.argsort(backwards, kind="stable") if xp is numpy else xp.argsort(backwards)  # CuPy's is stable
    return xp.flip(scores.shape[0] - 1 - order, 0)
