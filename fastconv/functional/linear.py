"""Matrix products and the linear layer, and their gradients."""

import numpy

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype
from fastconv.autograd import arrays, record
from fastconv.errors import ShapeError
from fastconv.functional.elementwise import add
from fastconv.functional.shape import broadcast_to, reshape, squeeze, transpose, unsqueeze


def matmul(input, other):
    """Matrix product over the last two axes, as torch.matmul.

    Args:
        input: [..., M, L], or a vector [L].
        other: [..., L, K], or a vector [L]; dtype of input. Leading axes broadcast.

    Returns:
        [..., M, K] without the axes that vectors lack; dtype of input; a Tensor if either is one.

    Raises:
        ShapeError: The inner sizes differ, a scalar is given, or leading axes do not broadcast.
        DTypeError: Dtypes differ or are not floating point.
        DeviceError: The arrays live on different devices.
    """
    a, b = arrays(input, other)
    check_float("matmul", "input", a)
    check_same_dtype("matmul", "other", b, "input", a)
    for argument, value in (("input", a), ("other", b)):
        if value.ndim == 0:
            raise ShapeError("matmul", argument, "a scalar", "at least one axis")
    if a.ndim == 1:
        return squeeze(matmul(unsqueeze(input, 0), other), -2 if b.ndim > 1 else 0)
    if b.ndim == 1:
        return squeeze(matmul(input, unsqueeze(other, 1)), -1)
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError("matmul", "other", list(b.shape), f"[..., {a.shape[-1]}, K] for input {list(a.shape)}")
    if b.ndim == 2:  # one product of all the rows
        rows = reshape(input, -1 if a.size else int(numpy.prod(a.shape[:-1])), a.shape[-1])
        return reshape(_matmul(rows, other), *a.shape[:-1], b.shape[-1])
    try:
        lead = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise ShapeError("matmul", "input, other", shapes, "leading axes that broadcast") from None
    return _matmul(broadcast_to(input, *lead, *a.shape[-2:]), broadcast_to(other, *lead, *b.shape[-2:]))


def _matmul(a, b):
    """[..., M, L] @ [..., L, K], leading axes equal."""
    c = backend.of(*arrays(a, b)).matmul(*arrays(a, b))

    def rule(dc, _):
        return lambda: _matmul(dc, transpose(b, -2, -1)), lambda: _matmul(transpose(a, -2, -1), dc)

    return record("matmul", c, (a, b), rule, saves=(a, b))


def linear(input, weight, bias=None):
    """input @ weight.T + bias, as torch.nn.functional.linear.

    Args:
        input: [..., in_features].
        weight: [out_features, in_features], or [in_features]; dtype of input.
        bias: [out_features] or None.

    Returns:
        [..., out_features]; dtype of input; a Tensor if any argument is one.

    Raises:
        ShapeError: Shapes disagree.
        DTypeError: Dtypes differ or are not floating point.
        DeviceError: The arrays live on different devices.
    """
    x, w, b = arrays(input, weight, bias)
    check_float("linear", "input", x)
    check_same_dtype("linear", "weight", w, "input", x)
    if w.ndim not in (1, 2) or x.ndim == 0 or x.shape[-1] != w.shape[-1]:
        raise ShapeError("linear", "weight", list(w.shape), f"[out_features, in_features] for input {list(x.shape)}")
    y = matmul(input, transpose(weight, 0, 1) if w.ndim == 2 else weight)
    if bias is None:
        return y
    check_same_dtype("linear", "bias", b, "input", x)
    if b.shape != w.shape[:-1]:
        raise ShapeError("linear", "bias", list(b.shape), list(w.shape[:-1]))
    return add(y, bias)
