"""Rows of a table by their number, and the gradients of that."""

import math

import numpy

from fastconv import backend
from fastconv.arrays import describe, is_cupy, is_float
from fastconv.autograd import raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import masked, mul
from fastconv.functional.indexing import getitem, scatter_by_position
from fastconv.functional.operands import accumulator, array, as_int, is_number, quiet


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The rows of weight whose numbers input holds, as torch.nn.functional.embedding.

    Args:
        input: Numbers of rows, int32 or int64 of any shape.
        weight: [V, D].
        padding_idx: A row that gets no gradient, negative ones counted from the end; or None.
        max_norm: Rows that are used and longer than this are scaled to it first, in weight itself; or None.
        norm_type: Exponent of the norm that max_norm limits.
        scale_grad_by_freq: Whether to divide the gradient of a row by how often it is used.
        sparse: Refused: gradients are dense.

    Returns:
        The shape of input and [D] after it, dtype of weight; a Tensor if weight is one. On a GPU, where nobody waits
        for the answer, a number out of range wraps around.

    Raises:
        ShapeError: weight has another number of axes, padding_idx or on the CPU a number is out of range, sparse is
            asked for, or max_norm where weight cannot be written to.
        DTypeError: input is no array of int32 or int64, weight no array, or another argument no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    rows, w = array("embedding", "input", input), array("embedding", "weight", weight)
    if rows.dtype.name not in ("int32", "int64"):
        raise DTypeError("embedding", "input", rows.dtype.name, "int32 or int64")
    if w.ndim != 2:
        raise ShapeError("embedding", "weight", list(w.shape), "[V, D]")
    if sparse:
        raise ShapeError("embedding", "sparse", True, "False: gradients are dense")
    backend.of(rows, w)
    count, padding = w.shape[0], None
    if padding_idx is not None:
        padding = as_int("embedding", "padding_idx", padding_idx)
        if not -count <= padding < count:
            raise ShapeError("embedding", "padding_idx", padding, f"{-count} to {count - 1} for {count} rows")
        padding %= count
    if not is_cupy(rows):
        wrong = rows[(rows < 0) | (rows >= count)]
        if wrong.size:
            raise ShapeError("embedding", "input", f"row {int(wrong[0])}", f"0 to {count - 1} for {count} rows")
    rows = rows.astype("int64")
    if max_norm is not None:
        _limit(rows, w, max_norm, norm_type)
    y = getitem(weight, (rows,))
    if padding is not None:
        kept = backend.namespace(rows).expand_dims(rows != padding, -1)
        y = _with_gradient(y, lambda dy: masked(dy, kept))
    if scale_grad_by_freq and is_float(w):
        share = _one_over_uses(rows, count).astype(accumulator(w.dtype))
        y = _with_gradient(y, lambda dy: mul(dy, share.astype(w.dtype)))
    return y


def _with_gradient(y, change):
    """y as it is, with another gradient."""
    return record("embedding", raw(y), (y,), lambda dy, _: (lambda: change(dy),))


def _one_over_uses(rows, count):
    """For each of the rows, with a last axis of 1, what its gradient is multiplied with."""
    xp = backend.namespace(rows)
    flat = rows.reshape(-1)
    if is_cupy(rows):  # whose bincount waits for the GPU
        uses = scatter_by_position(xp.ones(flat.shape, "float64"), (flat,), (count,))
    else:
        uses = xp.bincount(flat, minlength=count)
    return xp.expand_dims(1.0 / uses[rows], -1)


def _limit(rows, w, max_norm, norm_type):
    """Scale the rows of w that are used and too long, in place."""
    for argument, value in (("max_norm", max_norm), ("norm_type", norm_type)):
        if not is_number(value):
            raise DTypeError("embedding", argument, describe(value), "a number")
    if not is_float(w):
        raise DTypeError("embedding", "weight", w.dtype.name, "a floating dtype beside max_norm")
    if isinstance(w, numpy.ndarray) and not w.flags.writeable:
        raise ShapeError("embedding", "weight", "an array that is read-only", "one that max_norm can write to")
    xp = backend.namespace(rows, w)
    used = xp.zeros(w.shape[0], bool)
    used[rows.reshape(-1)] = True
    wide = w.astype(accumulator(w.dtype))
    with quiet():
        size = xp.abs(wide)
        if math.isinf(norm_type):
            norms = size.max(axis=1)
        elif norm_type == 2:
            norms = xp.sqrt((wide * wide).sum(axis=1))
        else:
            norms = (size**norm_type).sum(axis=1) ** (1 / norm_type)
        scaled = wide * xp.expand_dims(max_norm / (norms + 1e-7), 1)
    long = xp.expand_dims(used & (norms > max_norm), 1)
    w[...] = xp.where(long, scaled, wide).astype(w.dtype)
