"""Cases of softmax, forward and back."""

import math

from fastconv import reference
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
STORED = [((2, 5, 3, 7), 1), ((2, 5, 3, 7), 3)]
SHARED = ((70, 1003), 1)


def cases():
    """Cases of softmax_forward and softmax_input_grad."""
    for shape, axis in AXES:
        yield from _cases(shape, axis, quick=0 not in shape)
    for shape, axis in STORED:
        yield from _cases(shape, axis, "stored ", fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(*SHARED, quick=True)


def _cases(shape, axis, words="", **how):
    for log in (False, True):
        text = f"{words}{by(shape)} along {axis}" + (", log" if log else "")

        def forward(draw, log=log):
            return draw.data(*shape), axis, log

        def input_grad(draw, log=log):
            return draw.normal(*shape), reference.softmax_forward(draw.data(*shape), axis, log), axis, log

        work = math.prod(shape) * shape[axis]
        yield from cross("softmax_forward", text, forward, work, **how)
        yield from cross("softmax_input_grad", text, input_grad, work, **how)
