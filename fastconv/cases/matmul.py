"""Cases of the matrix product."""

import math

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# Leading axes, M, L, K: around the tiles of the CPU kernels (14 x 32, 6 x 16 and 12 x 8) and blocks
SHAPES = [
    ((), 1, 1, 1),
    ((), 5, 7, 3),
    ((), 13, 31, 33),
    ((), 14, 16, 32),
    ((), 1, 513, 1),
    ((), 129, 17, 1),
    ((), 1, 5, 225),
    ((), 130, 300, 70),
    ((), 3, 0, 4),  # sums of nothing
    ((), 0, 3, 4),
    ((), 4, 3, 0),
    ((3,), 15, 9, 17),
    ((2, 3), 4, 5, 1),
    ((0,), 4, 5, 6),
    ((2, 0), 4, 5, 6),
]
STORED = [((), 6, 5, 7), ((2, 2), 3, 4, 5)]
SHARED = ((), 257, 255, 131)


def cases():
    """Cases of matmul."""
    for row in SHAPES:
        yield from _cases(row, storages=("transposed", "mixed"), quick=True)
    for row in STORED:
        yield from _cases(row, fills=("normal", "special"), storages=(*EVERY_STORAGE, "transposed"), quick=True)
    yield from _cases(SHARED, storages=("transposed",), quick=True)


def _cases(row, **how):
    lead, m, length, k = row

    def make(draw):
        return draw.data(*lead, m, length), draw.normal(*lead, length, k)

    text = f"{by((*lead, m, length))} @ {by((*lead, length, k))}"
    yield from cross("matmul", text, make, math.prod((*lead, m, length, k)), **how)
