"""Cases of resizing, forward and back."""

import math

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

# mode, align_corners
RULES = [("nearest", False), ("nearest-exact", False), ("linear", False), ("linear", True)]


def cases():
    """Cases of resize_forward and resize_input_grad."""
    for row in SIZES:
        yield from _cases(row, quick=row[0] > 0)
    yield from _cases(STORED_SIZE, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SIZE, quick=True)


def label(row, mode, align_corners):
    """A row in words, such as 2x3x5x6 to 10x12 linear."""
    n, channels, size, output, scales = row
    text = f"{by((n, channels, *size))} to {by(output)} {mode}"
    text += " corners aligned" if align_corners else ""
    return text + (f" by {by(scales)}" if scales else "")


def work_of(row, mode):
    """Entries that loops over single elements visit."""
    n, channels, size, output, _ = row
    return n * channels * math.prod(output) * (2 if mode == "linear" else 1) ** len(size)


def lengths(row, mode):
    """Most products of an element of the result, and of one of the gradient."""
    _, _, size, output, _ = row
    taps = 2 if mode == "linear" else 1
    return taps ** len(size), math.prod(taps * (-(-o // s) + 1) for s, o in zip(size, output, strict=True))


def _cases(row, **how):
    n, channels, size, output, scales = row
    for mode, align_corners in RULES:
        text = label(row, mode, align_corners)

        def forward(draw, mode=mode, align_corners=align_corners):
            return draw.data(n, channels, *size), output, mode, align_corners, scales

        def input_grad(draw, mode=mode, align_corners=align_corners):
            return draw.data(n, channels, *output), size, mode, align_corners, scales

        yield from cross("resize_forward", text, forward, work_of(row, mode), **how)
        yield from cross("resize_input_grad", text, input_grad, work_of(row, mode), **how)
