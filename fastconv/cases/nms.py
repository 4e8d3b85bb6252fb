"""Cases of non-maximum suppression."""

import numpy

from fastconv.cases.case import cross
from fastconv.cases.storage import EVERY_STORAGE

# Boxes, axes, categories or 0 for no groups, threshold. Blocks of 64 boxes meet in kernels.
PROBLEMS = [
    (0, 2, 0, 0.5),
    (1, 2, 0, 0.5),
    (5, 3, 2, 0.3),
    (63, 2, 0, 0.4),
    (64, 2, 0, 0.0),
    (65, 2, 3, 0.5),
    (130, 3, 0, 0.2),
    (200, 2, 7, 0.7),
    (40, 2, 0, -1.0),
    (40, 2, 0, 1.0),
]
STORED = (70, 2, 2, 0.3)
SHARED = (2500, 2, 0, 0.6)
_EXTENT = 40.0


def cases():
    """Cases of nms."""
    for row in PROBLEMS:
        yield from _cases(row, quick=row[0] > 0)
    yield from _cases(STORED, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED, quick=False)


def boxes(draw, count, axes, extent=_EXTENT):
    """Boxes in the dtype of the case, a third of them on whole numbers, so that some are equal; as "special" some
    have coordinates that are infinite or NaN, and some have none of their corners in order."""
    low = draw.generator.uniform(0, extent, (count, axes))
    corners = numpy.concatenate([low, low + draw.generator.uniform(1, extent / 4, (count, axes))], axis=1)
    corners[::3] = corners[::3].round()
    if draw.fill == "special":
        corners.flat[::29], corners.flat[17::41] = numpy.nan, numpy.inf
        corners[5::11] = corners[5::11, ::-1]
    return corners.astype(draw.dtype)


def _cases(row, **how):
    count, axes, categories, threshold = row
    text = f"{count} boxes, {axes} axes, above {threshold}"
    text += f", {categories} categories" if categories else ""

    def make(draw):
        chosen = boxes(draw, count, axes)
        groups = draw.generator.integers(0, categories, count) if categories else None
        return chosen, draw.generator.permutation(count), groups, threshold

    yield from cross("nms", text, make, count * count, **how)
