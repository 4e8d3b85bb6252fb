"""What the reference itself is compared with, since it cannot be its own witness.

small problems         loops over single elements, fastconv.cases.loops
larger linear ones     <u, A'(dy)> = <A(u), dy> for a random u: a gradient is the transpose of its operator
public functions       <gradient, v> against the central difference of <dy, f> along a random v
"""

from typing import NamedTuple

import numpy

from fastconv import reference
from fastconv.cases import loops
from fastconv.cases.case import BY_DTYPE, Draw
from fastconv.cases.gradients import widened
from fastconv.pool import in_plane
from fastconv.tolerance import bound

_LOOPED = 20_000  # terms that loops in Python visit in some hundredths of a second
# A power of two, so that x + step * v loses little; the difference then has errors of about 1e-12 from its
# step and 1e-10 from rounding, relative to what it sums.
_STEP = 2.0**-20
_DIFFERENCE = 1e-7  # measured worst case: 0.02 of it


class Question(NamedTuple):
    """One comparison of the reference with something else.

    Attributes:
        ask: Function without arguments that gives what the reference says, a tuple of arrays.
        expected: What it should say.
        bounds: Largest error of each element, an array for each result.
    """

    ask: object
    expected: tuple
    bounds: tuple


def is_looped(case):
    """Whether a Case is small enough for the loops."""
    return case.work <= _LOOPED


def by_loops(case):
    """The exact results of a small Case, a tuple of float64 arrays."""
    widens = case.operator not in BY_DTYPE
    wide = [v.astype("float64") if widens and _is_floating(v) else v for v in case.values()]
    result = getattr(loops, case.operator)(*wide)
    return result if isinstance(result, tuple) else (result,)


def is_transpose(case):
    """Whether a Case can be asked by_transposition: gradients of linear operators, once each."""
    plain = case.storage == "contiguous" and case.fill == "normal" and case.dtype == "float64"
    return plain and case.operator in _TRANSPOSES


def by_transposition(case, c):
    """The Question whether the operator of a Case is the transpose of its forward operator.

    Args:
        case: A Case that is_transpose.
        c: Of the error model.

    Returns:
        A Question on one number.
    """
    arguments = case.values()
    shape = case.expected()[0].shape
    u = Draw(f"{case.operator} {case.problem} u", "float64", "normal").normal(*shape)
    transpose, forward = _TRANSPOSES[case.operator]

    def ask():
        return (numpy.vdot(transpose(*arguments), u),)

    dy, y = forward(u, *arguments)
    _, scale = forward(abs(u), *(abs(a) if _is_floating(a) else a for a in arguments))
    expected, scale = numpy.vdot(dy, y), numpy.vdot(abs(dy), abs(scale))
    return Question(ask, (expected,), (bound(expected, scale, max(dy.size, u.size), "float64", c),))


def by_differences(case):
    """The Question whether the gradients of a GradientCase are the slopes of its function.

    Args:
        case: A GradientCase in float64.

    Returns:
        A Question on one number for each input.
    """
    inputs, options, dy = widened(*case.arguments())
    draw = Draw(f"{case.function} {case.problem} v", "float64", "normal")
    directions = {key: draw.normal(*a.shape) for key, a in inputs.items()}

    def value(key, step):
        moved = {**inputs, key: inputs[key] + step * directions[key]}
        return numpy.vdot(dy, case.run("reference", moved, options, dy)[0])

    def ask():
        gradients = case.run("reference", inputs, options, dy)[1:]
        return tuple(numpy.vdot(g, v) for g, v in zip(gradients, directions.values(), strict=False))

    slopes = tuple((value(key, _STEP) - value(key, -_STEP)) / (2 * _STEP) for key in inputs)
    results = case.run("reference", inputs, options, dy)
    total = numpy.vdot(abs(dy), abs(results[0]))
    bounds = tuple(
        _DIFFERENCE * (total + numpy.vdot(abs(g), abs(v)))
        for g, v in zip(results[1:], directions.values(), strict=False)
    )
    return Question(ask, slopes, bounds)


def _is_floating(value):
    return isinstance(value, numpy.ndarray) and value.dtype.kind not in "iu"


# Operator -> (its result without a bias, function of (u, *arguments) -> (dy, forward operator of u))
_TRANSPOSES = {
    "conv_input_grad": (
        lambda dy, w, b, window: reference.conv_input_grad(dy, w, None, window),
        lambda u, dy, w, b, window: (dy, reference.conv_forward(u, w, None, window)),
    ),
    "conv_weight_grad": (
        reference.conv_weight_grad,
        lambda u, x, dy, window: (dy, reference.conv_forward(x, u, None, window)),
    ),
    "conv_bias_grad": (
        reference.conv_bias_grad,
        lambda u, dy: (dy, numpy.broadcast_to(u.reshape(-1, *(1,) * (dy.ndim - 2)), dy.shape)),
    ),
    "avg_pool_input_grad": (
        reference.avg_pool_input_grad,
        lambda u, dy, window, include, divisor: (dy, reference.avg_pool_forward(u, window, include, divisor)),
    ),
    "max_pool_input_grad": (
        reference.max_pool_input_grad,
        lambda u, dy, indices, window: (dy, reference.pool_gather(u, in_plane(indices, window))),
    ),
    "adaptive_max_pool_input_grad": (
        reference.adaptive_max_pool_input_grad,
        lambda u, dy, indices, size: (dy, reference.pool_gather(u, indices)),
    ),
    "adaptive_avg_pool_input_grad": (
        reference.adaptive_avg_pool_input_grad,
        lambda u, dy, size: (dy, reference.adaptive_avg_pool_forward(u, dy.shape[2:])),
    ),
    "pool_scatter": (
        reference.pool_scatter,
        lambda u, dy, indices, size: (dy, reference.pool_gather(u, indices)),
    ),
    "grid_sample_input_grad": (
        reference.grid_sample_input_grad,
        lambda u, dy, grid, size, *rule: (dy, reference.grid_sample_forward(u, grid, *rule)),
    ),
    "resize_input_grad": (
        reference.resize_input_grad,
        lambda u, dy, size, *rule: (dy, reference.resize_forward(u, dy.shape[2:], *rule)),
    ),
}
