"""The way back from max pooling, 1-D to 3-D: maxima put where they were found, zeros elsewhere."""

from fastconv import autograd, backend
from fastconv.arrays import describe, is_array
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.conv import with_batch
from fastconv.functional.operands import as_ints
from fastconv.functional.pool import check_channels
from fastconv.functional.shape import squeeze
from fastconv.window import check_images, per_axis

_DOC = """Maxima put back where they were found, zeros elsewhere, as torch.nn.functional.max_unpool{rank}d.

    Of equal indices, which windows that overlap may have, the last in the order of the input counts, on every device;
    the gradient goes to all of them, as in PyTorch.

    Args:
        input: [N, C, {output}], or [C, {output}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        indices: int64 array or Tensor of that shape: positions in the flattened [{size}], as max_pool{rank}d returns
            them.
        kernel_size: Positions that a window spanned; an int or one a spatial axis.
        stride: Positions between windows; an int or one a spatial axis. Default: kernel_size.
        padding: Positions on each side; an int or one a spatial axis.
        output_size: [{size}], or a whole shape whose last numbers are these: less than stride away from the default. A
            tuple or list, as windows of several sizes leave the same number of maxima.

    Returns:
        [N, C, {size}], each size (output - 1) * stride + kernel_size - 2 * padding by default; dtype, device and memory
        format of input; a Tensor if input is one. On a GPU, where nobody waits for the answer, the element of an index
        out of range is lost.

    Raises:
        ShapeError: Shapes disagree, a number is out of range, or an index is, in an array on the CPU; or there is an
            empty spatial axis, or a batch without channels.
        DTypeError: input is not floating point or no array, indices are not int64, or an argument is of another type.
    """

_WORDS = {
    1: dict(size="L", output="P"),
    2: dict(size="H, W", output="P, Q"),
    3: dict(size="D, H, W", output="O, P, Q"),
}


def _documented(rank):
    def decorate(function):
        function.__doc__ = _DOC.format(rank=rank, **_WORDS[rank])
        return function

    return decorate


@_documented(1)
def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, rank=1)


@_documented(2)
def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, rank=2)


@_documented(3)
def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, rank=3)


def _max_unpool(input, indices, kernel_size, stride, padding, output_size, rank):
    name = f"max_unpool{rank}d"
    x, unbatched = with_batch(input, rank)
    check_images(name, "input", autograd.raw(x), rank)
    if 0 in x.shape[2:]:
        raise ShapeError(name, "input", list(x.shape), "at least one position on every spatial axis")
    places = _checked_indices(name, indices, input.shape)
    kernel = exact_per_axis(name, "kernel_size", kernel_size, rank, least=1)
    stride = kernel if stride is None else exact_per_axis(name, "stride", stride, rank, least=1)
    padding = exact_per_axis(name, "padding", padding, rank, least=0)
    size = _size(name, x.shape[2:], kernel, stride, padding, output_size)
    if not unbatched:  # where PyTorch takes the channels for a batch
        check_channels(name, x)
    y = placed(name, x, places[None] if unbatched else places, size)
    return squeeze(y, 0) if unbatched else y


def _checked_indices(name, indices, shape):
    """The plain array of indices, of int64 and of this shape."""
    places = autograd.raw(indices)
    if not is_array(places) or places.dtype.name != "int64":
        raise DTypeError(name, "indices", describe(places), "an int64 array or Tensor")
    if places.shape != shape:
        raise ShapeError(name, "indices", list(places.shape), f"{list(shape)}, the shape of input")
    return places


def exact_per_axis(name, argument, value, rank, least):
    """As per_axis, but for a tuple of one, which PyTorch broadcasts to no other number of axes here."""
    if isinstance(value, (tuple, list)) and len(value) != rank:
        raise ShapeError(name, argument, list(value), f"an int or a tuple of {rank}")
    return per_axis(name, argument, value, rank, least)


def _size(name, output, kernel, stride, padding, given):
    """The size of the result: the default, or what is given if windows could have left as many maxima of it."""
    rows = zip(output, kernel, stride, padding, strict=True)
    default = tuple((o - 1) * s + k - 2 * p for o, k, s, p in rows)
    if given is None:
        size = default
    else:
        if not isinstance(given, (tuple, list)):
            raise DTypeError(name, "output_size", describe(given), "a tuple or list of ints")
        rank = len(default)
        if len(given) not in (rank, rank + 2):
            raise ShapeError(name, "output_size", list(given), f"{rank} or {rank + 2} numbers")
        size = as_ints(name, "output_size", (given[-rank:],))
        if any(abs(g - d) >= s for g, d, s in zip(size, default, stride, strict=True)):
            raise ShapeError(name, "output_size", list(given), f"less than {list(stride)} away from {list(default)}")
    if min(size) < 1:  # PyTorch lets some results have no position for the indices to name
        raise ShapeError(name, "padding", list(padding), f"a result of at least one position, and not {list(size)}")
    return size


def placed(name, x, indices, size):
    """y [N, C, *size] of x [N, C, *output]: zeros, and every x at its index; of equal indices the last counts."""
    operators = backend.of(autograd.raw(x), indices)
    try:
        y = operators.pool_place(autograd.raw(x), indices, size)
    except ShapeError as refused:  # an index out of range, of which only the backend knows
        raise ShapeError(name, refused.argument, refused.got, refused.expected) from None

    def rule(dy, _):
        return (lambda: gathered(name, dy, indices),)

    return autograd.record(name, y, (x,), rule, saves=(indices,))


def gathered(name, x, indices):
    """y [N, C, *output]: of every plane of x [N, C, *size] the elements at the indices."""
    y = backend.of(autograd.raw(x)).pool_gather(autograd.raw(x), indices)
    size = x.shape[2:]

    def rule(dy, _):
        return (lambda: scattered(name, dy, indices, size),)

    return autograd.record(name, y, (x,), rule, saves=(indices,))


def scattered(name, dy, indices, size):
    """dx [N, C, *size] of dy [N, C, *output]: every dy at its index; equal indices add up."""
    dx = backend.of(autograd.raw(dy)).pool_scatter(autograd.raw(dy), indices, size)

    def rule(ddx, _):
        return (lambda: gathered(name, ddx, indices),)

    return autograd.record(name, dx, (dy,), rule, saves=(indices,))
