"""Matrix products and the linear layer, and their gradients."""

import math

import numpy

from fastconv import backend
from fastconv.arrays import HALVES, check_float, check_same_dtype, name_of
from fastconv.autograd import arrays, read_by_gradients, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional import reduction
from fastconv.functional.elementwise import add, cast, mul
from fastconv.functional.operands import array, wrapped
from fastconv.functional.shape import broadcast_to, reshape, squeeze, transpose, unsqueeze


def matmul(input, other):
    """Matrix product over the last two axes, as torch.matmul.

    Args:
        input: [..., M, L], or a vector [L].
        other: [..., L, K], or a vector [L]; dtype of input. Leading axes broadcast.

    Returns:
        [..., M, K] without the axes that vectors lack; dtype of input; a Tensor if either is one.

    Raises:
        ShapeError: The inner sizes differ, an array has no axes, or leading axes do not broadcast.
        DTypeError: Dtypes differ, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    a, b = array("matmul", "input", input), array("matmul", "other", other)
    if a.dtype.name != b.dtype.name:
        raise DTypeError("matmul", "other", b.dtype.name, f"{a.dtype.name}, the dtype of input", "convert one of them")
    for argument, value in (("input", a), ("other", b)):
        if value.ndim == 0:
            raise ShapeError("matmul", argument, "an array without axes", "at least one axis")
    if a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        expected = f"{'[..., L, K]' if b.ndim > 1 else '[L]'} with L = {a.shape[-1]} for input {list(a.shape)}"
        raise ShapeError("matmul", "other", list(b.shape), expected)
    if a.dtype.kind in "biu":
        return wrapped(_integer_product(a, b), input, other)
    if a.ndim == 1:
        return squeeze(matmul(unsqueeze(input, 0), other), -2 if b.ndim > 1 else 0)
    if b.ndim == 1:
        return squeeze(matmul(input, unsqueeze(other, 1)), -1)
    if b.ndim == 2:  # one product of all the rows
        rows = reshape(input, math.prod(a.shape[:-1]), a.shape[-1])
        return reshape(_matmul(rows, other), *a.shape[:-1], b.shape[-1])
    try:
        lead = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise ShapeError("matmul", "input and other", shapes, "leading axes that broadcast") from None
    return _matmul(broadcast_to(input, *lead, *a.shape[-2:]), broadcast_to(other, *lead, *b.shape[-2:]))


def _integer_product(a, b):
    xp = backend.namespace(a, b)
    try:
        return xp.asarray(xp.matmul(a, b))
    except ValueError:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise ShapeError("matmul", "input and other", shapes, "leading axes that broadcast") from None


def _matmul(a, b):
    """[..., M, L] @ [..., L, K], leading axes equal."""
    c = backend.of(*arrays(a, b)).matmul(*arrays(a, b))
    kept_a, kept_b = read_by_gradients(a, b)

    def rule(dc, _):
        return lambda: _matmul(dc, transpose(kept_b, -2, -1)), lambda: _matmul(transpose(kept_a, -2, -1), dc)

    return record("matmul", c, (a, b), rule, saves=(kept_a, kept_b))


def linear(input, weight, bias=None):
    """input @ weight.T + bias, as torch.nn.functional.linear.

    Args:
        input: [..., in_features].
        weight: [out_features, in_features], or [in_features]; dtype of input.
        bias: [out_features], or up to two axes that broadcast to the result, or with a last axis of 1 to all its rows;
            no axes if weight has one; or None.

    Returns:
        [..., out_features]; dtype of input; a Tensor if any argument is one.

    Raises:
        ShapeError: Shapes disagree.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x, w, b = arrays(input, weight, bias)
    check_float("linear", "input", x)
    check_same_dtype("linear", "weight", w, "input", x)
    if w.ndim not in (1, 2):
        raise ShapeError("linear", "weight", list(w.shape), "[out_features, in_features] or [in_features]")
    if x.ndim == 0 or x.shape[-1] != w.shape[-1]:
        raise ShapeError("linear", "input", list(x.shape), f"[..., {w.shape[-1]}] for weight {list(w.shape)}")
    if bias is not None:
        check_same_dtype("linear", "bias", b, "input", x)
        if b.shape != w.shape[:-1]:
            return _linear_broadcast(input, weight, bias)
    if w.ndim == 1:
        y = linear(input, unsqueeze(weight, 0), None if bias is None else unsqueeze(bias, 0))
        return squeeze(y, -1)
    if x.ndim == 2:
        return _linear(input, weight, bias)
    rows = reshape(input, math.prod(x.shape[:-1]), x.shape[-1])
    return reshape(_linear(rows, weight, bias), *x.shape[:-1], w.shape[0])


