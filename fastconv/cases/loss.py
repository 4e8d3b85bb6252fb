"""Cases of losses of classes."""

import math

from fastconv import reference
from fastconv.arrays import accumulator
from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# N, C, size
SCORES = [
    (1, 1, ()),
    (6, 5, ()),
    (3, 131, ()),
    (2, 5, (17,)),
    (2, 7, (5, 6)),
    (3, 2, (1, 1)),
    (0, 3, (4,)),
    (0, 3, ()),
    (2, 4, (2, 3, 4)),
    (1, 33, (3, 11)),
]
STORED_SCORES = (2, 6, (4, 5))
SHARED_SCORES = (3, 13, (41, 43))
SHARED_CLASSES = (3, 2, (150, 151))  # positions for two threads where each is one look-up

# Whether classes have factors, the class that does not count, label smoothing
RULES = [(False, -100, 0.0), (True, 1, 0.0), (False, 0, 0.3), (True, -100, 0.1)]


def cases():
    """Cases of cross_entropy_forward, cross_entropy_grad and nll_forward."""
    for row in SCORES:
        yield from _cases(row, quick=row[0] > 0)
        yield from _nll_cases(row, quick=row[0] > 0)
    yield from _nll_cases(STORED_SCORES, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _nll_cases(SHARED_CLASSES, quick=True)
    yield from _cases(STORED_SCORES, fills=("normal", "shifted", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SCORES, fills=("normal", "shifted"), quick=True)


def _nll_cases(row, **how):
    n, classes, size = row
    for weighted, ignore_index in ((False, -100), (True, 1)):
        if ignore_index < classes:

            def make(draw, weighted=weighted, ignore_index=ignore_index):
                x, target = draw.data(n, classes, *size), targets(draw, row, ignore_index)
                return x, target, abs(draw.normal(classes)) if weighted else None, ignore_index

            yield from cross("nll_forward", label(row, weighted, ignore_index, 0), make, n * math.prod(size), **how)


def label(row, weighted, ignore_index, smoothing):
    """A row in words, such as 2x7x5x6 weighted, class 1 ignored, smoothed by 0.3."""
    text = by((row[0], row[1], *row[2])) + (" weighted" if weighted else "")
    text += f", class {ignore_index} ignored" if ignore_index >= 0 else ""
    return text + (f", smoothed by {smoothing}" if smoothing else "")


def targets(draw, row, ignore_index):
    """Classes, one in C + 1 of which is ignore_index or counts by no class's chance."""
    n, classes, size = row
    drawn = draw.indices(classes + 1, n, *size)
    drawn[drawn == classes] = ignore_index if ignore_index < classes else 0
    return drawn


def _cases(row, **how):
    n, classes, size = row
    work = n * classes * math.prod(size) * classes
    for weighted, ignore_index, smoothing in RULES:
        if ignore_index >= classes:
            continue
        text = label(row, weighted, ignore_index, smoothing)

        def forward(draw, weighted=weighted, ignore_index=ignore_index, smoothing=smoothing):
            x, target = draw.data(n, classes, *size), targets(draw, row, ignore_index)
            return x, target, abs(draw.normal(classes)) if weighted else None, ignore_index, smoothing

        def grad(draw, forward=forward):
            x, *rest = forward(draw)
            _, logsumexp = reference.cross_entropy_forward(x, *rest)
            return draw.normal(n, *size).astype(accumulator(x.dtype)), x, logsumexp, *rest

        yield from cross("cross_entropy_forward", text, forward, work, **how)
        yield from cross("cross_entropy_grad", text, grad, work, **how)
