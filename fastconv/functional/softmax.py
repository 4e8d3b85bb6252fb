"""Softmax and its relatives, as in torch.nn.functional.

gumbel_softmax: Jang, Gu & Poole, arXiv:1611.01144, and Maddison, Mnih & Teh, arXiv:1611.00712.
"""

import numpy

from fastconv import backend
from fastconv.arrays import check_float, describe, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import add, cast, div, exp, neg
from fastconv.functional.operands import accumulator, array, as_axis, is_number, number
from fastconv.functional.reduction import argmax
from fastconv.random import Generator, default_generator

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: Tensor or array of any shape, of floats; of anything with dtype.
        dim: The axis; None is 0 for 0, 1 or 3 axes and otherwise 1.
        _stacklevel: Accepted and without effect, as PyTorch has it in this place.
        dtype: Convert to this dtype first.

    Returns:
        The shape and dtype of input, or dtype; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array of floats, or another argument of a wrong type.
    """


def _documented(what):
    def decorate(function):
        function.__doc__ = _DOC.format(what=what, name=function.__name__)
        return function

    return decorate


def _along(name, input, dim, dtype):
    """input in the dtype, its plain array, and the axis."""
    input = input if dtype is None else cast(input, dtype)
    x = array(name, "input", input)
    check_float(name, "input", x)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    return input, x, as_axis(name, "dim", dim, x.ndim)


def _normalised(name, input, dim, dtype, log):
    input, x, axis = _along(name, input, dim, dtype)
    y = backend.of(x).softmax_forward(x if x.ndim else x.reshape(1), axis, log).reshape(x.shape)

    def rule(dy, y):
        if is_grad_enabled():
            return (lambda: _softmax_grad(dy, y, axis, log),)
        plain = [v if v.ndim else v.reshape(1) for v in (raw(dy), raw(y))]
        dx = backend.of(*plain).softmax_input_grad
        return (lambda: Tensor(dx(*plain, axis, log).reshape(y.shape)),)

    return record(name, y, (input,), rule, saves_output=True)


def _softmax_grad(dy, y, axis, log):
    """The gradient by functions that have gradients."""
    dtype, wide = dy.dtype, accumulator(dy.dtype)
    dy, y = cast(dy, wide), cast(y, wide)
    if log:
        return cast(dy - exp(y) * dy.sum(dim=axis, keepdim=True), dtype)
    return cast(y * (dy - (dy * y).sum(dim=axis, keepdim=True)), dtype)


@_documented("exp(x) over the sum of exp(x) along an axis")
def softmax(input, dim=None, _stacklevel=3, dtype=None):
    return _normalised("softmax", input, dim, dtype, False)


@_documented("softmax of -x")
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    input, _, axis = _along("softmin", input, dim, dtype)
    return softmax(neg(input), axis)


@_documented("The logarithm of softmax, computed without overflow")
def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    return _normalised("log_softmax", input, dim, dtype, True)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1, generator=None):
    """Samples of the Gumbel-softmax distribution, as torch.nn.functional.gumbel_softmax.

    Args:
        logits: Tensor or array of floats, unnormalised logarithms of probabilities.
        tau: Temperature; the lower, the nearer a sample is to one-hot.
        hard: True gives one-hot samples, with the gradient of the soft ones.
        eps: Accepted and without effect, as in PyTorch.
        dim: The axis of the classes.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds. The values
            are drawn on the host, so that a seed gives the same sample on every device.

    Returns:
        The shape and dtype of logits; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: logits is no array of floats, tau no number, or generator no Generator.
    """
    x = array("gumbel_softmax", "logits", logits)
    check_float("gumbel_softmax", "logits", x)
    axis = as_axis("gumbel_softmax", "dim", dim, x.ndim)
    if not is_number(tau):
        raise DTypeError("gumbel_softmax", "tau", describe(tau), "a number")
    generator = default_generator if generator is None else generator
    if not isinstance(generator, Generator):
        raise DTypeError("gumbel_softmax", "generator", describe(generator), "a fastconv.Generator or None")
    if hard and x.ndim and x.shape[axis] == 0:
        raise ShapeError("gumbel_softmax", "logits", list(x.shape), f"at least one element along axis {axis}")
    xp, wide = namespace_of(x), accumulator(x.dtype)
    least = numpy.finfo("float64").tiny  # an exponential variable may come out as 0
    noise = -numpy.log(numpy.maximum(generator.numpy.standard_exponential(x.shape), least)).astype(wide)
    soft = softmax(div(add(cast(logits, wide), xp.asarray(noise)), number(tau)), axis)
    if not hard:
        return cast(soft, x.dtype.newbyteorder("="))
    y = raw(soft)
    largest = raw(argmax(y, axis, keepdim=True)) if x.ndim else 0
    places = xp.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)]) if x.ndim else 0
    one_hot = xp.asarray(places == largest).reshape(x.shape).astype(x.dtype.newbyteorder("="))
    if not isinstance(logits, Tensor):
        return one_hot
    return record("gumbel_softmax", one_hot, (cast(soft, one_hot.dtype),), lambda dy, _: (lambda: dy,))
