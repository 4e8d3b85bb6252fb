"""What every operator asks of its operands: arrays, numbers, axes, and the dtype that they combine to.

Dtypes follow torch.result_type: arrays with axes decide; arrays without axes, and then numbers, count
only if they are of a higher kind (bool < integer < floating); integers met by a float become float32.
"""

import functools
import importlib
import numbers
import operator as operators
import sys
import warnings

import numpy

from fastconv import arrays as _arrays
from fastconv import backend
from fastconv.arrays import FLOATS, describe, is_array, is_cupy, is_float, name_of, namespace_of, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError

FLOAT = numpy.dtype("float32")  # PyTorch's default dtype

_BLOCK = 1 << 14  # elements of a block that stays in the cache while a formula is computed

# Finding the name of a dtype takes longer than adding two small arrays.
accumulator = functools.cache(_arrays.accumulator)

# PyTorch gives infinities and NaN without a warning.
quiet = functools.partial(numpy.errstate, all="ignore")


def on_device(function):
    """function as it is, with the GPU of its first CuPy array current."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        if "cupy" not in sys.modules:  # which costs next to nothing
            return function(*args, **kwargs)
        with on_device_of(_first_of_cupy((*args, *kwargs.values()))):
            return function(*args, **kwargs)

    return run


def _first_of_cupy(values):
    """The first CuPy array among Tensors, arrays, sequences of them and others; None if there is none."""
    for value in values:
        plain = raw(value[0] if isinstance(value, (list, tuple)) and value else value)
        if is_cupy(plain):
            return plain
    return None


def array(operator, argument, value):
    """The plain array of an operand.

    Raises:
        DTypeError: value is no array, or neither floating, integer nor bool.
    """
    x = raw(value)
    if not is_array(x):
        raise DTypeError(operator, argument, describe(value), "a Tensor or a NumPy or CuPy array")
    if not _is_served(x.dtype):
        raise DTypeError(operator, argument, x.dtype.name, " or ".join((*FLOATS, "integers", "bool")))
    return x


@functools.cache
def _is_served(dtype):
    return dtype.kind in "biu" or name_of(dtype) in FLOATS


def floats(operator, argument, value):
    """The plain array of an operand; integers and bools as float32."""
    x = array(operator, argument, value)
    return x if is_float(x) else x.astype(FLOAT)


def is_number(value):
    """Whether value is a Python or NumPy number."""
    return isinstance(value, (numbers.Real, numpy.bool_))


def number(value):
    """A number as a Python number, which promotes nothing."""
    return value.item() if isinstance(value, numpy.generic) else value


def common(operator, operands):
    """Operands brought together.

    Args:
        operator: Public name, for messages.
        operands: Dict from argument to Tensor, array or number, at least one of them no number.

    Returns:
        numpy or cupy, and the operands in one dtype as plain arrays; numbers among them as 0-d arrays of NumPy, or
        beside arrays of CuPy as NumPy scalars.

    Raises:
        ShapeError: The shapes do not broadcast.
        DTypeError: An operand is neither array nor number, or a number does not fit the dtype.
        DeviceError: The arrays live on different devices.
    """
    plain = tuple(raw(value) for value in operands.values())
    x, w = plain[0], plain[-1]
    if type(x) is numpy.ndarray and len(plain) == 2:  # two cases that are by far the most frequent
        if type(w) is numpy.ndarray and x.shape == w.shape and _matches(x.dtype, w.dtype):
            return numpy, x, w
        if type(w) in (int, float) and is_float(x) and _matches(x.dtype, x.dtype):
            return numpy, x, in_dtype(operator, "other", w, numpy, x.dtype)
    values = {
        argument: number(value) if is_number(value) else array(operator, argument, value)
        for argument, value in operands.items()
    }
    present = [v for v in values.values() if is_array(v)]
    if not present:
        raise DTypeError(operator, next(iter(values)), "numbers only", "at least one Tensor or array")
    xp = backend.namespace(*present)
    if len({v.shape for v in present}) > 1:
        check_broadcast(operator, {k: v for k, v in values.items() if is_array(v)})
    dtype = result_dtype(operator, values.values())
    return xp, *(in_dtype(operator, argument, value, xp, dtype) for argument, value in values.items())


@functools.cache
def _matches(a, b):
    """Whether arrays of these dtypes need no conversion to be brought together."""
    return a == b and a.isnative and _is_served(a)


def in_dtype(operator, argument, value, xp, dtype):
    """An array in a dtype; a number as what NumPy or CuPy computes with in that dtype."""
    if is_array(value):
        return value if value.dtype == dtype else value.astype(dtype)
    try:
        with quiet():
            value = numpy.asarray(value, dtype)
    except OverflowError:
        raise DTypeError(operator, argument, value, f"a number that {dtype.name} holds") from None
    return value if xp is numpy else value[()]  # which a GPU is given as an argument of the kernel that reads it


def check_broadcast(operator, arrays):
    """Refuse shapes that do not broadcast; arrays is a dict from argument to array."""
    try:
        return numpy.broadcast_shapes(*(v.shape for v in arrays.values()))
    except ValueError:
        shapes = " and ".join(str(list(v.shape)) for v in arrays.values())
        raise ShapeError(operator, " and ".join(arrays), shapes, "shapes that broadcast") from None


def result_dtype(operator, values):
    """The dtype that arrays and numbers combine to, native in byte order: torch.result_type."""
    ranks = [None, None, None]  # of arrays with axes, of arrays without, of numbers
    for value in values:
        rank = 2 if not is_array(value) else 0 if value.ndim else 1
        dtype = number_dtype(value) if rank == 2 else value.dtype
        ranks[rank] = dtype if ranks[rank] is None else _promoted(operator, ranks[rank], dtype)
    present = [dtype for dtype in ranks if dtype is not None]
    result = functools.reduce(lambda high, low: low if kind_of(low) > kind_of(high) else high, present)
    return result if result.isnative else result.newbyteorder("=")


def number_dtype(value):
    """The dtype that a number has in PyTorch where no array decides."""
    if isinstance(value, bool):
        return numpy.dtype("bool")
    return numpy.dtype("int64") if isinstance(value, numbers.Integral) else FLOAT


def _promoted(operator, a, b):
    """The dtype that holds both, of two arrays of one rank."""
    if a == b:
        return a
    if kind_of(a) != kind_of(b):
        return max(a, b, key=kind_of)
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return FLOAT
    dtype = numpy.promote_types(a, b)
    if kind_of(dtype) != kind_of(a):  # uint64 and a signed integer
        raise DTypeError(operator, "other", b.name, f"a dtype that combines with {a.name}")
    return dtype


def kind_of(dtype):
    """0 for bool, 1 for integers, 2 for floating dtypes."""
    return {"b": 0, "i": 1, "u": 1}.get(dtype.kind, 2)


def as_dtype(operator, value):
    """value as a numpy.dtype.

    Raises:
        DTypeError: It names none that fastconv computes in.
    """
    if isinstance(value, str) and value == "bfloat16":
        importlib.import_module("ml_dtypes")  # registers the name with NumPy
    expected = " or ".join((*FLOATS, "an integer dtype", "bool"))
    try:
        dtype = numpy.dtype(value)
    except TypeError:
        raise DTypeError(operator, "dtype", describe(value), expected) from None
    if value is None or (dtype.kind not in "biu" and name_of(dtype) not in FLOATS):
        raise DTypeError(operator, "dtype", describe(value), expected)
    return dtype


def as_int(operator, argument, value):
    """value as a Python int.

    Raises:
        DTypeError: It is none.
    """
    try:
        return operators.index(raw(value))
    except TypeError:
        raise DTypeError(operator, argument, describe(value), "an int") from None


def as_axis(operator, argument, value, ndim):
    """An axis counted from 0; an array without axes accepts 0 and -1, as in PyTorch.

    Raises:
        DTypeError: value is no int.
        ShapeError: There is no such axis.
    """
    number, count = as_int(operator, argument, value), max(ndim, 1)
    if not -count <= number < count:
        raise ShapeError(operator, argument, number, f"{-count} to {count - 1} for {ndim} axes")
    return number % count


def as_axes(operator, argument, value, ndim):
    """Axes counted from 0, of an int or a sequence of ints; None and no axes mean all of them.

    Raises:
        DTypeError: value is no int and no sequence of them.
        ShapeError: There is no such axis, or one is named twice.
    """
    if value is None:
        return tuple(range(ndim))
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    counted = tuple(as_axis(operator, argument, v, ndim) for v in values)
    if len(set(counted)) < len(counted):
        raise ShapeError(operator, argument, list(values), "every axis at most once")
    return counted if counted and ndim else tuple(range(ndim))


def as_ints(operator, argument, values):
    """Sizes as a tuple of ints, given as ints or as one sequence."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = values[0]
    return tuple(as_int(operator, argument, v) for v in values)


