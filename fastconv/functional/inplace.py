"""Functions that write their result where their input was, under PyTorch's names with an underscore.

The array itself is written to, so that every view of it changes, and a Tensor goes on as the result: a gradient that
comes back through it passes the function. What an earlier function still needs of the array is noticed when a
gradient reaches it, as everywhere.
"""

import numpy

from fastconv.arrays import namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.functional import activation, elementwise, selection, shape
from fastconv.functional.operands import array, kind_of, on_device, quiet

_DOC = """{name} written to input itself, as torch.nn.functional.{name}_.

    Args:
        input: Tensor or array of floats, which is overwritten.{args}

    Returns:
        input.

    Raises:
        ShapeError: An argument is out of range, or the array is read-only.
        DTypeError: input is no array, or another argument of a wrong type.
        GraphError: input is a leaf that requires a gradient.
    """


def written(name, function, input, *args, **named):
    """function(input, ...) in the array of input, whose shape and dtype it has to have."""
    x = array(name, "input", input)
    if isinstance(x, numpy.ndarray) and not x.flags.writeable:
        raise ShapeError(name, "input", "an array that is read-only", "one that can be written to", "clone it")
    recorded = is_grad_enabled()
    if isinstance(input, Tensor) and input.requires_grad and input.is_leaf and recorded:
        raise GraphError(
            name, "input", "a leaf that requires a gradient", "a result, or a tensor without a gradient",
            "write within no_grad()",
        )  # fmt: skip
    before = Tensor(x.copy(order="K"))  # what a rule may read, the array being overwritten
    if isinstance(input, Tensor) and recorded:
        before._node, before._requires_grad = input._node, input._requires_grad
    y = function(before, *args, **named)
    if y.shape != x.shape:
        raise ShapeError(name, "input", list(x.shape), f"{list(y.shape)}, the shape of the result")
    if kind_of(y.dtype) > kind_of(x.dtype):  # no result is brought to a lower one
        raise DTypeError(name, "input", x.dtype.name, f"{y.dtype.name}, the dtype of the result")
    y = elementwise.cast(y, x.dtype.newbyteorder("="))
    if y.requires_grad and not isinstance(input, Tensor):
        raise GraphError(name, "input", "an array", "a Tensor, where a gradient is wanted", "make it one")
    with quiet():
        x[...] = raw(y)
    if isinstance(input, Tensor) and recorded:
        input._node, input._requires_grad = y._node, y._requires_grad
    return input


def relu_(input):
    return written("relu_", activation.relu, input)


def celu_(input, alpha=1.0):
    return written("celu_", activation.celu, input, alpha)


def elu_(input, alpha=1.0):
    return written("elu_", activation.elu, input, alpha)


def selu_(input):
    return written("selu_", activation.selu, input)


def leaky_relu_(input, negative_slope=0.01):
    return written("leaky_relu_", activation.leaky_relu, input, negative_slope)


def hardtanh_(input, min_val=-1.0, max_val=1.0):
    return written("hardtanh_", activation.hardtanh, input, min_val, max_val)


def threshold_(input, threshold, value):
    return written("threshold_", activation.threshold, input, threshold, value)


def rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False, generator=None):
    return written("rrelu_", activation.rrelu, input, lower, upper, training, False, generator)


for _function, _args in (
    (relu_, ""), (selu_, ""), (celu_, "\n        alpha: As in celu."), (elu_, "\n        alpha: As in elu."),
    (leaky_relu_, "\n        negative_slope: As in leaky_relu."),
    (hardtanh_, "\n        min_val, max_val: As in hardtanh."),
    (threshold_, "\n        threshold, value: As in threshold."),
    (rrelu_, "\n        lower, upper, training, generator: As in rrelu."),
):  # fmt: skip
    _function.__doc__ = _DOC.format(name=_function.__name__.removesuffix("_"), args=_args)


def _fill(input, value):
    """value everywhere."""
    return selection.masked_fill(input, namespace_of(raw(input)).ones(input.shape, bool), value)


def _copied(input, other):
    """other in the shape and dtype of input."""
    other = shape.broadcast_to(elementwise.cast(other, input.dtype), input.shape)
    return elementwise.where(namespace_of(raw(input)).ones(input.shape, bool), other, input)


def _zeroed(input):
    return _fill(input, 0)


_METHODS = {
    "abs_": elementwise.abs, "add_": elementwise.add, "sub_": elementwise.sub, "mul_": elementwise.mul,
    "div_": elementwise.div, "neg_": elementwise.neg, "pow_": elementwise.pow, "exp_": elementwise.exp,
    "sqrt_": elementwise.sqrt, "clamp_": elementwise.clamp, "sigmoid_": elementwise.sigmoid, "tanh_": elementwise.tanh,
    "relu_": activation.relu, "masked_fill_": selection.masked_fill, "fill_": _fill,
    "zero_": _zeroed, "copy_": _copied,
}  # fmt: skip


def methods():
    """The methods of Tensor that write to it, by name."""
    return {name: _method(name, function) for name, function in _METHODS.items()}


def _method(name, function):
    def method(self, *args, **named):
        return written(name, function, self, *args, **named)

    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"{name.removesuffix('_')} written to the tensor itself, which it gives."
    return on_device(method)
