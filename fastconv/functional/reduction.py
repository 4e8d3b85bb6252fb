"""Sums, means, extrema and what is made of them, over any axes.

Axes are spelt `dim`, `keepdim` as in PyTorch or `axis`, `keepdims` as in NumPy. Halves are summed in float32.
"""

import operator as _operator
from typing import NamedTuple

import numpy

from fastconv.arrays import HALVES, describe, namespace_of
from fastconv.autograd import Tensor, is_float, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import _plain, add, check_real, div, exp, log, mul, sqrt, square, sub
from fastconv.functional.shape import broadcast_to, reshape

_DOC = """{summary}, as torch.{name}.

    Args:
        input: Tensor or array.
        dim: An axis or a tuple of them; None for all.
        keepdim: Keep the reduced axes with size 1.
        axis, keepdims: NumPy's names of the same.

    Returns:
        {returns}; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range or named twice{empty}.
        DTypeError: input is no real array{floats}.
    """


class Extremum(NamedTuple):
    """What max and min give along an axis."""

    values: object
    indices: object


def axes_of(operator, ndim, dim):
    """dim as a sorted tuple of axes from 0.

    Raises:
        ShapeError: An axis is out of range or named twice.
        DTypeError: An axis is no int.
    """
    if dim is None:
        return tuple(range(ndim))
    given = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    axes = []
    for value in given:
        try:
            axis = _operator.index(value)
        except TypeError:
            raise DTypeError(operator, "dim", describe(value), "an int, a tuple of ints or None") from None
        # PyTorch lets a scalar pass for one axis.
        if not -max_of(ndim, 1) <= axis < max_of(ndim, 1):
            raise ShapeError(operator, "dim", axis, f"an axis of an array with {ndim}")
        axes.append(axis % max_of(ndim, 1))
    if len(set(axes)) != len(axes):
        raise ShapeError(operator, "dim", list(given), "each axis once")
    return tuple(sorted(axes)) if ndim else ()


def max_of(a, b):
    """The larger of two ints: the name max belongs to the reduction here."""
    return a if a > b else b


def _spelt(operator, dim, keepdim, axis, keepdims):
    """dim and keepdim, whichever way they were spelt."""
    if axis is not None and dim is not None:
        raise ShapeError(operator, "axis", axis, "None beside dim")
    return (axis if dim is None else dim), keepdim or keepdims


def _kept(shape, axes):
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _reduced(shape, axes, keepdim):
    return _kept(shape, axes) if keepdim else tuple(n for i, n in enumerate(shape) if i not in axes)


def _count(shape, axes):
    return int(numpy.prod([shape[i] for i in axes], dtype=numpy.int64))


def _documented(name, summary, returns, empty="", floats=""):
    def decorate(function):
        function.__doc__ = _DOC.format(name=name, summary=summary, returns=returns, empty=empty, floats=floats)
        return function

    return decorate


@_documented("sum", "Sum over axes", "The shape without those axes; dtype of input, int64 for integers")
def sum(input, dim=None, keepdim=False, axis=None, keepdims=False):
    dim, keepdim = _spelt("sum", dim, keepdim, axis, keepdims)
    x = check_real("sum", "input", input)
    axes = axes_of("sum", x.ndim, dim)
    wide = numpy.dtype("int64") if not is_float(x) else numpy.dtype("float32") if x.dtype.name in HALVES else x.dtype
    total = namespace_of(x).asarray(x.sum(axis=axes, dtype=wide, keepdims=keepdim))
    y = total.astype(x.dtype) if is_float(x) else total
    shape = x.shape

    def rule(dy, _):
        return (lambda: broadcast_to(reshape(dy, _kept(shape, axes)), shape),)

    return record("sum", y, (input,), rule) if is_float(x) else _plain(y, input)


@_documented("mean", "Mean over axes", "The shape without those axes, dtype of input", floats=" of floats")
def mean(input, dim=None, keepdim=False, axis=None, keepdims=False):
    dim, keepdim = _spelt("mean", dim, keepdim, axis, keepdims)
    x = _check_float("mean", input)
    count = _count(x.shape, axes_of("mean", x.ndim, dim))
    total = sum(input, dim, keepdim)
    return div(total, float(count)) if count else mul(total, float("nan"))


