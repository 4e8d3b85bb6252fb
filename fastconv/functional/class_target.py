"""What losses over [N, C, ...] ask of their targets: classes, or how far each element belongs to each class."""

import math

import numpy

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, is_cupy, is_float, namespace_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, pow, where
from fastconv.functional.operands import accumulator, array, as_int


def scores(name, input):
    """The plain array of scores or probabilities [N, C, ...]."""
    x = array(name, "input", input)
    check_float(name, "input", x)
    if x.ndim < 2:
        raise ShapeError(name, "input", list(x.shape), "[N, C, ...]")
    return x


def wide(value, dtype):
    """A Tensor of an operand, in the dtype that its sums are kept in."""
    return cast(value if isinstance(value, Tensor) else Tensor(value), accumulator(dtype))


def class_factors(name, weight, x):
    """Factors of the classes of x as a wide Tensor [C]."""
    w = array(name, "weight", weight)
    check_same_dtype(name, "weight", w, "input", x)
    if w.shape != x.shape[1:2]:
        raise ShapeError(name, "weight", list(w.shape), f"[{x.shape[1]}], one a class of input {list(x.shape)}")
    backend.of(x, w)
    return wide(weight, x.dtype)


def shares(name, x, target, ignore_index):
    """How far each element belongs to each class, and what counts.

    Args:
        name: Public name, for messages.
        x: Plain array [N, C, ...].
        target: Integers [N, ...] or [N, 1, ...]; or integers, bools or floats of the shape of x.
        ignore_index: What does not count among integers.

    Returns:
        A wide Tensor of the shape of x, and a plain array of bools that broadcasts to it, or None where all count.
    """
    t, ignored = array(name, "target", target), as_int(name, "ignore_index", ignore_index)
    xp, alike = backend.namespace(x, t), t.shape == x.shape
    if is_float(t):
        check_same_dtype(name, "target", t, "input", x)
        if not alike:
            raise ShapeError(name, "target", list(t.shape), f"{list(x.shape)}, the shape of input")
        return wide(target, x.dtype), None
    count, classes = x.shape[:2]
    rest = x.shape[2:]
    if not alike and t.shape not in ((count, *rest), (count, 1, *rest)):
        expected = f"{[count, *rest]}, {[count, 1, *rest]} or {list(x.shape)} for input {list(x.shape)}"
        raise ShapeError(name, "target", list(t.shape), expected)
    if t.dtype.kind == "b" and not alike and classes > 1:
        raise DTypeError(name, "target", "bool", "integers, the indices of classes")
    t = t.astype("int64")
    counted = xp.asarray(t != ignored)
    if not alike:
        t, counted = t.reshape(count, 1, *rest), counted.reshape(count, 1, *rest)
    t = xp.where(counted, t, 0)
    if not alike or classes == 1:
        t = _belongs(name, xp, t, counted, max(classes, 2))[:, max(classes, 2) - classes :]
    values = t.astype(accumulator(x.dtype))
    return Tensor(values), None if not is_cupy(t) and counted.all() else counted


def _belongs(name, xp, t, counted, classes):
    """Ones at the classes [N, 1, ...]: [N, C, ...], NaN where a GPU meets a class that is out of range."""
    wrong = xp.asarray((t < 0) | (t >= classes))
    if not is_cupy(t) and wrong.any():
        raise ShapeError(name, "target", f"class {int(t[wrong][0])}", f"0 to {classes - 1}, or ignore_index")
    hits = counted & (xp.arange(classes).reshape(1, -1, *(1,) * (t.ndim - 2)) == t)
    return xp.where(wrong, math.nan, hits)


def power(x, exponent):
    """x to a power that is positive; 0 without a slope where x is 0, or less by rounding."""
    # Slopes of a power below 2 become infinite at 0: short of that, its value is as good as 0.
    limit = 0.0 if exponent >= 2 or exponent == 1 else float(numpy.cbrt(numpy.finfo(x.dtype).tiny))
    least = namespace_of(raw(x)).asarray(raw(x) <= limit)
    return where(least, 0.0, pow(where(least, 1.0, x), exponent))
