"""Sums, means, variances, extrema and logsumexp over any axes, and their gradients.

Axes are spelt dim and keepdim as in PyTorch, or axis and keepdims as in NumPy. The order of every sum
follows from shape and strides alone; halves are summed in float32.
"""

import math
from typing import NamedTuple

from fastconv.arrays import describe, is_array, is_cupy, is_float, namespace_of
from fastconv.autograd import raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, exp, masked, maximum, minimum
from fastconv.functional.indexing import pick
from fastconv.functional.operands import (
    accumulator,
    array,
    as_axes,
    as_axis,
    as_dtype,
    floats,
    is_number,
    quiet,
    wrapped,
)
from fastconv.functional.shape import broadcast_to, reshape

_DOC = """{what}, as torch.{name}.

    Args:
        input: Tensor or array.{dtype_arg}
        dim: An axis or several; None for all of them.{extra}
        keepdim: Whether to keep reduced axes, of size 1.
        axis, keepdims: dim and keepdim, as NumPy spells them.

    Returns:
        {returns}; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis{empty}.
        DTypeError: input is no array, or of no dtype that this is defined for.
    """

_SEQUENTIAL = 256  # additions one after the other that are not worth splitting


class Extremum(NamedTuple):
    """What max and min give along an axis."""

    values: object
    indices: object


def _documented(what, returns="The shape without those axes, dtype of input", **parts):
    def decorate(function):
        words = {"dtype_arg": "", "extra": "", "empty": "", **parts}
        function.__doc__ = _DOC.format(what=what, name=function.__name__, returns=returns, **words)
        return function

    return decorate


def _spelling(name, dim, keepdim, axis, keepdims):
    """dim and keepdim, whichever way they were spelt."""
    if axis is not None and dim is not None:
        raise ShapeError(name, "axis", axis, f"None beside dim={dim}")
    return (dim if axis is None else axis), bool(keepdim or keepdims)


def _kept(shape, over):
    """The shape with the axes of `over` as 1."""
    return tuple(1 if i in over else n for i, n in enumerate(shape))


def _dropped(shape, over, keepdim):
    return _kept(shape, over) if keepdim else tuple(n for i, n in enumerate(shape) if i not in over)


def _count(shape, over):
    return math.prod(shape[i] for i in over)


def _spread(dy, shape, over):
    """dy of a reduction over those axes, repeated to the shape before it."""
    return broadcast_to(reshape(dy, _kept(shape, over)), shape)


def _float(name, input):
    x = array(name, "input", input)
    if not is_float(x):
        raise DTypeError(name, "input", x.dtype.name, "a floating dtype", "convert it with .float()")
    return x


def _nonempty(name, x, over):
    if _count(x.shape, over) == 0:
        raise ShapeError(name, "input", list(x.shape), "at least one element along the reduced axes")


def summed(x, over, dtype, keepdim=False):
    """Plain sum in the given dtype, whose error grows with the square root of the count at most.

    NumPy adds pairwise along axes that lie together in memory, and one after the other along all others,
    where rounding errors can all point the same way: those are split where they are long.
    """
    if _count(x.shape, over) <= _SEQUENTIAL or not is_float(x):
        return namespace_of(x).asarray(x.sum(axis=over, dtype=dtype, keepdims=keepdim))
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))  # that of the elements in memory
    rest = [i for i in order if i not in over]
    total = _total(*_merged(x.transpose(order), [i in over for i in order]), dtype)
    total = total.reshape([x.shape[i] for i in rest]).transpose([rest.index(i) for i in sorted(rest)])
    return total.reshape(_dropped(x.shape, over, keepdim))


def _merged(x, summed):
    """x with neighbouring axes that are all summed as one where that is a view, and which axes are summed."""
    shape, flags, end = [], [], None
    for size, stride, flag in zip(x.shape, x.strides, summed, strict=True):
        if flag and flags and flags[-1] and end == size * stride:
            shape[-1] *= size
        else:
            shape.append(size)
            flags.append(flag)
        end = stride
    return x.reshape(shape), [i for i, flag in enumerate(flags) if flag]