def var(input, dim=None, unbiased=True, keepdim=False, *, correction=None, axis=None, keepdims=False):
    """Variance over axes, as torch.var: from differences to the mean, in two passes.

    Args:
        input: Tensor or array of floats.
        dim: An axis or a tuple of them; None for all.
        unbiased: Divide by the count less one rather than the count.
        keepdim: Keep the reduced axes with size 1.
        correction: Divide by the count less this; overrides unbiased.
        axis, keepdims: NumPy's names of dim and keepdim.

    Returns:
        The shape without those axes, dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range or named twice.
        DTypeError: input is no real array of floats.
    """
    dim, keepdim = _spelt("var", dim, keepdim, axis, keepdims)
    x = _check_float("var", input)
    correction = (1 if unbiased else 0) if correction is None else correction
    count = _count(x.shape, axes_of("var", x.ndim, dim)) - correction
    total = sum(square(sub(input, mean(input, dim, keepdim=True))), dim, keepdim)
    return div(total, float(count)) if count > 0 else mul(total, float("nan"))


def std(input, dim=None, unbiased=True, keepdim=False, *, correction=None, axis=None, keepdims=False):
    """Standard deviation over axes, as torch.std.

    Args:
        input: Tensor or array of floats.
        dim: An axis or a tuple of them; None for all.
        unbiased: Divide by the count less one rather than the count.
        keepdim: Keep the reduced axes with size 1.
        correction: Divide by the count less this; overrides unbiased.
        axis, keepdims: NumPy's names of dim and keepdim.

    Returns:
        The shape without those axes, dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range or named twice.
        DTypeError: input is no real array of floats.
    """
    return sqrt(var(input, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims))


def _extreme(name, input, dim, keepdim):
    """Largest or smallest over axes; the gradient is shared evenly between ties, as torch.amax does."""
    x = check_real(name, "input", input)
    axes = axes_of(name, x.ndim, dim)
    if _count(x.shape, axes) == 0:
        raise ShapeError(name, "input", list(x.shape), "at least one element along the reduced axes")
    xp = namespace_of(x)
    y = xp.asarray((xp.max if name in ("amax", "max") else xp.min)(x, axis=axes, keepdims=keepdim))
    if not is_float(x):
        return _plain(y, input)
    kept = _kept(x.shape, axes)

    def rule(dy, y):
        x = raw(input)
        chosen = x == raw(y).reshape(kept)
        share = (chosen / chosen.sum(axis=axes, keepdims=True)).astype(x.dtype)
        return (lambda: mul(reshape(dy, kept), Tensor(share)),)

    return record(name, y, (input,), rule, saves=(input,), saves_output=True)


@_documented("amax", "Largest element over axes", "The shape without those axes, dtype of input", " or empty")
def amax(input, dim=None, keepdim=False, axis=None, keepdims=False):
    return _extreme("amax", input, *_spelt("amax", dim, keepdim, axis, keepdims))


@_documented("amin", "Smallest element over axes", "The shape without those axes, dtype of input", " or empty")
def amin(input, dim=None, keepdim=False, axis=None, keepdims=False):
    return _extreme("amin", input, *_spelt("amin", dim, keepdim, axis, keepdims))


