"""Losses of classes, as in torch.nn.functional: computed in float32 for halves, and rounded once.

Class indices are arrays of integers and get no gradient.
"""

import math

from fastconv import backend
from fastconv.arrays import is_cupy, is_float, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, masked
from fastconv.functional.indexing import unpick
from fastconv.functional.loss_parts import OLD, documented, finish, floating, is_nan_somewhere, undifferentiated, wide
from fastconv.functional.operands import (
    accumulator,
    array,
    as_int,
    as_reduction,
    is_number,
    number,
    result_dtype,
    wrapped,
)
from fastconv.functional.reduction import sum, summed
from fastconv.functional.shape import reshape, unsqueeze
from fastconv.functional.softmax import log_softmax, softmax

_CLASS_ARGS = """
        weight: [C], factor of each class, of the dtype of input and without a gradient; or None.
        ignore_index: A class that does not count."""
_ONE_A_TARGET = 'A number, the mean being weighted by the factors of the classes; or with "none" one a target'


@documented("The negative log-likelihood of classes", _CLASS_ARGS + OLD, "on the CPU a class is out of range, ",
            input="Log-probabilities, [C], [N, C] or [N, C, ...]", dtype="dtype of input", returns=_ONE_A_TARGET,
            target="Classes, integers, the shape of input without C; for [C] also [1]")  # fmt: skip
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    reduction = as_reduction("nll_loss", reduction, size_average, reduce)
    x, t = floating("nll_loss", "input", input), _single("nll_loss", input, target)
    losses, each = _of_classes(input, x, t, weight, ignore_index)
    return _average(losses, each, reduction, x.dtype, input, target, weight)


@documented("Cross-entropy of unnormalised scores with classes, or with probabilities of classes",
            _CLASS_ARGS.replace("weight: [C], factor of each class, of the dtype of input and without a gradient",
                                "weight: [C], factor of each class; with classes of the dtype of input and without a "
                                "gradient") + OLD,
            "label_smoothing or, on the CPU, a class is out of range, ",
            "\n        label_smoothing: Share of the target that is spread over all classes, 0 to 1.",
            "Scores, [C], [N, C] or [N, C, ...]",
            "Classes, integers, the shape of input without C, for [C] also [1]; or probabilities, the shape of input",
            "dtype of input, with probabilities the dtype that all combine to", _ONE_A_TARGET)  # fmt: skip
def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0
):
    name, reduction = "cross_entropy", as_reduction("cross_entropy", reduction, size_average, reduce)
    x, t = floating(name, "input", input), array(name, "target", target)
    if not (is_number(label_smoothing) and 0 <= label_smoothing <= 1):
        raise ShapeError(name, "label_smoothing", label_smoothing, "0 to 1")
    share = number(label_smoothing)
    if is_float(t):
        return _of_probabilities(input, target, weight, ignore_index, reduction, share)
    losses, each = _cross_entropy_of_classes(input, x, _single(name, input, target), weight, ignore_index, share)
    return _average(losses, each, reduction, x.dtype, input, target, weight)


def _single(name, input, target):
    """The plain array of classes; without its axis if it holds the one of scores [C]."""
    x, t = raw(input), array(name, "target", target)
    return t.reshape(()) if x.ndim == 1 and t.shape == (1,) else t


def _cross_entropy_of_classes(input, x, t, weight, ignore_index, share):
    """Losses of the scores x of input with class indices t, by the operators, and the plain factor of each."""
    name = "cross_entropy"
    axis, ignored = _class_axis(name, x), as_int(name, "ignore_index", ignore_index)
    _check_classes(name, x, t, axis)
    factors = _factors(name, weight, x, axis)
    xp = backend.namespace(x, t)
    counted = xp.asarray(t != ignored)
    classes = t.astype("int64", copy=False)
    w = None if factors is None else raw(weight)
    scores = input if isinstance(input, Tensor) else Tensor(input)
    scores = scores if axis else unsqueeze(scores, 0)
    arguments = (classes if axis else classes[None], w, ignored, share)
    losses, logsumexp = backend.of(x, t, w).cross_entropy_forward(raw(scores), *arguments)
    _refuse_unknown(name, losses, arguments[0], raw(scores).shape[1], ignored)

    def rule(dlosses, _):
        return (lambda: _cross_entropy_grad(dlosses, scores, logsumexp, arguments),)

    losses = record(name, losses, (scores,), rule, saves=(scores,))
    each = counted.astype(losses.dtype)
    if factors is not None and x.shape[axis]:
        each = xp.asarray(factors.reshape(-1)[xp.clip(xp.where(counted, classes, 0), 0, x.shape[axis] - 1)] * each)
    return (losses if axis else reshape(losses, ())), each


