"""Cases of softmax, glu and prelu, forward and back."""

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


# shape, axis
HALVES = [((2,), 0), ((3, 10), 1), ((6, 5), 0), ((2, 4, 3, 7), 1), ((2, 0, 3), 1), ((2, 2, 139), 1)]
SHARED_HALVES = ((2, 6, 160, 161), 1)

# shape, weights
SLOPES = [
    ((), 1),
    ((7,), 1),
    ((3, 5), 5),
    ((4, 3), 1),
    ((2, 3, 7), 3),
    ((0, 3, 2), 3),
    ((2, 2, 5, 3307), 2),
    ((5, 1, 3), 1),
]
SHARED_SLOPES = ((2, 3, 150, 151), 3)


def cases():
    """Cases of softmax, glu and prelu."""
    yield from _softmaxes()
    for row in HALVES:
        yield from _glus(*row, quick=True)
    yield from _glus((2, 4, 3, 7), 1, "stored ", fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _glus(*SHARED_HALVES, quick=True)
    for row in SLOPES:
        yield from _prelus(*row, quick=True)
    yield from _prelus((2, 5, 3, 7), 5, "stored ", fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _prelus(*SHARED_SLOPES, quick=True)


def _softmaxes():
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


def _glus(shape, axis, words="", **how):
    text = f"{words}{by(shape)} along {axis}"
    half = (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])
    yield from cross("glu_forward", text, lambda draw: (draw.data(*shape), axis), math.prod(shape), **how)
    yield from cross(
        "glu_input_grad", text, lambda draw: (draw.normal(*half), draw.data(*shape), axis), math.prod(shape), **how
    )


def _prelus(shape, weights, words="", **how):
    text = f"{words}{by(shape) or 'no axes'}, {weights} weights"
    work = math.prod(shape)
    yield from cross("prelu_forward", text, lambda draw: (draw.data(*shape), draw.normal(weights)), work, **how)
    yield from cross(
        "prelu_grad", text, lambda draw: (draw.normal(*shape), draw.data(*shape), draw.normal(weights)), work, **how
    )