def _picked(name, input, dim, keepdim):
    """(values, indices) along one axis; the gradient goes to the element that was picked."""
    x = check_real(name, "input", input)
    axes = axes_of(name, x.ndim, dim)
    if len(axes) > 1:
        raise ShapeError(name, "dim", dim, "one axis", f"use a{name} for several")
    if _count(x.shape, axes) == 0:
        raise ShapeError(name, "input", list(x.shape), "at least one element along the reduced axis")
    xp = namespace_of(x)
    if not axes:
        return Extremum(input, _plain(xp.zeros((), "int64"), input))
    indices = xp.expand_dims((xp.argmax if name == "max" else xp.argmin)(x, axis=axes[0]).astype("int64"), axes[0])
    shape = _reduced(x.shape, axes, keepdim)
    y = xp.take_along_axis(x, indices, axis=axes[0]).reshape(shape)
    full, kept = x.shape, _kept(x.shape, axes)

    def rule(dy, _):
        place = xp.arange(full[axes[0]]).reshape([-1 if i == axes[0] else 1 for i in range(len(full))])
        return (lambda: mul(reshape(dy, kept), Tensor((place == indices).astype(dy.dtype))),)

    values = record(name, y, (input,), rule) if is_float(x) else _plain(y, input)
    return Extremum(values, _plain(indices.reshape(shape), input))


def max(input, dim=None, keepdim=False):
    """Largest element of all, or (values, indices) along an axis, as torch.max.

    Args:
        input: Tensor or array.
        dim: An axis, or None for the largest of all.
        keepdim: Keep the reduced axis with size 1.

    Returns:
        A scalar array, or with dim the named tuple (values, indices); Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range or empty.
        DTypeError: input is no real array.
    """
    return _extreme("max", input, None, False) if dim is None else _picked("max", input, dim, keepdim)


def min(input, dim=None, keepdim=False):
    """Smallest element of all, or (values, indices) along an axis, as torch.min.

    Args:
        input: Tensor or array.
        dim: An axis, or None for the smallest of all.
        keepdim: Keep the reduced axis with size 1.

    Returns:
        A scalar array, or with dim the named tuple (values, indices); Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range or empty.
        DTypeError: input is no real array.
    """
    return _extreme("min", input, None, False) if dim is None else _picked("min", input, dim, keepdim)


def _argument(name, input, dim, keepdim):
    x = check_real(name, "input", input)
    axes = axes_of(name, x.ndim, dim)
    if _count(x.shape, axes) == 0:
        raise ShapeError(name, "input", list(x.shape), "at least one element")
    if dim is not None and len(axes) > 1:
        raise ShapeError(name, "dim", dim, "one axis or None")
    xp = namespace_of(x)
    flat = x.reshape(-1) if dim is None or not axes else x
    y = xp.asarray(getattr(xp, name)(flat, axis=0 if flat.ndim == 1 else axes[0])).astype("int64")
    return _plain(y.reshape(_reduced(x.shape, axes, keepdim)), input)


@_documented("argmax", "Index of the first largest element", "int64, the shape without that axis", " or empty")
def argmax(input, dim=None, keepdim=False, axis=None, keepdims=False):
    return _argument("argmax", input, *_spelt("argmax", dim, keepdim, axis, keepdims))


@_documented("argmin", "Index of the first smallest element", "int64, the shape without that axis", " or empty")
def argmin(input, dim=None, keepdim=False, axis=None, keepdims=False):
    return _argument("argmin", input, *_spelt("argmin", dim, keepdim, axis, keepdims))


def logsumexp(input, dim, keepdim=False):
    """log(sum(exp(input))) over axes without overflow, as torch.logsumexp.

    Args:
        input: Tensor or array of floats.
        dim: An axis or a tuple of them.
        keepdim: Keep the reduced axes with size 1.

    Returns:
        The shape without those axes, dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range, named twice or empty.
        DTypeError: input is no real array of floats.
    """
    x = _check_float("logsumexp", input)
    axes = axes_of("logsumexp", x.ndim, dim)
    if _count(x.shape, axes) == 0:
        raise ShapeError("logsumexp", "input", list(x.shape), "at least one element along the reduced axes")
    xp = namespace_of(x)
    peak = x.max(axis=axes, keepdims=True)
    peak = xp.where(xp.isfinite(peak), peak, 0).astype(x.dtype)
    total = add(log(sum(exp(sub(input, peak)), axes, keepdim=True)), peak)
    return reshape(total, _reduced(x.shape, axes, keepdim))


def _check_float(operator, input):
    x = check_real(operator, "input", input)
    if not is_float(x):
        raise DTypeError(operator, "input", x.dtype.name, "a floating dtype", "convert it first")
    return x
