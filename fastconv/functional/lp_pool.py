"""Power averages over windows, 1-D to 3-D."""

import math
import operator

from fastconv.arrays import check_float, describe
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.activation import relu
from fastconv.functional.elementwise import abs, mul, neg, pow, sign
from fastconv.functional.pool import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d

_DOC = """Power average of each window, as torch.nn.functional.lp_pool{rank}d.

    It is (sum of x ** p) ** (1 / p), p being norm_type. The sum is {taps} times the mean of the window: of a window
    that ceil_mode lets overhang, that of its elements in the input. Where the sum is 0, so is the gradient. A negative
    sum gives NaN unless 1 / p is whole: as in PyTorch no absolute values are taken but for infinite powers, which give
    the largest or the smallest of them.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        norm_type: p, a number other than 0; inf and -inf too.
        kernel_size: Positions that a window spans; {kernel}.
        stride: Input positions between windows; an int or one a spatial axis. Default: kernel_size.
        ceil_mode: Whether a last window that overhangs the input gives an output too.

    Returns:
        [N, C, {output}], each output size (size - kernel_size) // stride + 1, the division rounded up with ceil_mode;
        dtype, device and memory format of input; a Tensor if input is one.

    Raises:
        ShapeError: Shapes disagree, a number is out of range, there are no channels, or the window is larger than the
            input.
        DTypeError: input is not floating point or no array, or an argument is of another type.
    """

_EACH = "an int or one a spatial axis"
_WORDS = {
    1: dict(size="L", output="P", taps="kernel_size", kernel="an int"),
    2: dict(size="H, W", output="P, Q", taps="the product of kernel_size", kernel=_EACH),
    3: dict(size="D, H, W", output="O, P, Q", taps="the product of kernel_size", kernel=_EACH),
}
_MAX = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
_MEAN = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


def _documented(rank):
    def decorate(function):
        function.__doc__ = _DOC.format(rank=rank, **_WORDS[rank])
        return function

    return decorate


@_documented(1)
def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, rank=1)


@_documented(2)
def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, rank=2)


@_documented(3)
def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, rank=3)


def _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, rank):
    name = f"lp_pool{rank}d"
    check_float(name, "input", raw(input))
    if not isinstance(norm_type, (int, float)):
        raise DTypeError(name, "norm_type", describe(norm_type), "a number")
    if norm_type == 0:
        raise ShapeError(name, "norm_type", norm_type, "a number other than 0")
    taps = _taps(name, kernel_size, rank)
    try:
        if norm_type in (math.inf, -math.inf):
            size = abs(input)
            if norm_type > 0:
                return _MAX[rank](size, kernel_size, stride, 0, 1, ceil_mode)
            return neg(_MAX[rank](neg(size), kernel_size, stride, 0, 1, ceil_mode))
        mean = _MEAN[rank](pow(input, norm_type), kernel_size, stride, 0, ceil_mode)
    except (ShapeError, DTypeError) as refused:  # in this function's name
        raise type(refused)(name, refused.argument, refused.got, refused.expected) from None
    return pow(mul(mul(sign(mean), relu(abs(mean))), taps), 1.0 / norm_type)


def _taps(name, kernel_size, rank):
    """How many elements a window has; PyTorch broadcasts no tuple of one here."""
    sizes = kernel_size if isinstance(kernel_size, (tuple, list)) and rank > 1 else (kernel_size,) * rank
    if len(sizes) != rank:
        raise ShapeError(name, "kernel_size", list(sizes), f"an int or a tuple of {rank}")
    try:
        return math.prod(operator.index(size) for size in sizes)
    except TypeError:
        raise DTypeError(name, "kernel_size", describe(kernel_size), "an int or a tuple of ints") from None
