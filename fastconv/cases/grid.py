"""Cases of sampling at the points of a grid, forward and back."""

import math

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE
from fastconv.grid import taps_of

# N, C, size, output size
SIZES = [
    (1, 1, (1, 1), (1, 1)),
    (2, 13, (5, 4), (3, 7)),
    (3, 3, (1, 6), (4, 5)),
    (2, 8, (9, 7), (2, 3)),
    (0, 3, (4, 5), (2, 2)),
    (1, 3, (3, 4), (0, 2)),
    (2, 5, (3, 2, 4), (2, 3, 3)),
    (1, 9, (2, 5, 1), (3, 2, 4)),
]
STORED_SIZE = (2, 3, (5, 4), (4, 6))
SHARED_SIZE = (2, 5, (12, 11), (100, 101))

# mode, padding_mode, align_corners
RULES = [
    ("bilinear", "zeros", False),
    ("bilinear", "border", True),
    ("bilinear", "reflection", False),
    ("bilinear", "reflection", True),
    ("nearest", "zeros", True),
    ("nearest", "reflection", False),
    ("bicubic", "zeros", False),
    ("bicubic", "border", False),
    ("bicubic", "reflection", True),
]
STORED_RULES = [("bilinear", "border", False)]
SPECIAL_RULES = [("bicubic", "zeros", True), ("nearest", "border", False)]
SHARED_RULES = [("bilinear", "reflection", False)]
# mode, padding_mode, align_corners, and how often the weights are differentiated by each coordinate
DERIVED = [("bilinear", "reflection", False, (1, 0)), ("bicubic", "border", True, (0, 2)),
           ("bicubic", "zeros", False, (1, 1))]  # fmt: skip


def cases():
    """Cases of grid_sample_forward, grid_sample_input_grad and grid_sample_grid_grad."""
    for i, row in enumerate(SIZES):  # each with every fifth rule, so that every rule has a size of images
        yield from _cases(row, RULES[i % 5 :: 5], quick=row[0] > 0)
    yield from _cases(STORED_SIZE, STORED_RULES, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(STORED_SIZE, SPECIAL_RULES, fills=("normal", "special"), quick=True)
    yield from _cases(SHARED_SIZE, SHARED_RULES, quick=True)
    for *rule, orders in DERIVED:
        yield from _cases(STORED_SIZE, [rule], orders, quick=True)


def label(row, mode, padding_mode, align_corners, orders):
    """A row in words, such as 2x3x5x4 to 4x6 bilinear zeros."""
    n, channels, size, output = row
    text = f"{by((n, channels, *size))} to {by(output)} {mode} {padding_mode}"
    text += " corners aligned" if align_corners else ""
    return text + (f" differentiated {'+'.join(map(str, orders))}" if any(orders) else "")


def _cases(row, rules, orders=None, **how):
    n, channels, size, output = row
    orders = orders or (0,) * len(size)
    for mode, padding_mode, align_corners in rules:
        if mode == "bicubic" and len(size) == 3:
            continue
        rule = mode, padding_mode, align_corners, orders
        text = label(row, *rule)
        work = n * channels * math.prod(output) * taps_of(mode) ** len(size)

        def forward(draw, rule=rule):
            return draw.data(n, channels, *size), draw.coordinates(n, *output, len(size)), *rule

        def input_grad(draw, rule=rule):
            return draw.data(n, channels, *output), draw.coordinates(n, *output, len(size)), size, *rule

        def grid_grad(draw, rule=rule):
            x, dy = draw.data(n, channels, *size), draw.data(n, channels, *output)
            return dy, x, draw.coordinates(n, *output, len(size)), *rule

        yield from cross("grid_sample_forward", text, forward, work, **how)
        yield from cross("grid_sample_input_grad", text, input_grad, work, **how)
        yield from cross("grid_sample_grid_grad", text, grid_grad, work, **how)
