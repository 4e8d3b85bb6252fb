"""Operators of detection by loops over single boxes and elements: see fastconv.cases.loops."""

import numpy

__all__ = ["nms"]


@numpy.errstate(all="ignore")
def nms(boxes, order, groups, iou_threshold):
    """Positions of the boxes that are kept; numbers of NumPy round every step to their dtype."""
    number = numpy.float64 if boxes.dtype.name == "float64" else numpy.float32
    kept = []
    for j in order.tolist():
        rivals = kept if groups is None else [i for i in kept if groups[i] == groups[j]]
        if not any(_overlap(boxes, i, j, number) > iou_threshold for i in rivals):
            kept.append(j)
    return numpy.array(kept, "int64")


def _overlap(boxes, i, j, number):
    axes = boxes.shape[1] // 2
    areas, inter = [number(1), number(1)], number(1)
    for axis in range(axes):
        (a, b), (c, d) = ((number(boxes[k, axis]), number(boxes[k, axes + axis])) for k in (i, j))
        areas = [areas[0] * (b - a), areas[1] * (d - c)]
        side = min(b, d) - max(a, c)
        inter = inter * (side if side > 0 else number(0))
    return float(inter / (areas[0] + areas[1] - inter))
