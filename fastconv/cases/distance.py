"""Cases of vectors over their length, forward and back."""

import math

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# shape, axis
AXES = [
    ((1,), 0),
    ((3, 10), 1),
    ((13, 5), 0),
    ((2, 5, 3, 7), 1),
    ((2, 1, 3), 1),
    ((3, 0, 2), 0),
    ((3, 0, 2), 1),
    ((2, 2065), 1),
    ((1100, 3), 0),
    ((2, 3, 139), 1),
]
STORED = ((2, 5, 3, 7), 1)
SHARED = ((70, 1003), 1)

EPS = 1e-12


def cases():
    """Cases of normalize_forward and normalize_grad."""
    for shape, axis in AXES:
        yield from _cases(shape, axis, EPS, quick=0 not in shape)
    yield from _cases((3, 10), 1, 100.0, "short ", quick=True)  # all of them shorter than eps
    yield from _cases(*STORED, EPS, "stored ", fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(*SHARED, EPS, quick=True)


def _cases(shape, axis, eps, words="", **how):
    text, work = f"{words}{by(shape)} along {axis}", math.prod(shape) * shape[axis]
    yield from cross("normalize_forward", text, lambda draw: (draw.data(*shape), axis, eps), work, **how)
    yield from cross(
        "normalize_grad", text, lambda draw: (draw.normal(*shape), draw.data(*shape), axis, eps), work, **how
    )
