"""Reference non-maximum suppression.

For boxes with the corners a and b, from the best to the worst,

    side  = max(min(b[i], b[j]) - max(a[i], a[j]), 0) on each axis, 0 where that is NaN
    inter = the product of the sides, area[i] = the product of b[i] - a[i]
    j is dropped if inter / (area[i] + area[j] - inter) > threshold for an i that is kept

A pair may lie at the threshold, so that these roundings are the contract: each operation above is rounded once, to
float64 for float64 and to float32 otherwise, in the order of the axes. Source: torchvision/csrc/ops/cpu/nms_kernel.cpp.
"""

import functools

import numpy

from fastconv.arrays import accumulator


@numpy.errstate(all="ignore")
def nms(boxes, order, groups, iou_threshold):
    """The entries of order [N] int64, positions of boxes [N, 4] or [N, 6], that are kept."""
    number, axes = accumulator(boxes.dtype), boxes.shape[1] // 2
    sorted_ = boxes.astype(number, "C")[order]
    low, high = sorted_[:, :axes], sorted_[:, axes:]
    groups = numpy.zeros(order.size, numpy.int64) if groups is None else groups[order]
    areas = _product(high - low)
    threshold = float(iou_threshold)
    kept = numpy.ones(order.size, bool)
    for i in range(order.size):
        if kept[i]:
            rest = slice(i + 1, None)
            sides = numpy.minimum(high[i], high[rest]) - numpy.maximum(low[i], low[rest])
            inter = _product(numpy.where(sides > 0, sides, number.type(0)))
            overlap = (inter / ((areas[i] + areas[rest]) - inter)).astype(numpy.float64)
            kept[rest] &= ~((overlap > threshold) & (groups[rest] == groups[i]))
    return order[kept].astype(numpy.int64)


def _product(sides):
    return functools.reduce(numpy.multiply, (sides[:, i] for i in range(sides.shape[1])))
