"""Dropout: elements or whole channels set to zero at random, the rest scaled up.

Source: Srivastava et al., Dropout, JMLR 15 (2014); channels: Tompson et al., arXiv:1411.4280.
"""

import numpy

from fastconv.arrays import describe, namespace_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import check_real, mul
from fastconv.random import Generator, default_generator

_DOC = """{summary}, as torch.nn.functional.{name}.

    Args:
        input: {input}.
        p: Probability of a zero.
        training: False leaves the input as it is.
        inplace: Accepted and without effect: results are always new arrays.
        generator: A fastconv.Generator, or None for the library's own; one seed gives one mask on every backend.

    Returns:
        The shape and dtype of input, what is kept divided by 1 - p; a Tensor for a Tensor.

    Raises:
        ShapeError: p is no probability, or input has another number of axes.
        DTypeError: input is no array of floats.
    """


def _documented(summary, input):
    def decorate(function):
        function.__doc__ = _DOC.format(name=function.__name__, summary=summary, input=input)
        return function

    return decorate


@_documented("Elements set to zero at random", "Tensor or array of floats")
def dropout(input, p=0.5, training=True, inplace=False, generator=None):
    return _drop("dropout", input, p, training, generator, raw(input))


@_documented("Channels set to zero at random", "[N, C, L] or [C, L]")
def dropout1d(input, p=0.5, training=True, inplace=False, generator=None):
    return _drop_channels("dropout1d", input, p, training, generator, 1)


@_documented("Channels set to zero at random", "[N, C, H, W] or [C, H, W]")
def dropout2d(input, p=0.5, training=True, inplace=False, generator=None):
    return _drop_channels("dropout2d", input, p, training, generator, 2)


@_documented("Channels set to zero at random", "[N, C, D, H, W] or [C, D, H, W]")
def dropout3d(input, p=0.5, training=True, inplace=False, generator=None):
    return _drop_channels("dropout3d", input, p, training, generator, 3)


def _drop_channels(operator, input, p, training, generator, rank):
    x = check_real(operator, "input", input)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(operator, "input", f"{x.ndim} axes {list(x.shape)}", f"{rank + 1} or {rank + 2} axes")
    lead = x.ndim - rank
    return _drop(operator, input, p, training, generator, x[(slice(None),) * lead + (slice(0, 1),) * rank])


def _drop(operator, input, p, training, generator, drawn):
    """input times a mask of the shape of `drawn`."""
    x = check_real(operator, "input", input)
    if not 0 <= p <= 1:
        raise ShapeError(operator, "p", p, "a probability in [0, 1]")
    generator = default_generator if generator is None else generator
    if not isinstance(generator, Generator):
        raise DTypeError(operator, "generator", describe(generator), "a fastconv.Generator or None")
    if not training or p == 0:
        return input
    kept = generator.numpy.random(drawn.shape, dtype=numpy.float32) >= p
    mask = kept.astype(x.dtype) * x.dtype.type(1 / (1 - p) if p < 1 else 0)
    return mul(input, namespace_of(x).asarray(mask))
