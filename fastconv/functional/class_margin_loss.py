"""Losses that ask for a margin between the scores of classes, as in torch.nn.functional.

Computed in float32 for halves, and rounded once. A difference that is NaN does not count, as in PyTorch.
"""

import math

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, describe, is_cupy
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, masked
from fastconv.functional.indexing import getitem
from fastconv.functional.operands import accumulator, array, as_reduction, is_number, number
from fastconv.functional.reduction import mean, sum
from fastconv.functional.shape import reshape, unsqueeze


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """The sum of weight[y] * max(0, margin - input[y] + input[i]) ** p over classes i other than y, over C.

    As torch.nn.functional.multi_margin_loss.

    Args:
        input: Scores, [N, C] or [C].
        target: Classes y, integers, [N] or no axes.
        p: 1 or 2.
        margin: How much higher the score of the class shall be.
        weight: [C], factor of each class; or None.
        size_average, reduce: PyTorch's older spelling of reduction, which decides where one is given.
        reduction: "mean", "sum" or "none".

    Returns:
        A number, or with "none" the shape of target; dtype of input; a Tensor if input is one. The mean of no samples
        is NaN.

    Raises:
        ShapeError: Shapes disagree, there is no class, p is neither 1 nor 2, reduction is none of the three, or on
            the CPU a class is out of range; on a GPU, where nobody waits for the answer, its loss is NaN.
        DTypeError: input is no array of floats, target none of integers, weight of another dtype, or margin no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    name = "multi_margin_loss"
    reduction = as_reduction(name, reduction, size_average, reduce)
    if not is_number(p) or p not in (1, 2):
        raise ShapeError(name, "p", describe(p), "1 or 2")
    if not is_number(margin):
        raise DTypeError(name, "margin", describe(margin), "a number")
    x, t = _rows(name, input), _classes(name, target)
    samples, classes = x.shape
    if t.ndim > 1 or t.size != samples or (t.ndim == 0 and raw(input).ndim == 2):
        raise ShapeError(name, "target", list(t.shape), f"[{samples}] for input {list(raw(input).shape)}")
    plain = raw(x)
    xp = backend.namespace(plain, t)
    rows = t.reshape(-1).astype("int64")
    wrong = xp.asarray((rows < 0) | (rows >= classes))
    _refuse(name, rows, wrong, f"0 to {classes - 1}")
    rows = xp.where(wrong, 0, rows)
    others = xp.asarray(xp.arange(classes) != xp.expand_dims(rows, 1))
    own = unsqueeze(getitem(x, (xp.arange(samples), rows)), 1)
    z = x - own + number(margin)
    z = masked(z, others & (z.data > 0))
    z = z * z if p == 2 else z
    if weight is not None:
        w = array(name, "weight", weight)
        check_same_dtype(name, "weight", w, "input", raw(input))
        if w.shape != (classes,):
            raise ShapeError(name, "weight", list(w.shape), f"[{classes}], one a class of input")
        backend.of(plain, w)
        z = z * Tensor(xp.expand_dims(w.astype(plain.dtype)[rows], 1))
    losses = sum(z, 1) / classes
    if is_cupy(plain):
        losses = losses + Tensor(xp.where(wrong, math.nan, 0.0).astype(plain.dtype))
    return _finish(reshape(losses, *t.shape), reduction, input)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """sum(max(0, 1 - input[y] + input[i])) / C over classes y that are present and i that are not.

    As torch.nn.functional.multilabel_margin_loss.

    Args:
        input: Scores, [N, C] or [C].
        target: The classes that are present, integers of the shape of input; what follows the first -1 of a sample does
            not count.
        size_average, reduce: PyTorch's older spelling of reduction, which decides where one is given.
        reduction: "mean", "sum" or "none".

    Returns:
        A number, or with "none" [N] or no axes; dtype of input; a Tensor if input is one. The mean of no samples is
        NaN.

    Raises:
        ShapeError: Shapes disagree, there is no class, reduction is none of the three, or on the CPU a class is out of
            range; on a GPU, where nobody waits for the answer, the loss of its sample is NaN.
        DTypeError: input is no array of floats, or target none of integers.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    name = "multilabel_margin_loss"
    reduction = as_reduction(name, reduction, size_average, reduce)
    x, t = _rows(name, input), _classes(name, target)
    shape = raw(input).shape
    if t.shape != shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(shape)}, the shape of input")
    samples, classes = x.shape
    plain = raw(x)
    xp = backend.namespace(plain, t)
    listed = t.reshape(samples, classes).astype("int64")
    wrong = xp.asarray((listed < -1) | (listed >= classes))
    _refuse(name, listed, wrong, f"-1 to {classes - 1}")
    # Position j counts if no -1 stands at or before it: a triangle of comparisons, for want of a running maximum.
    ends = xp.expand_dims(listed < 0, 1) & (xp.arange(classes) <= xp.expand_dims(xp.arange(classes), 1))
    counted = xp.asarray(~ends.any(axis=2) & ~wrong)
    known = xp.where(counted, listed, 0)
    hits = xp.expand_dims(counted, 2) & (xp.expand_dims(known, 2) == xp.arange(classes))
    absent = xp.asarray(~hits.any(axis=1))
    own = getitem(x, (xp.expand_dims(xp.arange(samples), 1), known))
    z = unsqueeze(x, 1) - unsqueeze(own, 2) + 1.0
    z = masked(z, xp.expand_dims(counted, 2) & xp.expand_dims(absent, 1) & (z.data > 0))
    losses = sum(z, (1, 2)) / classes
    if is_cupy(plain):
        losses = losses + Tensor(xp.where(wrong.any(axis=1), math.nan, 0.0).astype(plain.dtype))
    return _finish(losses if len(shape) == 2 else reshape(losses, ()), reduction, input)


def _rows(name, input):
    """The scores as a wide Tensor [N, C]."""
    x = array(name, "input", input)
    check_float(name, "input", x)
    if x.ndim > 2 or (x.ndim and x.shape[-1] == 0):
        raise ShapeError(name, "input", list(x.shape), "[N, C] or [C] with at least one class")
    wide = cast(input if isinstance(input, Tensor) else Tensor(input), accumulator(x.dtype))
    return wide if x.ndim == 2 else reshape(wide, 1, x.size)


def _classes(name, target):
    t = array(name, "target", target)
    if t.dtype.kind not in "iu":
        raise DTypeError(name, "target", t.dtype.name, "integers, the indices of classes")
    return t


def _refuse(name, classes, wrong, expected):
    if not is_cupy(classes) and wrong.any():
        raise ShapeError(name, "target", f"class {int(classes[wrong][0])}", expected)


def _finish(losses, reduction, input):
    """The losses brought together, in the dtype of input; an array if it is no Tensor."""
    if reduction != "none":
        losses = (mean if reduction == "mean" else sum)(losses)
    y = cast(losses, raw(input).dtype.newbyteorder("="))
    return y if isinstance(input, Tensor) else y.data
