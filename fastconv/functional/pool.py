"""Max and average pooling, windowed and adaptive, 1-D to 3-D, and their gradients.

Max pooling notes which element won: its gradient puts dy there, and the gradient of that reads
there (gather). Averages are linear, so that forward and input gradient are each other's rules.
"""

import math
import operator

import numpy

from fastconv import autograd, backend
from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.conv import with_batch
from fastconv.functional.operands import wrapped
from fastconv.functional.pool_docs import (
    adaptive_documented,
    avg_documented,
    max_documented,
    with_indices_documented,
)
from fastconv.functional.pool_integers import integer_maxima, integer_means, is_integer, like_floats
from fastconv.functional.reduction import mean
from fastconv.functional.shape import squeeze
from fastconv.pool import holds_elements, in_plane
from fastconv.window import Window, adaptive_output

# Elements of a window that a byte can number.
_MOST_NARROW = 256
_MAX_ARGUMENTS = "input, kernel_size, stride, padding, dilation, ceil_mode"


@max_documented(1)
def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


@with_indices_documented(1, "max_pool1d", _MAX_ARGUMENTS)
def max_pool1d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, True, rank=1)


@max_documented(2)
def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


@with_indices_documented(2, "max_pool2d", _MAX_ARGUMENTS)
def max_pool2d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, True, rank=2)


@max_documented(3)
def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


@with_indices_documented(3, "max_pool3d", _MAX_ARGUMENTS)
def max_pool3d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, True, rank=3)


@avg_documented(1)
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    return _avg_pool_checked(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, rank=1)


@avg_documented(2)
def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    return _avg_pool_checked(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, rank=2
    )


@avg_documented(3)
def avg_pool3d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    return _avg_pool_checked(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, rank=3
    )


@adaptive_documented(1, "max")
def adaptive_max_pool1d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=1)


@with_indices_documented(1, "adaptive_max_pool1d", "input, output_size")
def adaptive_max_pool1d_with_indices(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, True, rank=1)


@adaptive_documented(2, "max")
def adaptive_max_pool2d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=2)


@with_indices_documented(2, "adaptive_max_pool2d", "input, output_size")
def adaptive_max_pool2d_with_indices(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, True, rank=2)


@adaptive_documented(3, "max")
def adaptive_max_pool3d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=3)


@with_indices_documented(3, "adaptive_max_pool3d", "input, output_size")
def adaptive_max_pool3d_with_indices(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, True, rank=3)


@adaptive_documented(1, "avg")
def adaptive_avg_pool1d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=1)


@adaptive_documented(2, "avg")
def adaptive_avg_pool2d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=2)


@adaptive_documented(3, "avg")
def adaptive_avg_pool3d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=3)


def _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    name = f"max_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    plain = autograd.raw(x)
    served = is_integer(plain) and (rank > 1 or return_indices)  # of signals PyTorch has kernels of floats alone
    checked = like_floats(plain) if served else plain
    ceil_mode = flag(name, "ceil_mode", ceil_mode)
    window = Window.pool(name, checked, kernel_size, stride, padding, dilation, ceil_mode, rank)
    check_channels(name, plain)
    if not holds_elements(window):  # PyTorch gives -inf there, with an index outside the input
        expected = f"at least one element of the input {list(window.size)} in every window"
        raise ShapeError(name, "dilation", list(window.dilation), expected)
    if served:
        y, indices = integer_maxima(plain, window)
    else:  # what nobody but the gradient reads may be as narrow as it can
        in_window = not return_indices and math.prod(window.kernel) <= _MOST_NARROW
        y, indices = backend.of(plain).max_pool_forward(plain, window, in_window)
    return _maxima(name, x, y, indices, window, unbatched, return_indices)


def _adaptive_max_pool_checked(input, output_size, return_indices, rank):
    name = f"adaptive_max_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    output = adaptive_output(name, autograd.raw(x), output_size, rank)
    if not unbatched:  # where PyTorch takes the channels for a batch
        check_channels(name, x)
    y, indices = backend.of(autograd.raw(x)).adaptive_max_pool_forward(autograd.raw(x), output)
    return _maxima(name, x, y, indices, x.shape[2:], unbatched, return_indices)


def _avg_pool_checked(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor, rank):
    name = f"avg_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    ceil_mode = flag(name, "ceil_mode", ceil_mode)
    plain = autograd.raw(x)
    served = is_integer(plain) and plain.dtype.name == "int64"  # the one of them that PyTorch has
    checked = like_floats(plain) if served else plain
    window = Window.pool(name, checked, kernel_size, stride, padding, 1, ceil_mode, rank)
    check_channels(name, x)
    if rank == 3 and any(taps > size for taps, size in zip(window.kernel, window.size, strict=True)):
        # PyTorch lets neither padding nor ceil_mode make up for it in volumes.
        raise ShapeError(name, "kernel_size", list(window.kernel), f"at most the input: {list(window.size)}")
    if divisor is not None:
        divisor = _nonzero(name, divisor)
    count_include_pad = flag(name, "count_include_pad", count_include_pad)
    if served:
        y = wrapped(integer_means(plain, window, count_include_pad, divisor), x)
    else:
        y = _avg_pool(x, window, count_include_pad, divisor)
    return squeeze(y, 0) if unbatched else y


