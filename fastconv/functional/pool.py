"""Max and average pooling, windowed and adaptive, 1-D to 3-D, and their gradients.

Max pooling notes which element won: its gradient puts dy there, and the gradient of that reads
there (gather). Averages are linear, so that forward and input gradient are each other's rules.
"""

import operator

from fastconv import autograd, backend
from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.conv import with_batch
from fastconv.functional.shape import squeeze
from fastconv.window import Window, adaptive_output

_WINDOW_ARGS = """input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        stride: Input positions between windows; an int or one a spatial axis. Default: kernel_size.
        padding: Positions on each side, {padding}: an int or one a spatial axis, at most
            half of kernel_size; or a pair (before, after) a spatial axis, such as {pairs}, which
            PyTorch does not have."""

_RAISES = """ShapeError: Shapes disagree, a number is out of range, or {too_small}.
        DTypeError: input is not floating point or no array, or an argument is no int."""

_MAX_DOC = """Largest element of each window, as torch.nn.functional.max_pool{rank}d.

    Of equal elements the first in the order of the input counts; a NaN is larger than any number.

    Args:
        {window_args}
        dilation: Input positions between the elements of a window; an int or one a spatial axis.
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.
        return_indices: Whether to return also where each maximum was found.

    Returns:
        [N, C, {output}], each output size (size + before + after - dilation * (kernel_size - 1) - 1) // stride + 1,
        the division rounded up with ceil_mode; dtype, device and memory format of input; a Tensor if input is one.
        With return_indices also an int64 array or Tensor of that shape: positions in the flattened [{size}].

    Raises:
        {raises}
    """

_AVG_DOC = """Mean of each window, as torch.nn.functional.avg_pool{rank}d.

    Args:
        {window_args}
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.
        count_include_pad: Whether the padding, which is zero, counts as elements of a window.{divisor}

    Returns:
        [N, C, {output}], each output size (size + before + after - kernel_size) // stride + 1, the division
        rounded up with ceil_mode; dtype, device and memory format of input; a Tensor if input is one.

    Raises:
        {raises}
    """

_ADAPTIVE_DOC = """{what} of as many windows as asked for, as torch.nn.functional.adaptive_{kind}_pool{rank}d.

    Output position p covers input positions floor(p * size / output) up to, not including,
    ceil((p + 1) * size / output); windows may overlap.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        output_size: An int or one a spatial axis; None keeps the input's size.{return_indices}

    Returns:
        [N, C, *output_size]; dtype, device and memory format of input; a Tensor if input is one.{indices}

    Raises:
        {raises}
    """

_WORDS = {
    1: dict(size="L", output="P", pairs="((2, 0),)"),
    2: dict(size="H, W", output="P, Q", pairs="((1, 2), (0, 1))"),
    3: dict(size="D, H, W", output="O, P, Q", pairs="((1, 2), (0, 1), (1, 1))"),
}
_DIVISOR = "\n        divisor_override: What to divide each sum by instead of the number of elements; an int, not 0."
_RETURN_INDICES = "\n        return_indices: Whether to return also where each maximum was found."
_INDICES = (
    "\n        With return_indices also an int64 array or Tensor of that shape: positions in the flattened [{size}]."
)


def _documented(template, rank, padding="", too_small="the window is larger than the padded input", **parts):
    words = _WORDS[rank]

    def decorate(function):
        function.__doc__ = template.format(
            rank=rank,
            **words,
            raises=_RAISES.format(too_small=too_small),
            window_args=_WINDOW_ARGS.format(padding=padding, **words),
            **{name: part.format(**words) for name, part in parts.items()},
        )
        return function

    return decorate


def _max_documented(rank):
    return _documented(_MAX_DOC, rank, "never a maximum", "a window holds no element of the input")


def _avg_documented(rank):
    return _documented(_AVG_DOC, rank, "zeros", divisor="" if rank == 1 else _DIVISOR)


