"""Non-maximum suppression on the CPU: every box against those kept so far, sixty-four of them at once.

Boxes lie in memory by category and in each from the best to the worst. They are taken in rounds: all of a round are
first compared with what earlier rounds kept, which any number of threads can share, and then, category by category,
with what the round itself keeps. A box that is dropped is done with at the first group of kept ones that overlaps it.
"""

import numpy as np

from fastconv.arrays import accumulator
from fastconv.boxes import rounded_down
from fastconv.cpu.jit import exact, get, inline, kernel, select
from fastconv.cpu.threads import parallel_for

_ROUND = 1024  # boxes of a category in a round
_CHUNK = 64  # boxes that a task compares, and kept ones between two looks at the outcome
_SPEED = 2  # pairs in a nanosecond of one thread, roughly


def nms(boxes, order, groups, iou_threshold):
    """The entries of order that are kept; see fastconv.backend."""
    order = np.ascontiguousarray(order, np.int64)
    count = order.size
    if groups is None:
        sorting, starts = np.arange(count), np.array([0, count])
    else:
        of_each = np.asarray(groups, np.int64)[order]
        sorting = np.argsort(of_each, kind="stable")
        of_each = of_each[sorting]
        starts = np.concatenate([[0], np.flatnonzero(of_each[1:] != of_each[:-1]) + 1, [count]])
    corners = _corners(boxes, order[sorting])
    survives = _survivors(corners, starts, boxes.shape[1] == 6, rounded_down(iou_threshold, corners.dtype))
    kept = np.zeros(count, bool)
    kept[sorting[survives.view(bool)]] = True
    return order[kept]


def _corners(boxes, places):
    """The coordinates x1 y1 z1 x2 y2 z2 of the boxes at these places, one after the other, flat; z from 0 to 1."""
    axes = boxes.shape[1] // 2
    corners = np.zeros((6, places.size), accumulator(boxes.dtype))
    corners[5] = 1
    chosen = boxes[places]
    for axis in range(axes):
        corners[axis], corners[3 + axis] = chosen[:, axis], chosen[:, axes + axis]
    return corners.reshape(-1)


def _survivors(corners, starts, volumes, threshold):
    """A byte for each box, 1 where it is kept."""
    count = corners.size // 6
    survives = np.ones(count, np.uint8)
    kept, counts = np.empty(7 * count, corners.dtype), np.zeros(starts.size, np.int64)
    lengths = np.diff(starts)
    for begin in range(0, int(lengths.max(initial=0)), _ROUND):
        active = np.flatnonzero(lengths > begin)
        before = counts.copy()
        arguments = corners, starts, active, begin, survives, kept, before, counts, volumes, threshold
        if begin:
            boxes = np.minimum(lengths[active] - begin, _ROUND)
            pairs = float((boxes * before[active]).sum())
            parallel_for(compare_with_kept, active.size * (_ROUND // _CHUNK), pairs / _SPEED, *arguments)
        pairs = float((np.minimum(lengths[active], _ROUND) ** 2).sum()) / 2
        parallel_for(settle, active.size, pairs / _SPEED, *arguments)
    return survives


@kernel
def compare_with_kept(first, last, corners, starts, active, begin, survives, kept, before, counts, volumes, threshold):
    """Drop boxes of a round that overlap one of an earlier round. A task is a chunk of them."""
    for task in range(first, last):
        segment = active[task // (_ROUND // _CHUNK)]
        start = starts[segment]
        at = start + begin + task % (_ROUND // _CHUNK) * _CHUNK
        for j in range(at, min(at + _CHUNK, starts[segment + 1])):
            if meets(corners, j, kept, start, start + before[segment], volumes, threshold):
                survives[j] = 0


@kernel
def settle(first, last, corners, starts, active, begin, survives, kept, before, counts, volumes, threshold):
    """Keep and drop what is left of a round. A task is a category."""
    count = corners.size // 6
    for task in range(first, last):
        segment = active[task]
        start = starts[segment]
        for j in range(start + begin, min(start + begin + _ROUND, starts[segment + 1])):
            if survives[j] == 0:
                continue
            if meets(corners, j, kept, start + before[segment], start + counts[segment], volumes, threshold):
                survives[j] = 0
                continue
            at = start + counts[segment]
            for row in range(6):
                kept[row * count + at] = corners[row * count + j]
            kept[6 * count + at] = area(*_box(corners, count, j))
            counts[segment] += 1


@kernel
def meets(corners, j, kept, first, last, volumes, threshold):
    """Whether box j overlaps one of those that are kept at [first, last)."""
    count = corners.size // 6
    box = _box(corners, count, j)
    size = area(*box)
    zero, one = corners.dtype.type(0), corners.dtype.type(1)
    for start in range(first, last, _CHUNK):
        hits = zero
        if volumes:
            for k in range(start, min(start + _CHUNK, last)):
                x, y, z = side(kept, count, k, 0, box), side(kept, count, k, 1, box), side(kept, count, k, 2, box)
                hits += select(overlap(size, get(kept, 6 * count + k), x, y, z) > threshold, one, zero)
        else:
            for k in range(start, min(start + _CHUNK, last)):
                x, y = side(kept, count, k, 0, box), side(kept, count, k, 1, box)
                hits += select(overlap(size, get(kept, 6 * count + k), x, y, one) > threshold, one, zero)
        if hits > zero:
            return True
    return False


@inline
def _box(corners, count, j):
    return (corners[j], corners[count + j], corners[2 * count + j], corners[3 * count + j], corners[4 * count + j],
            corners[5 * count + j])  # fmt: skip


@inline
def side(kept, count, k, axis, box):
    """Length of the intersection of box and kept box k on an axis."""
    low, high = get(kept, axis * count + k), get(kept, (3 + axis) * count + k)
    low, high = select(low > box[axis], low, box[axis]), select(high < box[3 + axis], high, box[3 + axis])
    return length(low, high, kept.dtype.type(0))


@exact
def length(low, high, zero):
    """high - low, but 0 where that is negative or NaN."""
    difference = high - low
    return select(difference > zero, difference, zero)


@exact
def area(x1, y1, z1, x2, y2, z2):
    """The product of the sides in the order of the axes."""
    return ((x2 - x1) * (y2 - y1)) * (z2 - z1)


@exact
def overlap(area1, area2, x, y, z):
    """Intersection over union."""
    inter = (x * y) * z
    return inter / ((area1 + area2) - inter)