def _adaptive_avg_pool_checked(input, output_size, rank):
    name = f"adaptive_avg_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    output = adaptive_output(name, autograd.raw(x), output_size, rank, one_of_nothing=True)
    if 0 in x.shape[2:]:
        y = mean(x, tuple(range(2, rank + 2)), keepdim=True)  # NaN
    else:
        if rank == 3 and not unbatched and output != (1, 1, 1):
            check_channels(name, x)
        y = _adaptive_avg_pool(name, x, output)
    return squeeze(y, 0) if unbatched else y


def flag(name, argument, value):
    """value as a bool; nothing else stands for one, as in PyTorch.

    Raises:
        DTypeError: It is no bool.
    """
    if not isinstance(value, (bool, numpy.bool_)):
        raise DTypeError(name, argument, describe(value), "a bool")
    return bool(value)


def check_channels(name, x):
    """Refuse [N, 0, *size], which PyTorch refuses too; N may be 0.

    Raises:
        ShapeError: There are no channels.
    """
    if x.shape[1] == 0:
        raise ShapeError(name, "input", list(x.shape), "at least one channel")


def _nonzero(name, divisor):
    try:
        if isinstance(divisor, bool):
            raise TypeError
        number = operator.index(divisor)
    except TypeError:
        raise DTypeError(name, "divisor_override", describe(divisor), "an int or None") from None
    if number == 0:
        raise ShapeError(name, "divisor_override", number, "an int other than 0")
    return number


def _maxima(name, x, y, indices, windows, unbatched, return_indices):
    """The maxima y of x as a recorded result, and with return_indices their positions.

    windows is the Window, or for an adaptive pooling the size of the input.
    """

    def rule(dy, _):
        return (lambda: _max_pool_input_grad(name, dy, indices, windows),)

    y = autograd.record(name, y, (x,), rule, saves=(indices,))
    if not return_indices:
        return squeeze(y, 0) if unbatched else y
    results = (y, autograd.Tensor(indices) if isinstance(y, autograd.Tensor) else indices)
    return tuple(squeeze(result, 0) for result in results) if unbatched else results


def _max_pool_input_grad(name, dy, indices, windows):
    """dx [N, C, *size]: every dy at its index; equal indices add up."""
    operators = backend.of(autograd.raw(dy))
    if isinstance(windows, Window):
        dx = operators.max_pool_input_grad(autograd.raw(dy), indices, windows)
    else:
        dx = operators.adaptive_max_pool_input_grad(autograd.raw(dy), indices, windows)

    def rule(ddx, _):
        return (lambda: _pool_gather(name, ddx, indices, windows),)

    return autograd.record(name, dx, (dy,), rule, saves=(indices,))


def _pool_gather(name, x, indices, windows):
    """y [N, C, *output]: of every plane of x the elements at the indices."""
    y = backend.of(autograd.raw(x)).pool_gather(autograd.raw(x), in_plane(indices, windows))

    def rule(dy, _):
        return (lambda: _max_pool_input_grad(name, dy, indices, windows),)

    return autograd.record(name, y, (x,), rule, saves=(indices,))


def _avg_pool(x, window, count_include_pad, divisor):
    """y [N, C, *output]."""
    y = backend.of(autograd.raw(x)).avg_pool_forward(autograd.raw(x), window, count_include_pad, divisor)

    def rule(dy, _):
        return (lambda: _avg_pool_input_grad(dy, window, count_include_pad, divisor),)

    return autograd.record(window.operator, y, (x,), rule)


def _avg_pool_input_grad(dy, window, count_include_pad, divisor):
    """dx [N, C, *size]."""
    dx = backend.of(autograd.raw(dy)).avg_pool_input_grad(autograd.raw(dy), window, count_include_pad, divisor)

    def rule(ddx, _):
        return (lambda: _avg_pool(ddx, window, count_include_pad, divisor),)

    return autograd.record(window.operator, dx, (dy,), rule)


def _adaptive_avg_pool(name, x, output_size):
    """y [N, C, *output_size]."""
    y = backend.of(autograd.raw(x)).adaptive_avg_pool_forward(autograd.raw(x), output_size)
    size = x.shape[2:]

    def rule(dy, _):
        return (lambda: _adaptive_avg_pool_input_grad(name, dy, size),)

    return autograd.record(name, y, (x,), rule)


def _adaptive_avg_pool_input_grad(name, dy, size):
    """dx [N, C, *size]."""
    dx = backend.of(autograd.raw(dy)).adaptive_avg_pool_input_grad(autograd.raw(dy), size)
    output_size = dy.shape[2:]

    def rule(ddx, _):
        return (lambda: _adaptive_avg_pool(name, ddx, output_size),)

    return autograd.record(name, dx, (dy,), rule)
