"""Cases of local response normalisation, forward and back."""

import math

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# shape, (size, alpha, beta, k)
PROBLEMS = [
    ((2, 1, 5), (5, 1.0, 0.75, 1.0)),
    ((3, 7, 4), (3, 2.0, 0.5, 0.5)),
    ((2, 6, 3, 5), (4, 1.0, 0.75, 1.0)),
    ((2, 5, 2, 3, 2), (2, 1.0, 1.0, 2.0)),
    ((1, 3, 7), (9, 1.0, 1.25, 0.1)),
    ((1, 37, 259), (5, 0.5, 0.75, 1.0)),
    ((0, 3, 4), (3, 1.0, 0.75, 1.0)),
    ((2, 0, 4), (3, 1.0, 0.75, 1.0)),
]
STORED = ((2, 5, 3, 7), (3, 0.5, 0.75, 1.0))
SHARED = ((2, 16, 61, 63), (5, 1e-4, 0.75, 1.0))


def cases():
    """Cases of response_norm_forward and response_norm_input_grad."""
    for shape, numbers in PROBLEMS:
        yield from _cases(shape, numbers, quick=0 not in shape)
    yield from _cases(*STORED, "stored ", fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(*SHARED, quick=True)


def _cases(shape, numbers, words="", **how):
    text, work = f"{words}{by(shape)} by {numbers}", math.prod(shape) * numbers[0] ** 2
    yield from cross("response_norm_forward", text, lambda draw: (draw.data(*shape), *numbers), work, **how)
    yield from cross(
        "response_norm_input_grad", text, lambda draw: (draw.normal(*shape), draw.data(*shape), *numbers), work, **how
    )
