"""Lengths of vectors and what is made of them: normalize, cosine_similarity, pairwise_distance, pdist."""

import math

import numpy

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, describe, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import abs, cast, clamp, div, masked, mul, pow, sqrt, sub, where
from fastconv.functional.indexing import getitem
from fastconv.functional.operands import (
    accumulator,
    array,
    as_axes,
    as_axis,
    check_broadcast,
    is_number,
    number,
    on_device,
)
from fastconv.functional.reduction import amax, amin
from fastconv.functional.reduction import sum as total


def normalize(input, p=2.0, dim=1, eps=1e-12):
    """input over its p-norm along an axis, as torch.nn.functional.normalize.

    Args:
        input: Tensor or array of floats.
        p: Exponent of the norm; math.inf for the largest magnitude.
        dim: The axis, or several.
        eps: Least number to divide by.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array of floats, or p or eps no number.
    """
    x = array("normalize", "input", input)
    check_float("normalize", "input", x)
    p, eps = _number("normalize", "p", p), _number("normalize", "eps", eps)
    axes, dtype = as_axes("normalize", "dim", dim, x.ndim), x.dtype.newbyteorder("=")
    if p != 2 or len(axes) != 1 or x.ndim == 0 or eps <= 0:
        return _normalized(input, p, axes, eps, dtype)
    y = backend.of(x).normalize_forward(x, axes[0], eps)

    def rule(dy, _):
        if is_grad_enabled():
            return (lambda: _normalize_gradient(dy, input, axes[0], eps),)
        return (lambda: Tensor(backend.of(raw(dy), x).normalize_grad(raw(dy), x, axes[0], eps)),)

    return record("normalize", y, (input,), rule, (input,))


def _normalized(input, p, axes, eps, dtype):
    """The same of functions that have gradients."""
    wide = cast(input, accumulator(dtype))
    return cast(div(wide, clamp(_norm(wide, p, axes, True), min=eps)), dtype)


def _normalize_gradient(dy, x, axis, eps):
    """dx of functions that have gradients."""
    dtype, wide = dy.dtype, accumulator(dy.dtype)
    dy, x = cast(dy, wide), cast(x, wide)
    length = _norm(x, 2.0, (axis,), True)
    inverse = div(1.0, clamp(length, min=eps))
    y = mul(x, inverse)
    along = masked(total(mul(dy, y), dim=axis, keepdim=True), ~(raw(length) < eps))
    return cast(mul(sub(dy, mul(y, along)), inverse), dtype)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along an axis, as torch.nn.functional.cosine_similarity.

    Args:
        x1, x2: Tensors or arrays of floats of one dtype whose shapes broadcast.
        dim: The axis of the shape that both broadcast to.
        eps: Least length to divide by.

    Returns:
        The shape that both broadcast to without the axis; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not broadcast, or there is no such axis.
        DTypeError: An argument is no array of floats, the dtypes differ, or eps is no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    shape, dtype = _both("cosine_similarity", x1, x2)
    eps = _number("cosine_similarity", "eps", eps)
    axis = as_axis("cosine_similarity", "dim", dim, len(shape))
    axes = (axis,) if shape else ()
    units = []
    for x in (x1, x2):
        wide = cast(x, accumulator(dtype))
        # Each has its own length, along its own axis counted from the end; one that is broadcast counts as often.
        own = axis - len(shape) + wide.ndim
        times = shape[axis] if shape and (own < 0 or wide.shape[own] != shape[axis]) else 1
        length = _norm(wide, 2.0, (own,) if own >= 0 and wide.ndim else (), True)
        length = mul(length, math.sqrt(times)) if times != 1 else length
        plain = raw(length)
        # PyTorch lets the gradient pass a length that is less than eps.
        units.append(div(wide, length + (raw(clamp(plain, min=eps)) - plain)))
    product = mul(*units)
    return cast(total(product, dim=axes) if axes else product, dtype)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last axis, as torch.nn.functional.pairwise_distance.

    Args:
        x1, x2: Tensors or arrays of floats of one dtype whose shapes broadcast.
        p: Exponent of the norm; math.inf for the largest magnitude.
        eps: Added to every difference.
        keepdim: Whether the last axis stays, with size 1.

    Returns:
        The shape that both broadcast to without its last axis; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not broadcast.
        DTypeError: An argument is no array of floats, the dtypes differ, or p or eps is no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    shape, dtype = _both("pairwise_distance", x1, x2)
    p, eps = _number("pairwise_distance", "p", p), _number("pairwise_distance", "eps", eps)
    wide = accumulator(dtype)
    difference = sub(cast(x1, wide), cast(x2, wide)) + eps
    return cast(_norm(difference, p, (len(shape) - 1,) if shape else (), keepdim), dtype)


