"""Non-maximum suppression on a GPU: a bit for each pair of boxes that overlaps, then one block that selects.

The matrix of bits is made in passes over its rows that fit max_workspace; without any, the one block that selects
computes overlaps itself. The length of the result is known to the GPU alone: it is the one thing that is waited for.
"""

from fastconv.arrays import accumulator
from fastconv.boxes import rounded_down
from fastconv.cuda.layout import dense
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace

_BLOCK = 64  # boxes a row of bits names in one word


def nms(boxes, order, groups, iou_threshold):
    """The entries of order that are kept; see fastconv.backend."""
    with launch("nms", boxes) as gpu:
        order, groups = dense(gpu, order), dense(gpu, groups)
        sorted_ = dense(gpu, boxes)[order].astype(accumulator(boxes.dtype))
        corners = dense(gpu, sorted_.T)
        groups = None if groups is None else groups[order]
        count, axes = order.size, boxes.shape[1] // 2
        kept, length = gpu.empty((count,), order.dtype), gpu.empty((1,), order.dtype)
        if not count:
            return kept
        blocks = -(-count // _BLOCK)
        rows = min(get_max_workspace() // (blocks * _BLOCK * 8), blocks)
        mask = gpu.workspace((rows * _BLOCK * blocks,), "int64") if rows else None
        problem = gpu.dtype(corners), axes, gpu.read(corners), gpu.read(groups), gpu.write(mask)
        results = gpu.read(order), gpu.write(kept), gpu.write(length)
        threshold = float(rounded_down(iou_threshold, corners.dtype))
        for first in range(0, blocks, rows or blocks):
            part = count, first, min(rows or blocks, blocks - first), threshold, gpu.stream
            if rows:
                gpu.extension.nms_mask(*problem, *part)
            gpu.extension.nms_select(*problem, *results, *part)
        return kept[: int(length[0])]
