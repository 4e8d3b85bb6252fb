"""Cases of the functions of one and of two numbers, forward and back."""

import math

import numpy

from fastconv import reference
from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE
from fastconv.elementwise import FUNCTIONS, PAIRS

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
PAIR_PARAMETERS = {"smooth_l1": (0.75,), "huber": (0.5,), "poisson": (0.25,)}
SHARES = ("entropy", "divergence", "poisson")  # functions of numbers between 0 and 1


def cases():
    """Cases of the operators of elementwise functions."""
    for function in FUNCTIONS:
        yield from _cases((2, 3, 5, 4), function, fills=("normal", "special"), quick=True)
    for shape in SHAPES:
        yield from _cases(shape, "relu")
        yield from _cases(shape, "mish")
    for function in STORED:
        yield from _cases(STORED_SHAPE, function, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SHAPE, "silu", quick=True)
    for function in PAIRS:
        fills = ("normal",) if function in SHARES else ("normal", "special")
        yield from _pair_cases((2, 3, 5, 4), function, fills=fills, quick=True)
    for shape in SHAPES:
        yield from _pair_cases(shape, "absolute")
    yield from _pair_cases(STORED_SHAPE, "square", storages=EVERY_STORAGE, quick=True)
    yield from _pair_cases(SHARED_SHAPE, "square", quick=True)


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


def _pair_cases(shape, function, **how):
    parameters = PAIR_PARAMETERS.get(function, ())
    text, work = f"{function} {by(shape) or 'no axes'}", math.prod(shape)
    plain = {**how, "storages": ()}  # of an array without axes there is one

    def operands(draw):
        if function in SHARES:
            return tuple((draw.positive(*shape) / 2.1).astype(draw.dtype) for _ in "ab")
        a, b = draw.data(*shape), draw.normal(*shape)
        return (a, b if function != "div" else abs(b) + b.dtype.type(0.5))

    def whole(draw):
        return *operands(draw), function, parameters

    def with_number(draw):
        a, b = operands(draw)
        return numpy.asarray(a.reshape(-1)[0] if a.size else 1, a.dtype), b, function, parameters

    yield from cross("binary_forward", text, whole, work, **how)
    if PAIRS[function].grads is None:
        if math.prod(shape) > 1:
            yield from cross("binary_forward", f"a number and {text}", with_number, work, **plain)
        return
    yield from cross("binary_sum", text, whole, work, **how)
    for operand in "ab":

        def grad(draw, operand=operand):
            return draw.normal(*shape), *whole(draw), operand

        def grad_of_sum(draw, operand=operand):
            return draw.normal(1).reshape(()), *whole(draw), operand

        yield from cross("binary_grad", f"{text}, of {operand}", grad, work, **how)
        if shape:
            yield from cross("binary_grad", f"{text}, of {operand} through the sum", grad_of_sum, work, **plain)