def _total(x, over, dtype):
    """The sum over axes, kept, of an array whose axes are in the order of the memory."""
    rest = [i for i in over if i != x.ndim - 1]  # along the last one NumPy adds pairwise
    if _count(x.shape, rest) <= _SEQUENTIAL:
        return x.sum(axis=tuple(over), dtype=dtype, keepdims=True)
    long = sorted(rest, key=lambda i: x.shape[i])[-1]
    blocks = math.isqrt(x.shape[long])
    size = x.shape[long] // blocks
    lead = (slice(None),) * long
    parts = x[(*lead, slice(0, blocks * size))].reshape(*x.shape[:long], blocks, size, *x.shape[long + 1 :])
    inner = [i + (i >= long) for i in over]  # all but the axis of the blocks
    total = _total(parts, inner, dtype).sum(axis=long, dtype=dtype)
    if blocks * size < x.shape[long]:
        total = total + _total(x[(*lead, slice(blocks * size, None))], over, dtype)
    return total


@_documented(
    "The sum over axes", "The shape without those axes, dtype of input or the dtype asked for, int64 for integers",
    extra="\n        dtype: Convert to this dtype first; None keeps the dtype.",
)  # fmt: skip
def sum(input, dim=None, keepdim=False, dtype=None, *, axis=None, keepdims=None):
    dim, keepdim = _spelling("sum", dim, keepdim, axis, keepdims)
    x = array("sum", "input", input)
    if dtype is not None and as_dtype("sum", dtype) != x.dtype:
        return sum(cast(input, dtype), dim, keepdim)
    over, shape = as_axes("sum", "dim", dim, x.ndim), x.shape
    if not is_float(x):
        total = summed(x, over, x.dtype if dtype else "int64", keepdim)
        return wrapped(total, input)
    with quiet():
        y = summed(x, over, accumulator(x.dtype), keepdim).astype(x.dtype.newbyteorder("="), copy=False)
    return record("sum", y, (input,), lambda dy, _: (lambda: _spread(dy, shape, over),))


@_documented(
    "The mean over axes; NaN over none", extra="\n        dtype: Convert to this dtype first; None keeps the dtype."
)
def mean(input, dim=None, keepdim=False, dtype=None, *, axis=None, keepdims=None):
    dim, keepdim = _spelling("mean", dim, keepdim, axis, keepdims)
    if dtype is not None:
        input = cast(input, dtype)
    x = _float("mean", input)
    over, shape = as_axes("mean", "dim", dim, x.ndim), x.shape
    count = _count(shape, over)
    with quiet():
        y = summed(x, over, accumulator(x.dtype), keepdim) / accumulator(x.dtype).type(count)
        y = namespace_of(x).asarray(y, x.dtype.newbyteorder("="))
    return record("mean", y, (input,), lambda dy, _: (lambda: _spread(dy / (count or 1), shape, over),))


def _variance(xp, x, over, count, keepdim):
    centred = x - summed(x, over, x.dtype, True) / x.dtype.type(math.prod(x.shape[i] for i in over))
    return summed(centred * centred, over, x.dtype, keepdim) / x.dtype.type(count)


