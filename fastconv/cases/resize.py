"""Cases of resizing, forward and back."""

import math

import numpy

from fastconv import resize
from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# N, C, size, output size, scale factors or None
SIZES = [
    (1, 1, (1,), (1,), None),
    (2, 13, (17,), (5,), None),
    (2, 3, (3,), (7,), (2.4,)),
    (2, 3, (5, 6), (10, 12), (2.0, 2.0)),
    (1, 33, (4, 3), (9, 1), None),
    (2, 3, (4, 5), (4, 5), None),  # nothing to do
    (3, 5, (7, 9), (2, 13), None),
    (0, 3, (4, 5), (2, 2), None),
    (1, 3, (3, 4, 5), (6, 8, 10), (2.0, 2.0, 2.0)),
    (2, 5, (5, 2, 3), (3, 4, 3), None),
]
STORED_SIZE = (2, 3, (5, 4), (7, 9), None)
SHARED_SIZE = (2, 11, (40, 41), (80, 82), (2.0, 2.0))

# Sizes that the modes of more neighbours are tried with: narrower and wider, none and two at once
FILTERED_SIZES = [SIZES[i] for i in (1, 3, 6, 7, 9)]

# mode, align_corners
RULES = [("nearest", False), ("nearest-exact", False), ("linear", False), ("linear", True)]
FILTERS = [
    ("cubic", False), ("linear-antialias", False), ("cubic", True), ("cubic-antialias", True),
    ("lanczos-antialias", False),
]  # fmt: skip


def cases():
    """Cases of resize_forward and resize_input_grad."""
    for row in SIZES:
        yield from _cases(row, RULES, quick=row[0] > 0)
    for row in FILTERED_SIZES:
        yield from _cases(row, FILTERS, quick=row[0] > 0)
    stored = dict(fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(STORED_SIZE, [*RULES, *FILTERS[:2]], **stored)
    yield from _cases(SHARED_SIZE, RULES, quick=True)


def label(row, mode, align_corners):
    """A row in words, such as 2x3x5x6 to 10x12 linear."""
    n, channels, size, output, scales = row
    text = f"{by((n, channels, *size))} to {by(output)} {mode}"
    text += " corners aligned" if align_corners else ""
    return text + (f" by {by(scales)}" if scales else "")


def work_of(row, *rule):
    """Entries that loops over single elements visit."""
    n, channels = row[:2]
    return n * channels * math.prod(taps.share.size for taps in _taps(row, *rule))


def lengths(row, *rule):
    """Most products of an element of the result, and of one of the gradient."""
    taps = _taps(row, *rule)
    return tuple(math.prod(int(numpy.bincount(getattr(t, at)).max()) for t in taps) for at in ("output", "input"))


def _taps(row, *rule):
    _, _, size, output, scales = row
    return [resize.taps(axis) for axis in resize.axes(size, output, *rule, scales, numpy.dtype("float32"))]


def _cases(row, rules, **how):
    n, channels, size, output, scales = row
    for mode, align_corners in rules:
        text, work = label(row, mode, align_corners), work_of(row, mode, align_corners)

        def forward(draw, mode=mode, align_corners=align_corners):
            return draw.data(n, channels, *size), output, mode, align_corners, scales

        def input_grad(draw, mode=mode, align_corners=align_corners):
            return draw.data(n, channels, *output), size, mode, align_corners, scales

        yield from cross("resize_forward", text, forward, work, **how)
        yield from cross("resize_input_grad", text, input_grad, work, **how)