REDUCTIONS = ("mean", "sum", "none")


def as_reduction(operator, reduction, size_average=None, reduce=None, known=REDUCTIONS):
    """How a loss brings its values together: one of REDUCTIONS.

    Args:
        operator: Public name, for messages.
        reduction: One of them, or PyTorch's old name of "mean", "elementwise_mean".
        size_average, reduce: PyTorch's older spelling, which decides where one of the two is given.
        known: The names that reduction may be.

    Raises:
        ShapeError: reduction is none of them.
    """
    if size_average is not None or reduce is not None:
        averaged, reduced = (value is None or bool(value) for value in (size_average, reduce))
        reduction = ("mean" if averaged else "sum") if reduced else "none"
        text = f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead."
        warnings.warn(text, UserWarning, stacklevel=4)
    elif isinstance(reduction, str) and reduction == "elementwise_mean":
        text = "reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead."
        warnings.warn(text, UserWarning, stacklevel=4)
        reduction = "mean"
    elif not (isinstance(reduction, str) and reduction in known):
        raise ShapeError(operator, "reduction", repr(reduction), " or ".join(map(repr, known)))
    return reduction


def wrapped(y, *inputs):
    """An array without a gradient: a Tensor if an input is one."""
    return Tensor(y) if any(isinstance(v, Tensor) for v in inputs) else y


def evaluate(compute, x):
    """compute(xp, x) for a floating array, in float32 for halves, in blocks where that saves memory traffic."""
    xp, wide = namespace_of(x), accumulator(x.dtype)
    dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    with quiet():
        if xp is not numpy or x.size <= _BLOCK:
            return xp.asarray(compute(xp, x.astype(wide, copy=False)), dtype)
        order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))  # that of the elements in memory
        source = x.transpose(order)
        y = xp.empty(source.shape, dtype)
        source, result = source.reshape(-1), y.reshape(-1)
        for start in range(0, x.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block] = compute(xp, source[block].astype(wide, copy=False))
    return y.transpose([order.index(i) for i in range(x.ndim)])
