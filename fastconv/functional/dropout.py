"""Dropout: elements or whole channels set to zero at random, the rest scaled up.

Source: Srivastava et al., Dropout, JMLR 15 (2014); channels: Tompson et al., arXiv:1411.4280;
alpha_dropout: Klambauer et al., arXiv:1706.02515.
"""

import math

import numpy

from fastconv.arrays import describe, is_float, namespace_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import add, mul
from fastconv.functional.operands import array, is_number
from fastconv.random import Generator, default_generator

_DOC = """{what}, as torch.nn.functional.{name}.

    Args:
        input: {input}.
        p: Probability of a zero.
        training: False leaves input as it is.
        inplace: Accepted and without effect; input is never written to.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds. The values
            are drawn on the host, so that a seed gives the same mask on every device.

    Returns:
        The shape and dtype of input{scaled}; a Tensor for a Tensor. What is dropped is multiplied by 0, so NaN and
        infinity give NaN.

    Raises:
        ShapeError: p is no probability, or input has another number of axes.
        DTypeError: input is no array, or in training not of a floating dtype; or generator is no Generator.
    """

_LOW = -1.7580993408473766  # what SELU tends to on the left, -scale * alpha


def _documented(what, input="Tensor or array of floats", scaled=", what is kept divided by 1 - p"):
    def decorate(function):
        function.__doc__ = _DOC.format(name=function.__name__, what=what, input=input, scaled=scaled)
        return function

    return decorate


@_documented("Elements set to zero at random")
def dropout(input, p=0.5, training=True, inplace=False, generator=None):
    x = _checked("dropout", input, p, generator)
    return _dropped("dropout", input, p, generator, x.shape) if training and p else input


@_documented("Channels set to zero at random", "[N, C, L] or [C, L]")
def dropout1d(input, p=0.5, training=True, inplace=False, generator=None):
    x = _checked("dropout1d", input, p, generator)
    if x.ndim not in (2, 3):
        raise ShapeError("dropout1d", "input", f"{x.ndim} axes {list(x.shape)}", "2 or 3 axes, [C, L] or [N, C, L]")
    return _channels("dropout1d", input, p, training, generator, x.ndim - 1)


@_documented("Channels set to zero at random", "[N, C, H, W] or [N, C, L]; PyTorch has plans for any other")
def dropout2d(input, p=0.5, training=True, inplace=False, generator=None):
    # PyTorch takes three axes for a batch of sequences here, other than in dropout1d and dropout3d.
    _checked("dropout2d", input, p, generator)
    return _channels("dropout2d", input, p, training, generator, 2)


@_documented("Channels set to zero at random", "[N, C, D, H, W] or [C, D, H, W]; PyTorch has plans for any other")
def dropout3d(input, p=0.5, training=True, inplace=False, generator=None):
    x = _checked("dropout3d", input, p, generator)
    return _channels("dropout3d", input, p, training, generator, 2 if x.ndim == 5 else 1)


_SHIFTED = ", scaled and shifted so that mean 0 and variance 1 stay what they are"


@_documented("Elements set to what SELU tends to on the left, at random", scaled=_SHIFTED)
def alpha_dropout(input, p=0.5, training=False, inplace=False, generator=None):
    x = _checked("alpha_dropout", input, p, generator)
    return _shifted("alpha_dropout", input, p, generator, x.shape) if training and p else input


@_documented("Channels set to what SELU tends to on the left, at random", "[N, C, ...]", _SHIFTED)
def feature_alpha_dropout(input, p=0.5, training=False, inplace=False, generator=None):
    x = _checked("feature_alpha_dropout", input, p, generator)
    if not training or not p or not x.size:
        return input
    if x.ndim < 2 and p < 1:
        raise ShapeError("feature_alpha_dropout", "input", list(x.shape), "at least 2 axes, [N, C, ...]")
    return _shifted("feature_alpha_dropout", input, p, generator, _of_channels(x.shape, 2))


def _checked(name, input, p, generator):
    """The plain array of input, everything checked."""
    x = array(name, "input", input)
    if not is_number(p):
        raise DTypeError(name, "p", describe(p), "a number")
    if not 0 <= p <= 1:
        raise ShapeError(name, "p", p, "a probability, 0 to 1")
    if generator is not None and not isinstance(generator, Generator):
        raise DTypeError(name, "generator", describe(generator), "a fastconv.Generator or None")
    return x


def _of_channels(shape, leading):
    """The shape with everything behind the leading axes as 1."""
    return shape[:leading] + (1,) * (len(shape) - leading)


def _channels(name, input, p, training, generator, leading):
    """Dropout of everything behind the leading axes."""
    x = raw(input)
    if not training or not p or not x.size:
        return input
    if x.ndim < leading and p < 1:
        raise ShapeError(name, "input", f"{x.ndim} axes {list(x.shape)}", f"at least {leading} axes")
    return _dropped(name, input, p, generator, _of_channels(x.shape, leading))


def _dropped(name, input, p, generator, shape):
    """input times a random mask of a shape that broadcasts with it."""
    x = _floats(name, input)
    if p == 1:
        return mul(input, 0.0)
    mask = _drawn(p, generator, shape).astype(x.dtype) * x.dtype.type(1 / (1 - p))
    return mul(input, namespace_of(x).asarray(mask))


def _shifted(name, input, p, generator, shape):
    """The same with _LOW in the place of zeros, scaled and shifted."""
    x = _floats(name, input)
    if p == 1:
        return mul(input, 0.0)
    scale = 1 / math.sqrt((1 - p) * (1 + p * _LOW * _LOW))
    kept = _drawn(p, generator, shape)
    shift = numpy.where(kept, -scale * p * _LOW, scale * _LOW * (1 - p)).astype(x.dtype)
    xp = namespace_of(x)
    return add(mul(input, xp.asarray(kept.astype(x.dtype) * x.dtype.type(scale))), xp.asarray(shift))


def _floats(name, input):
    x = raw(input)
    if not is_float(x):
        raise DTypeError(name, "input", x.dtype.name, "a floating dtype")
    return x


def _drawn(p, generator, shape):
    """True with probability 1 - p, on the host."""
    generator = default_generator if generator is None else generator
    return generator.numpy.random(shape, dtype=numpy.float32) >= p
