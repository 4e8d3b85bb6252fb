"""Fractional max pooling, 2-D and 3-D: windows of one size at steps that are random, but add up to the input.

Source: Graham, Fractional Max-Pooling, arXiv:1412.6071; the steps are those of PyTorch,
aten/src/ATen/native/FractionalMaxPool2d.cpp.
"""

import itertools

from fastconv import autograd, backend
from fastconv.arrays import accumulator, check_same_dtype, describe, is_cupy, namespace_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.conv import with_batch
from fastconv.functional.operands import is_number
from fastconv.functional.pool import check_channels
from fastconv.functional.shape import squeeze
from fastconv.functional.unpool import exact_per_axis, scattered
from fastconv.random import Generator, default_generator
from fastconv.window import check_images

_DOC = """Largest element of each of windows at random steps{where}, as torch.nn.functional.{name}.

    Along an axis window p starts at floor((p + u) * a) - floor(u * a), a = (size - kernel_size) / (output_size - 1),
    with a random u of [0, 1) for each plane and axis; the last one ends where the input ends. Of equal elements the
    first counts; a NaN is larger than any number.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        output_size: An int or one a spatial axis; or None for output_ratio.
        output_ratio: Output size / input size, a number or one a spatial axis; or None. output_size goes before it.
        return_indices: {return_indices}.
        _random_samples: u, an array [N, C, {rank}] of the dtype of input, [1, C, {rank}] without a batch; or None, to
            draw it.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds. The values are
            drawn on the host, so that a seed gives the same windows on every device.

    Returns:
        [N, C, *output_size]; dtype and device of input; a Tensor if input is one.
        {also} int64 array or Tensor of that shape: positions in the flattened [{size}].

    Raises:
        ShapeError: Shapes disagree, a number is out of range, so many windows do not fit into the input, or no output
            size is given; or there is an empty spatial axis, or a batch without channels.
        DTypeError: input is not floating point or no array, the samples are of another dtype, or an argument is of
            another type.
    """

_SIZES = {2: "H, W", 3: "D, H, W"}


def _documented(rank, always):
    def decorate(function):
        function.__doc__ = _DOC.format(
            name=function.__name__,
            rank=rank,
            size=_SIZES[rank],
            where=", and where it was found" if always else "",
            return_indices="Accepted as in PyTorch, and without effect"
            if always
            else "Whether to return also where each maximum was found",
            also="And an" if always else "With return_indices also an",
        )
        return function

    return decorate


@_documented(2, always=False)
def fractional_max_pool2d(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
    generator=None,
):
    results = _fractional(input, kernel_size, output_size, output_ratio, _random_samples, generator, rank=2)
    return results if return_indices else results[0]


@_documented(3, always=False)
def fractional_max_pool3d(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
    generator=None,
):
    results = _fractional(input, kernel_size, output_size, output_ratio, _random_samples, generator, rank=3)
    return results if return_indices else results[0]


@_documented(2, always=True)
def fractional_max_pool2d_with_indices(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
    generator=None,
):
    return _fractional(input, kernel_size, output_size, output_ratio, _random_samples, generator, rank=2)


@_documented(3, always=True)
def fractional_max_pool3d_with_indices(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
    generator=None,
):
    return _fractional(input, kernel_size, output_size, output_ratio, _random_samples, generator, rank=3)


def _fractional(input, kernel_size, output_size, output_ratio, samples, generator, rank):
    """The maxima and their int64 positions."""
    name = f"fractional_max_pool{rank}d"
    x, unbatched = with_batch(input, rank)
    plain = autograd.raw(x)
    check_images(name, "input", plain, rank)
    if 0 in plain.shape[2:]:
        raise ShapeError(name, "input", list(plain.shape), "at least one position on every spatial axis")
    if not unbatched:  # where PyTorch takes the channels for a batch
        check_channels(name, plain)
    kernel = exact_per_axis(name, "kernel_size", kernel_size, rank, least=1)
    output = _output(name, plain.shape[2:], output_size, output_ratio, rank)
    spare = 1 if rank == 3 else 0  # PyTorch refuses volumes the last one
    for i, (size, taps, count) in enumerate(zip(plain.shape[2:], kernel, output, strict=True)):
        if count + taps - 1 + spare > size:
            expected = f"at most {size - taps + 1 - spare} windows of {taps} on axis {i + 2} of {list(plain.shape)}"
            raise ShapeError(name, "output_size", count, expected)
    samples = _samples(name, plain, samples, generator, rank)
    indices = _maxima(plain, samples, kernel, output)
    y = backend.of(plain).pool_gather(plain, indices)
    size = x.shape[2:]
    y = autograd.record(name, y, (x,), lambda dy, _: (lambda: scattered(name, dy, indices, size),), saves=(indices,))
    results = (y, autograd.Tensor(indices) if isinstance(y, autograd.Tensor) else indices)
    return tuple(squeeze(result, 0) for result in results) if unbatched else results