def _cross_entropy_grad(dlosses, scores, logsumexp, arguments):
    """dx; of differentiable functions if somebody may ask for its gradient."""
    if not is_grad_enabled():
        plain = raw(dlosses), raw(scores), logsumexp, *arguments
        return Tensor(backend.of(*plain[:3]).cross_entropy_grad(*plain))
    classes, w, ignored, share = arguments
    x = wide(scores, scores.dtype)
    xp = namespace_of(x.data)
    counted = xp.asarray(classes != ignored)
    count = x.shape[1]
    factors = xp.ones(count, x.dtype) if w is None else w.astype(x.dtype)
    factors = factors.reshape(-1, *(1,) * (x.ndim - 2))
    known = xp.expand_dims(xp.where(counted, classes, 0), 1)
    hits = xp.arange(count).reshape(factors.shape) == known
    shares = xp.expand_dims(counted, 1) * factors * (hits * (1 - share) + share / max(count, 1))
    totals = summed(shares, (1,), x.dtype, True)
    return cast(
        unsqueeze(masked(dlosses, counted), 1) * (softmax(x, 1) * Tensor(totals) - Tensor(shares)), scores.dtype
    )


def _refuse_unknown(name, losses, classes, count, ignored):
    """Refuse classes out of range, whose losses are NaN where the backend has not refused them: not on a GPU."""
    if is_nan_somewhere(losses):
        wrong = classes[(classes != ignored) & ((classes < 0) | (classes >= count))]
        if wrong.size:
            raise ShapeError(name, "target", f"class {int(wrong[0])}", f"0 to {count - 1}, or ignore_index {ignored}")


def _class_axis(name, x):
    if x.ndim == 0:
        raise ShapeError(name, "input", "an array without axes", "[C], [N, C] or [N, C, ...]")
    return min(x.ndim - 1, 1)


def _check_classes(name, x, t, axis):
    """The shape of x without the axis of its classes, which is that of their indices t."""
    if t.dtype.kind not in "iu":
        raise DTypeError(name, "target", t.dtype.name, "integers, the indices of classes")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    if t.shape != shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(shape)}, the shape of input {list(x.shape)} without C")
    return shape


def _factors(name, weight, x, axis):
    """Factors of the classes, [C, 1, ...], wide; or None."""
    if weight is None:
        return None
    undifferentiated(name, "weight", weight)
    w = floating(name, "weight", weight, x)
    if w.shape != (x.shape[axis],):
        raise ShapeError(name, "weight", list(w.shape), f"[{x.shape[axis]}], one a class of input {list(x.shape)}")
    backend.of(x, w)
    return w.astype(accumulator(x.dtype), copy=False).reshape(-1, *(1,) * (x.ndim - axis - 1))


def _of_classes(input, x, t, weight, ignore_index):
    """Losses of the log-probabilities x of input with classes t, by the operator, and the plain factor of each."""
    axis, ignored = _class_axis("nll_loss", x), as_int("nll_loss", "ignore_index", ignore_index)
    _check_classes("nll_loss", x, t, axis)
    w = None if _factors("nll_loss", weight, x, axis) is None else raw(weight)
    classes = t.astype("int64", copy=False)
    logs = input if isinstance(input, Tensor) else Tensor(input)
    logs, classes = (logs, classes) if axis else (unsqueeze(logs, 0), classes[None])
    losses, factor = backend.of(x, t, w).nll_forward(raw(logs), classes, w, ignored)
    _refuse_unknown("nll_loss", losses, classes, raw(logs).shape[1], ignored)
    form = raw(logs).dtype.newbyteorder("="), raw(logs).shape[1]
    rule = _nll_rule(classes, ignored, factor, *form)
    losses = record("nll_loss", losses, (logs,), rule)
    return (losses if axis else reshape(losses, ())), factor


