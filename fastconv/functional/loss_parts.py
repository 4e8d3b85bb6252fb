"""What losses share: their documentation, their operands, and how their values are brought together."""

import math
import warnings

from fastconv import backend
from fastconv.arrays import describe, is_cupy, is_float, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record, wants_grad
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast
from fastconv.functional.operands import (
    accumulator,
    array,
    check_broadcast,
    is_number,
    number,
    quiet,
    result_dtype,
)
from fastconv.functional.reduction import mean, sum
from fastconv.functional.shape import broadcast_to

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: {input}.
        target: {target}.{args}
        reduction: {reductions}.{more}

    Returns:
        {returns}; {dtype}; a Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree, {refused}or reduction is none of these.
        DTypeError: Dtypes are of the wrong kind or do not go together, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
OLD = "\n        size_average, reduce: The older spelling of reduction, which decides where one of them is given."


def documented(what, args=OLD, refused="", more="", input="Tensor or array of any shape",
               target="The same, of a shape that broadcasts with it", dtype="the dtype that both combine to",
               returns='A number, or with "none" one value an element',
               reductions='"mean", "sum" or "none"'):  # fmt: skip
    """A decorator that gives a loss its docstring."""

    def decorate(function):
        function.__doc__ = _DOC.format(
            what=what, name=function.__name__, args=args, refused=refused, more=more, input=input, target=target,
            dtype=dtype, returns=returns, reductions=reductions,
        )  # fmt: skip
        return function

    return decorate


def warn(text, depth=5):
    """Tell the caller of a public function, so many calls above this one, what PyTorch would."""
    warnings.warn(text, UserWarning, stacklevel=depth)


def wide(value, dtype):
    """A Tensor of an operand, in the dtype that sums of this dtype are kept in."""
    return cast(value if isinstance(value, Tensor) else Tensor(value), accumulator(dtype))


def as_given(y, *operands):
    """A Tensor, or its array if no operand is a Tensor."""
    return y if any(isinstance(v, Tensor) for v in operands) else raw(y)


def finish(losses, reduction, dtype, *operands):
    """Losses brought together in a dtype; an array if no operand is a Tensor."""
    return as_given(cast(brought_together(losses, reduction), dtype), *operands)


def brought_together(losses, reduction):
    """The mean, the sum, or the losses themselves."""
    return losses if reduction == "none" else (mean if reduction == "mean" else sum)(losses)


def floating(name, argument, value, like=None):
    """The plain array of a floating operand, of the dtype of input where that is given."""
    x = array(name, argument, value)
    if not is_float(x):
        raise DTypeError(name, argument, x.dtype.name, "a floating dtype")
    if like is not None and x.dtype.name != like.dtype.name:
        raise DTypeError(name, argument, x.dtype.name, f"{like.dtype.name}, the dtype of input")
    return x


def undifferentiated(name, argument, value):
    """Refuse an operand whose gradient somebody waits for where PyTorch has none."""
    if is_grad_enabled() and wants_grad(value):
        raise DTypeError(name, argument, "a Tensor that requires a gradient", "one without: it has none", "detach it")


def bound(name, argument, value, least):
    """A number that is at least 0, or more than 0."""
    if not is_number(value):
        raise DTypeError(name, argument, describe(value), "a number")
    if not (value >= 0 if least else value > 0):
        raise ShapeError(name, argument, value, "at least 0" if least else "more than 0")
    return number(value)


def pair(name, input, target, warns=True):
    """input and target in one dtype and one shape, Tensors or arrays as they were.

    Args:
        name: Public name.
        input, target: Of shapes that broadcast.
        warns: Whether PyTorch warns where shapes differ.
    """
    x, t = array(name, "input", input), array(name, "target", target)
    backend.of(x, t)
    if x.shape != t.shape:
        shape = check_broadcast(name, {"input": x, "target": t})
        if warns:
            warn(f"{name}: a target of size {list(t.shape)} differs from the input size {list(x.shape)}. Broadcasting "
                 "will likely lead to incorrect results. Please ensure they have the same size.")  # fmt: skip
            input, target = broadcast_to(input, shape), broadcast_to(target, shape)
            x, t = raw(input), raw(target)  # then an array that had no axes counts as much for the dtype as the other
    dtype = x.dtype if x.dtype == t.dtype and x.dtype.isnative else result_dtype(name, (x, t))
    if dtype.kind in "biu":
        raise DTypeError(name, "input", f"{x.dtype.name} and {t.dtype.name}", "a floating dtype")
    input, target = cast(input, dtype), cast(target, dtype)
    if x.shape != t.shape:
        input, target = broadcast_to(input, shape), broadcast_to(target, shape)
    return input, target


def same_shape(name, input, target):
    """Refuse a target of another shape than input, where PyTorch broadcasts nothing."""
    x, t = raw(input), raw(target)
    if x.shape != t.shape:
        raise ShapeError(name, "target", list(t.shape), f"{list(x.shape)}, the shape of input", "nothing is broadcast")


def factor(name, argument, value, x):
    """The plain array of a factor of losses that is broadcast to the shape of x; None for None."""
    if value is None:
        return None
    undifferentiated(name, argument, value)
    w = array(name, argument, value)
    backend.of(x, w)
    if check_broadcast(name, {"input": x, argument: w}) != x.shape:
        raise ShapeError(name, argument, list(w.shape), f"a shape that broadcasts to {list(x.shape)}")
    return w


def pointwise(name, function, input, target, gradients, reduction, *parameters, dtype=None, refusal=None):
    """A function of fastconv.elementwise.PAIRS of operands from pair(), which the backend computes in one pass.

    Args:
        name: Public name.
        function: Name in PAIRS.
        input, target: Of one dtype and shape.
        gradients: (dy, a, b) -> the gradient of input, and the same for target, by differentiable functions of
            Tensors: for gradients that are to have gradients.
        reduction: "mean", "sum" or "none".
        parameters: Numbers that the function takes.
        dtype: Of the result; None for that of the operands.
        refusal: The error that a gradient raises, where PyTorch has none for these operands; or None.

    Returns:
        The losses brought together, recorded.
    """
    a, b = raw(input), raw(target)
    own, served_by = a.dtype.newbyteorder("="), backend.of(a, b)
    dtype, sums = own if dtype is None else dtype, accumulator(a.dtype)
    count = a.size if reduction == "mean" else 1
    with quiet():
        if reduction == "none":
            y = served_by.binary_forward(a, b, function, parameters).astype(dtype, copy=False)
        else:
            total = served_by.binary_sum(a, b, function, parameters)
            y = namespace_of(a).asarray(total / sums.type(count) if count != 1 else total, dtype)

    def rule(dy, _):
        if refusal is not None:
            raise refusal
        share = cast(dy, own) if reduction == "none" else cast(dy, sums) / (count or 1)
        if is_grad_enabled():
            operands = cast(share, sums), cast(input, sums), cast(target, sums)
            return tuple(lambda gradient=gradient: cast(gradient(*operands), own) for gradient in gradients)
        plain = raw(share), raw(input), raw(target)
        back = backend.of(*plain).binary_grad
        return tuple(lambda operand=operand: Tensor(back(*plain, function, parameters, operand)) for operand in "ab")

    return record(name, y, (input, target), rule, (input, target))


def is_nan_somewhere(y):
    """Whether a result on the CPU holds a NaN; False on a GPU, where nobody waits for the answer."""
    x = raw(y)
    return not is_cupy(x) and math.isnan(float(x.sum(dtype=accumulator(x.dtype))))