def _output(name, size, output_size, output_ratio, rank):
    """Output positions along each axis."""
    if output_size is not None:
        return exact_per_axis(name, "output_size", output_size, rank, least=0)
    if output_ratio is None:
        raise ShapeError(name, "output_size", None, "an output size or an output ratio")
    ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
    if len(ratios) != rank:
        raise ShapeError(name, "output_ratio", list(ratios), f"a number or a tuple of {rank}")
    if not all(map(is_number, ratios)):
        raise DTypeError(name, "output_ratio", describe(output_ratio), "a number or a tuple of numbers")
    if not all(0 <= ratio <= 1 for ratio in ratios):
        raise ShapeError(name, "output_ratio", list(ratios), "0 to 1")
    return tuple(int(length * ratio) for length, ratio in zip(size, ratios, strict=True))


def _samples(name, x, samples, generator, rank):
    """u [N, C, rank] of the dtype of x, checked or drawn."""
    batch, channels = x.shape[:2]
    if samples is None:
        if generator is not None and not isinstance(generator, Generator):
            raise DTypeError(name, "generator", describe(generator), "a fastconv.Generator or None")
        drawn = (generator or default_generator).numpy.random((batch, channels, rank), dtype="float32")
        return namespace_of(x).asarray(drawn)
    samples = autograd.raw(samples)
    check_same_dtype(name, "_random_samples", samples, "input", x)
    if samples.ndim != 3 or samples.shape[0] < batch or samples.shape[1:] != (channels, rank):
        raise ShapeError(name, "_random_samples", list(samples.shape), [batch, channels, rank])
    backend.of(x, samples)
    # PyTorch's processors compute in the dtype of the samples, halves included, and its GPUs in float32 at least.
    wide = samples.astype(accumulator(samples.dtype), copy=False) if is_cupy(samples) else samples
    return wide[:batch]


def _starts(xp, samples, size, taps, count):
    """Where the windows of every plane start along an axis: int64 [N, C, count] of samples [N, C]."""
    samples = samples[..., None]
    number = samples.dtype.type
    step = number(size - taps) / number(max(count - 1, 1))
    first = (samples * step).astype("int64")
    starts = ((xp.arange(count).astype(samples.dtype) + samples) * step).astype("int64") - first
    starts[..., count - 1 :] = size - taps
    return starts


def _maxima(x, samples, kernel, output):
    """int64 positions [N, C, *output] in the flattened planes of x, of its largest elements in every window."""
    xp, rank = namespace_of(x), len(kernel)
    # The first axis of two is the last of the samples' two, of three the first: so PyTorch has it.
    order = range(rank) if rank == 3 else (1, 0)
    first, strides, stride = 0, [], 1
    for axis in reversed(range(rank)):
        starts = _starts(xp, samples[..., order[axis]], x.shape[2 + axis], kernel[axis], output[axis])
        shape = [*starts.shape[:2], *(1,) * axis, output[axis], *(1,) * (rank - 1 - axis)]
        first = first + starts.reshape(shape) * stride
        strides.insert(0, stride)
        stride *= x.shape[2 + axis]
    operators = backend.of(x)
    indices, largest = first, None
    for tap in itertools.product(*map(range, kernel)):
        places = first + sum(t * s for t, s in zip(tap, strides, strict=True))
        values = operators.pool_gather(x, places)
        if largest is None:
            largest = values
            continue
        wins = (values > largest) | (values != values)
        largest, indices = xp.where(wins, values, largest), xp.where(wins, places, indices)
    return indices