def _nll_rule(classes, ignored, factor, dtype, count):
    """The rule of the gradient: what a loss counts, taken off at its class."""

    def input_grad(dlosses):
        counted = classes != ignored
        known = namespace_of(classes).where(counted & (classes >= 0) & (classes < count), classes, 0)
        terms = masked(dlosses, counted) * -factor
        return unpick(cast(unsqueeze(terms, 1), dtype), known[:, None], 1, count)

    return lambda dlosses, _: (lambda: input_grad(dlosses),)


def _average(losses, each, reduction, dtype, *operands):
    """The losses brought together, the mean weighted by the factors of the classes."""
    dtype = dtype.newbyteorder("=")
    if reduction == "mean":
        losses, reduction = sum(losses) / summed(each, tuple(range(each.ndim)), each.dtype), "none"
    return finish(losses, reduction, dtype, *operands)


def _of_probabilities(input, target, weight, ignore_index, reduction, smoothing):
    """The loss of scores with probabilities of classes."""
    name, x, t = "cross_entropy", raw(input), floating("cross_entropy", "target", target)
    axis = _class_axis(name, x)
    if t.shape != x.shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(x.shape)}, the shape of input")
    if as_int(name, "ignore_index", ignore_index) >= 0:
        raise ShapeError(name, "ignore_index", ignore_index, "a negative one for probabilities of classes")
    present = [x, t] if weight is None else [x, t, floating(name, "weight", weight)]
    backend.of(*present)
    if weight is not None and present[2].shape != (x.shape[axis],):
        expected = f"[{x.shape[axis]}], one a class of input {list(x.shape)}"
        raise ShapeError(name, "weight", list(present[2].shape), expected)
    dtype = result_dtype(name, present)
    logs, share = log_softmax(wide(input, dtype), axis), wide(target, dtype)
    if smoothing:
        share = share * (1 - smoothing) + smoothing / max(x.shape[axis], 1)
    terms = logs * share
    if weight is not None:
        terms = terms * reshape(wide(weight, dtype), (-1, *(1,) * (x.ndim - axis - 1)))
    losses = -sum(terms, axis)
    if reduction == "mean" and not x.shape[axis]:
        losses = losses * math.nan  # a mean over no class, as in PyTorch
    return finish(losses, reduction, dtype, input, target, weight)


def one_hot(tensor, num_classes=-1):
    """Ones at class indices, as torch.nn.functional.one_hot.

    Args:
        tensor: Class indices, integers of any shape.
        num_classes: How many classes; -1 for one more than the largest index.

    Returns:
        int64, the shape of tensor and [num_classes] after it; a Tensor for a Tensor. On a GPU, where nobody waits for
        the answer, an index out of range gives zeros alone.

    Raises:
        ShapeError: On the CPU an index is out of range; or there is none to tell the number from.
        DTypeError: tensor is no array of integers.
    """
    x, count = array("one_hot", "tensor", tensor), as_int("one_hot", "num_classes", num_classes)
    if x.dtype.kind not in "iu":
        raise DTypeError("one_hot", "tensor", x.dtype.name, "integers")
    if count == -1:
        if x.size == 0:
            raise ShapeError("one_hot", "num_classes", -1, "a number, where there is no index to tell it from")
        count = int(x.max()) + 1
    if not is_cupy(x):
        wrong = x[(x < 0) | (x >= count)]
        if wrong.size:
            raise ShapeError("one_hot", "tensor", f"class {int(wrong[0])}", f"0 to {count - 1}")
    xp = namespace_of(x)
    return wrapped((xp.expand_dims(x, -1) == xp.arange(count)).astype("int64"), tensor)