def _spread_measure(name, input, dim, unbiased, keepdim, correction):
    """Variance, or its root."""
    x = _float(name, input)
    if isinstance(dim, bool):  # PyTorch's first signature has unbiased in this place
        dim, unbiased = None, dim
    correction = 1 if correction is None else correction
    over, shape, wide = as_axes(name, "dim", dim, x.ndim), x.shape, accumulator(x.dtype)
    if unbiased is not None:
        correction = int(unbiased)
    if not is_number(correction):
        raise DTypeError(name, "correction", describe(correction), "a number")
    freedom = _count(shape, over) - correction
    freedom = freedom if freedom > 0 else 0
    xp, dtype = namespace_of(x), x.dtype.newbyteorder("=")
    with quiet():
        y = _variance(xp, x.astype(wide, copy=False), over, freedom, keepdim)
        y = xp.asarray(y if name == "var" else xp.sqrt(y), dtype)

    def input_grad(dy, y):
        dy, x = cast(dy, wide), cast(input, wide)
        if name == "std":  # a spread of 0 gets no gradient, as in PyTorch
            dy = masked(dy / (cast(y, wide) * 2), raw(y) != 0)
        centred = x - x.mean(dim=over, keepdim=True)
        return cast(centred * _spread(dy * (2 / freedom if freedom else math.inf), shape, over), dtype)

    return record(name, y, (input,), lambda dy, y: (lambda: input_grad(dy, y),), (input,), name == "std")


_CORRECTION = """
        unbiased: True is correction 1, False is 0; None leaves it to correction.
        correction: What is taken off the number of elements that the squares are divided by; None is 1."""


@_documented("The variance over axes, in two passes", extra=_CORRECTION)
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None, keepdims=None):
    dim, keepdim = _spelling("var", dim, keepdim, axis, keepdims)
    return _spread_measure("var", input, dim, unbiased, keepdim, correction)


@_documented("The standard deviation over axes, in two passes", extra=_CORRECTION)
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None, keepdims=None):
    dim, keepdim = _spelling("std", dim, keepdim, axis, keepdims)
    return _spread_measure("std", input, dim, unbiased, keepdim, correction)


def _extreme(name, input, dim, keepdim, reduce):
    """Largest or smallest over axes; its gradient is shared evenly between equals."""
    x = array(name, "input", input)
    over, shape = as_axes(name, "dim", dim, x.ndim), x.shape
    _nonempty(name, x, over)
    xp = namespace_of(x)
    y = xp.asarray(getattr(xp, reduce)(x, axis=over, keepdims=keepdim))
    if not is_float(x):
        return wrapped(y, input)

    def rule(dy, y):
        x, peak = raw(input), raw(y).reshape(_kept(shape, over))
        equal = (x == peak) | ((x != x) & (peak != peak))
        share = dy / equal.sum(axis=over, keepdims=True).reshape(dy.shape).astype(dy.dtype)
        return (lambda: masked(_spread(share, shape, over), equal),)

    return record(name, y, (input,), rule, (input,), saves_output=True)


_EMPTY = ", or an axis of size 0"


