"""Cases of the functions of one number, forward and back."""

import math

from fastconv import reference
from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE
from fastconv.elementwise import FUNCTIONS

SHAPES = [(), (1,), (7, 5), (3, 0, 2), (2, 1031)]
STORED_SHAPE = (2, 3, 5, 7)
SHARED_SHAPE = (2, 3, 150, 151)

STORED = ("hardtanh", "gelu", "sigmoid")  # one that compares, one that computes, and one that reads its result

# Numbers that a half holds where an element is compared with them.
PARAMETERS = {
    "hardtanh": (-0.5, 1.25),
    "threshold": (0.25, -2.0),
    "leaky_relu": (0.3,),
    "elu": (1.7, 1.05, 0.6),
    "softplus": (1.5, 3.0),
    "softshrink": (0.5,),
    "hardshrink": (0.5,),
}


def cases():
    """Cases of unary_forward and unary_input_grad."""
    for function in FUNCTIONS:
        yield from _cases((2, 3, 5, 4), function, fills=("normal", "special"), quick=True)
    for shape in SHAPES:
        yield from _cases(shape, "relu")
        yield from _cases(shape, "mish")
    for function in STORED:
        yield from _cases(STORED_SHAPE, function, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SHAPE, "silu", quick=True)


def _cases(shape, function, **how):
    parameters = PARAMETERS.get(function, ())
    text = f"{function} {by(shape) or 'no axes'}"

    def forward(draw):
        return draw.data(*shape), function, parameters

    def input_grad(draw):
        x = draw.data(*shape)
        v = reference.unary_forward(x, function, parameters) if FUNCTIONS[function].reads == "output" else x
        return draw.normal(*shape), v, function, parameters

    yield from cross("unary_forward", text, forward, math.prod(shape), **how)
    yield from cross("unary_input_grad", text, input_grad, math.prod(shape), **how)