def _adaptive_documented(rank, kind):
    is_max = kind == "max"
    return _documented(
        _ADAPTIVE_DOC,
        rank,
        too_small="the input has an empty spatial axis",
        kind=kind,
        what="Largest element" if is_max else "Mean",
        return_indices=_RETURN_INDICES if is_max else "",
        indices=_INDICES if is_max else "",
    )


@_max_documented(1)
def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


@_max_documented(2)
def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


@_max_documented(3)
def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


@_avg_documented(1)
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    return _avg_pool_checked(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, rank=1)


@_avg_documented(2)
def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    return _avg_pool_checked(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, rank=2
    )


@_avg_documented(3)
def avg_pool3d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    return _avg_pool_checked(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, rank=3
    )


@_adaptive_documented(1, "max")
def adaptive_max_pool1d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=1)


@_adaptive_documented(2, "max")
def adaptive_max_pool2d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=2)


@_adaptive_documented(3, "max")
def adaptive_max_pool3d(input, output_size, return_indices=False):
    return _adaptive_max_pool_checked(input, output_size, return_indices, rank=3)


@_adaptive_documented(1, "avg")
def adaptive_avg_pool1d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=1)


@_adaptive_documented(2, "avg")
def adaptive_avg_pool2d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=2)


@_adaptive_documented(3, "avg")
def adaptive_avg_pool3d(input, output_size):
    return _adaptive_avg_pool_checked(input, output_size, rank=3)


def _max_pool_checked(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    x, unbatched = with_batch(input, rank)
    window = Window.pool(f"max_pool{rank}d", autograd.raw(x), kernel_size, stride, padding, dilation, ceil_mode, rank)
    _check_elements(window)
    y, indices = backend.of(autograd.raw(x)).max_pool_forward(autograd.raw(x), window)
    return _maxima(window.operator, x, y, indices, window, unbatched, return_indices)


def _adaptive_max_pool_checked(input, output_size, return_indices, rank):
    name = f"adaptive_max_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    output = adaptive_output(name, autograd.raw(x), output_size, rank)
    y, indices = backend.of(autograd.raw(x)).adaptive_max_pool_forward(autograd.raw(x), output)
    return _maxima(name, x, y, indices, x.shape[2:], unbatched, return_indices)


def _avg_pool_checked(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor, rank):
    name = f"avg_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    window = Window.pool(name, autograd.raw(x), kernel_size, stride, padding, 1, ceil_mode, rank)
    if divisor is not None:
        divisor = _nonzero(name, divisor)
    y = _avg_pool(x, window, bool(count_include_pad), divisor)
    return squeeze(y, 0) if unbatched else y


def _adaptive_avg_pool_checked(input, output_size, rank):
    name = f"adaptive_avg_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    output = adaptive_output(name, autograd.raw(x), output_size, rank)
    y = _adaptive_avg_pool(name, x, output)
    return squeeze(y, 0) if unbatched else y


def _check_elements(window):
    """Refuse a window whose taps, wider apart than the input is large, step over all of it.

    PyTorch gives -inf there with an index outside the input. Only windows that start before the
    input can do so: Window.pool makes none that start behind it.
    """
    for size, stride, dilation, (before, _), count in zip(
        window.size, window.stride, window.dilation, window.padding, window.output, strict=True
    ):
        starts = range(-before, min(0, count * stride - before), stride)
        if any(start % dilation >= size for start in starts):  # the first tap not before the input is behind it
            raise ShapeError(
                window.operator,
                "dilation",
                list(window.dilation),
                f"at least one element of the input {list(window.size)} in every window",
            )


def _nonzero(name, divisor):
    try:
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
    results = (y, autograd.Tensor(indices) if isinstance(y, autograd.Tensor) else indices)
    if unbatched:
        results = tuple(squeeze(result, 0) for result in results)
    return results if return_indices else results[0]


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
    y = backend.of(autograd.raw(x)).pool_gather(autograd.raw(x), indices)

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