def pdist(input, p=2.0):
    """The p-norm of the difference of every two rows, as torch.nn.functional.pdist.

    Args:
        input: Tensor or array of floats, [N, M].
        p: Exponent of the norm, at least 0; math.inf for the largest magnitude.

    Returns:
        [N * (N - 1) / 2]: rows 0 and 1, 0 and 2, and so on, then 1 and 2; dtype of input; a Tensor for a Tensor.

    Raises:
        ShapeError: input has not two axes, or p is less than 0.
        DTypeError: input is no array of floats, or p is no number.
    """
    x = array("pdist", "input", input)
    check_float("pdist", "input", x)
    if x.ndim != 2:
        raise ShapeError("pdist", "input", list(x.shape), "[N, M]")
    p = _number("pdist", "p", p)
    if not p >= 0:
        raise ShapeError("pdist", "p", p, "at least 0")
    dtype = x.dtype.newbyteorder("=")
    wide = cast(input, accumulator(dtype))
    first, second = (namespace_of(x).asarray(i) for i in numpy.triu_indices(x.shape[0], 1))
    difference = sub(getitem(wide, first), getitem(wide, second))
    # Without a column all distances are 0, but no number is the largest.
    return cast(_norm(difference, p if x.shape[1] else 1.0, (1,), False), dtype)


@on_device  # which the package, whose module of this name it would hide, does not do
def norm(input, p="fro", dim=None, keepdim=False, *, dtype=None):
    """The p-norm over axes or over all elements, as torch.norm.

    Args:
        input: Tensor or array of floats.
        p: Exponent of the norm; "fro" is 2, math.inf the largest and -math.inf the smallest magnitude, 0 the number of
            elements other than 0.
        dim: The axis, or several; None for all elements.
        keepdim: Whether the axes stay, with size 1.
        dtype: Convert to this dtype first.

    Returns:
        The shape without the axes; a Tensor for a Tensor. Where the norm has no slope, at 0, its gradient is 0.

    Raises:
        ShapeError: There is no such axis, or p is "nuc", for which there are no singular values here.
        DTypeError: input is no array of floats, or p no number.
    """
    input = input if dtype is None else cast(input, dtype)
    x = array("norm", "input", input)
    check_float("norm", "input", x)
    if isinstance(p, str):
        if p != "fro":
            raise ShapeError("norm", "p", repr(p), 'a number or "fro"')
        p = 2.0
    exponent, axes = _number("norm", "p", p), as_axes("norm", "dim", dim, x.ndim)
    if math.isinf(exponent) and 0 in (x.shape[i] for i in axes if x.ndim):
        raise ShapeError("norm", "input", list(x.shape), "at least one element along the axes")
    kept = x.dtype.newbyteorder("=")
    return cast(_norm(cast(input, accumulator(kept)), exponent, axes if x.ndim else (), keepdim), kept)


def _number(operator, argument, value):
    if not is_number(value):
        raise DTypeError(operator, argument, describe(value), "a number")
    return float(number(value))


def _both(operator, x1, x2):
    """The shape that two arrays of one floating dtype broadcast to, and the dtype."""
    a, b = array(operator, "x1", x1), array(operator, "x2", x2)
    check_float(operator, "x1", a)
    check_same_dtype(operator, "x2", b, "x1", a)
    backend.of(a, b)
    return check_broadcast(operator, {"x1": a, "x2": b}), a.dtype.newbyteorder("=")


def _norm(x, p, axes, keepdim):
    """The p-norm over some axes. Where it has no slope, at 0, its gradient is 0."""
    size = abs(x)
    if not axes:
        return size if p else _unless_zero(size, lambda v: v * 0 + 1)
    if math.isinf(p):
        return (amax if p > 0 else amin)(size, dim=axes, keepdim=keepdim)
    if p == 0:
        return total(_unless_zero(size, lambda v: v * 0 + 1), dim=axes, keepdim=keepdim)
    if p == 1:
        return total(size, dim=axes, keepdim=keepdim)
    if p == 2:
        return _unless_zero(total(mul(x, x), dim=axes, keepdim=keepdim), sqrt)
    powers = pow(size, p) if p > 1 or p < 0 else _unless_zero(size, lambda v: pow(v, p))
    return _unless_zero(total(powers, dim=axes, keepdim=keepdim), lambda v: pow(v, 1 / p))


def _unless_zero(x, function):
    """function(x), and 0 for 0, where it is not asked for a slope."""
    plain = raw(x)
    zero = namespace_of(plain).asarray(plain == 0)  # of an array without axes NumPy makes a bool
    return where(zero, plain * 0, function(where(zero, plain * 0 + 1, x)))