def _linear_broadcast(input, weight, bias):
    """linear with a bias of another shape than [out_features]."""
    x, w, b = arrays(input, weight, bias)
    # PyTorch adds a column to the rows of all leading axes, any other matrix to the result as it is.
    whole = x.ndim > 2 and b.shape[-1:] != (1,)
    result = (*(x.shape[:-1] if whole else (math.prod(x.shape[:-1]),)), *w.shape[:-1])
    if w.ndim != 2 or b.ndim > 2 or not _broadcasts(b.shape, result):
        raise ShapeError("linear", "bias", list(b.shape), f"{list(w.shape[:-1])} for weight {list(w.shape)}")
    if b.ndim < 2:
        return linear(input, weight, broadcast_to(bias, w.shape[0]))
    return reshape(add(reshape(linear(input, weight), result), bias), *x.shape[:-1], w.shape[0])


def _broadcasts(shape, result):
    try:
        return numpy.broadcast_shapes(shape, result) == result
    except ValueError:
        return False


def bilinear(input1, input2, weight, bias=None):
    """input1 @ weight[k] @ input2 + bias[k] for every k, as torch.nn.functional.bilinear.

    Args:
        input1: [..., in1_features].
        input2: [..., in2_features], leading axes and dtype of input1.
        weight: [out_features, in1_features, in2_features]; dtype of input1.
        bias: [out_features], or None.

    Returns:
        [..., out_features]; dtype of input1, halves computed in float32; a Tensor if any argument is one.

    Raises:
        ShapeError: Shapes disagree, or an input has no features.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x1, x2, w, b = arrays(input1, input2, weight, bias)
    check_float("bilinear", "input1", x1)
    for argument, value in (("input2", x2), ("weight", w), ("bias", b)):
        if value is not None or argument != "bias":
            check_same_dtype("bilinear", argument, value, "input1", x1)
    if w.ndim != 3 or 0 in w.shape[1:]:
        raise ShapeError("bilinear", "weight", list(w.shape), "[out_features, in1_features, in2_features], no input 0")
    filters, first, second = w.shape
    if x1.ndim == 0 or x1.shape[-1] != first:
        raise ShapeError("bilinear", "input1", list(x1.shape), f"[..., {first}] for weight {list(w.shape)}")
    if x2.shape != (*x1.shape[:-1], second):
        raise ShapeError("bilinear", "input2", list(x2.shape), [*x1.shape[:-1], second])
    if b is not None and b.shape != (filters,):
        raise ShapeError("bilinear", "bias", list(b.shape), f"[{filters}] for weight {list(w.shape)}")
    backend.of(x1, x2, w, b)
    dtype, wide = x1.dtype.newbyteorder("="), "float32" if x1.dtype.name in HALVES else x1.dtype.name
    rows = math.prod(x1.shape[:-1])
    left, right, weights = (
        reshape(cast(value, wide), shape)
        for value, shape in ((input1, (rows, first)), (input2, (rows, 1, second)), (weight, w.shape))
    )
    products = reshape(_matmul(left, reshape(transpose(weights, 0, 1), first, filters * second)), rows, filters, second)
    y = reduction.sum(mul(products, right), -1)
    if bias is not None:
        y = add(y, cast(bias, wide))
    return cast(reshape(y, *x1.shape[:-1], filters), dtype)


def _linear(x, w, b):
    """y [M, K] of x [M, L], w [K, L] and b [K] or None."""
    plain_x, plain_w, plain_b = arrays(x, w, b)
    wide = "float32" if b is not None and name_of(plain_x.dtype) in HALVES else plain_x.dtype  # to round once
    served_by = backend.of(plain_x, plain_w, plain_b)
    y = served_by.matmul(plain_x.astype(wide, copy=False), plain_w.astype(wide, copy=False).T)
    if b is not None:
        y += plain_b
    kept_x, kept_w = read_by_gradients(x, w)

    def rule(dy, _):
        return (
            lambda: _matmul(dy, kept_w),
            lambda: _matmul(transpose(dy, 0, 1), kept_x),
            lambda: dy.sum(dim=0),
        )

    y = y.astype(plain_x.dtype.newbyteorder("="), copy=False)
    return record("linear", y, (x, w, b), rule, saves=(kept_x, kept_w))