@_documented("The largest element over axes, NaN if there is one; equals share its gradient", empty=_EMPTY)
def amax(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _extreme("amax", input, *_spelling("amax", dim, keepdim, axis, keepdims), "max")


@_documented("The smallest element over axes, NaN if there is one; equals share its gradient", empty=_EMPTY)
def amin(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _extreme("amin", input, *_spelling("amin", dim, keepdim, axis, keepdims), "min")


_EXTREMUM_DOC = """The {what} element; along an axis also where it is; or of two arrays the {what}, as torch.{name}.

    Args:
        input: Tensor or array.
        dim: An axis; None for all elements; or another Tensor or array, for {other} of the two.
        keepdim: Whether to keep the reduced axis, of size 1.
        axis, keepdims: dim and keepdim, as NumPy spells them.

    Returns:
        The element; with an axis a named tuple (values, indices), the indices int64 and of equals the first,
        which alone has a gradient; Tensors for a Tensor. NaN counts as the {what}.

    Raises:
        ShapeError: There is no such axis, or no element along it.
        DTypeError: input is no array.
    """


def _extremum(name, input, dim, keepdim, axis, keepdims, of_two):
    if is_array(raw(dim)):
        return of_two(input, dim)
    dim, keepdim = _spelling(name, dim, keepdim, axis, keepdims)
    if dim is None:
        return _extreme(name, input, None, keepdim, name)
    x = array(name, "input", input)
    place = as_axis(name, "dim", dim, x.ndim)
    if x.ndim == 0:
        return Extremum(input, wrapped(namespace_of(x).zeros((), "int64"), input))
    indices = _indices(name, x, place)
    shape = _dropped(x.shape, (place,), keepdim)
    return Extremum(reshape(pick(input, indices, place), shape), wrapped(indices.reshape(shape), input))


def _indices(name, x, place):
    """Where along an axis, kept as 1, the largest or smallest elements are."""
    _nonempty(name, x, (place,))
    xp = namespace_of(x)
    found = getattr(xp, f"arg{name.removeprefix('arg')}")(x, axis=place, keepdims=True).astype("int64")
    if not is_cupy(x) or not is_float(x):
        return found
    nan = x != x  # of several NaN, CuPy finds whichever its threads meet first
    return xp.where(nan.any(axis=place, keepdims=True), xp.argmax(nan, axis=place, keepdims=True), found)


def max(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _extremum("max", input, dim, keepdim, axis, keepdims, maximum)


def min(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _extremum("min", input, dim, keepdim, axis, keepdims, minimum)


max.__doc__ = _EXTREMUM_DOC.format(name="max", what="largest", other="maximum")
min.__doc__ = _EXTREMUM_DOC.format(name="min", what="smallest", other="minimum")


def _argument(name, input, dim, keepdim):
    x = array(name, "input", input)
    flat = x.reshape(-1) if dim is None or x.ndim == 0 else x
    place = as_axis(name, "dim", 0 if dim is None else dim, flat.ndim if x.ndim else 0)
    over = tuple(range(x.ndim)) if flat is not x else (place,)
    return wrapped(_indices(name, flat, place).reshape(_dropped(x.shape, over, keepdim)), input)


_FIRST = "int64, the shape without that axis; of all elements the position in flattened order"


@_documented("Where along an axis the first largest element is", _FIRST, empty=_EMPTY)
def argmax(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _argument("argmax", input, *_spelling("argmax", dim, keepdim, axis, keepdims))


@_documented("Where along an axis the first smallest element is", _FIRST, empty=_EMPTY)
def argmin(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _argument("argmin", input, *_spelling("argmin", dim, keepdim, axis, keepdims))


def _truth(name, input, dim, keepdim):
    x = array(name, "input", input)
    xp = namespace_of(x)
    y = getattr(xp, name)(x != 0, axis=as_axes(name, "dim", dim, x.ndim), keepdims=keepdim)
    return wrapped(xp.asarray(y), input)


@_documented("Whether all elements along axes are other than 0", "bool, the shape without those axes")
def all(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _truth("all", input, *_spelling("all", dim, keepdim, axis, keepdims))


@_documented("Whether any element along axes is other than 0", "bool, the shape without those axes")
def any(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    return _truth("any", input, *_spelling("any", dim, keepdim, axis, keepdims))


@_documented("log(sum(exp(input))) over axes, without overflow; integers are taken as float32")
def logsumexp(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    dim, keepdim = _spelling("logsumexp", dim, keepdim, axis, keepdims)
    x = floats("logsumexp", "input", input)
    over, shape, wide = as_axes("logsumexp", "dim", dim, x.ndim), x.shape, accumulator(x.dtype)
    xp, dtype = namespace_of(x), x.dtype.newbyteorder("=")
    with quiet():
        x = x.astype(wide, copy=False)
        peak = x.max(axis=over, keepdims=True) if _count(shape, over) else wide.type(0)
        peak = xp.where(xp.isfinite(peak), peak, wide.type(0))
        y = xp.log(summed(xp.exp(x - peak), over, wide, True)) + peak
    y = xp.asarray(y, dtype).reshape(_dropped(shape, over, keepdim))

    def input_grad(dy, y):
        dy, x, y = (cast(v, wide) for v in (dy, input, y))
        return cast(_spread(dy, shape, over) * exp(x - _spread(y, shape, over)), dtype)

    return record("logsumexp", y, (input,), lambda dy, y: (lambda: input_grad(dy, y),), (input,), saves_output=True)
