"""Non-maximum suppression: a word for each box and each 64 boxes, and the block that selects."""

import numpy

from bench.gates.row import Row
from fastconv import cuda

# Coordinates of one axis are brought together from boxes of four or six of them, once, before all else.
_ROWS_OF_BOXES = 4.0


def rows():
    """Rows of boxes of images and of volumes, most of which are kept."""
    for axes in (2, 3):
        for dtype in ("float32", "float64"):

            def arguments(axes=axes, dtype=dtype):
                rng = numpy.random.default_rng(0)
                low = rng.uniform(0, 300, (512, axes))
                boxes = numpy.concatenate([low, low + rng.uniform(5, 60, low.shape)], axis=1).astype(dtype)
                return boxes, numpy.arange(512)

            # The matrix of words is memory of its own, as large as the square of the boxes.
            yield Row(f"nms {axes} axes {dtype}", arguments, _kept, bytes=None, sectors=_ROWS_OF_BOXES)


def _kept(boxes, order):
    return cuda.nms(boxes, order, None, 0.5)
