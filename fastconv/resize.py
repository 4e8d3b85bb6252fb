"""Geometry of resizing, 1-D to 3-D: output sizes, and which input positions meet in each output position.

Every axis is resized for itself. Output position p lies at the input coordinate

    r = scale * (p + shift) + offset,   the product and the sum rounded once

nearest        reads position floor(r), of r in float32; r and those below are at least 0
nearest-exact  reads position floor(r + 1/2), of r + 1/2 in float32
linear         reads low = floor(r), of r in float32, and high = low + 1, with the shares 1 - (r - low) and r - low;
               behind the last position both are the last one
cubic          reads the four positions around r, those outside being the next one inside, with the shares of Keys'
               cubic with the slope -3/4; r may be below 0

scale is the size over the output size, or one over a scale factor that is given; shift and offset are 1/2 and -1/2.
In mode "nearest" both are 0; and with align_corners too, where scale is (size - 1) / (output - 1). Numbers are float64
for float64 and float32 otherwise. Every backend computes these very roundings, so that all choose the same neighbours.

For small images in two dimensions PyTorch finds the nearest neighbours otherwise: scale is of float32, "nearest-exact"
is floor of scale * (p + 1/2), and "nearest" repeats each position where the size is doubled or kept, whatever the scale
factor. Its gradients do so always, and are then not those of its forward pass; ours are the transpose of ours. It does
so as well where more than three channels are innermost in memory; ours do not depend on the format.

The modes that end in "-antialias" weigh all positions i around the center c = scale * (p + 1/2) by a filter that is as
wide as an output position where an image shrinks, f((i + 1/2 - c) / max(scale, 1)) over the sum of these: of a
triangle, of Keys' cubic with the slope -1/2, and of Lanczos' sinc(x) * sinc(x / 3). An axis that keeps its size is
copied.

Sources: PyTorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp, compiled for processors with fused multiply-add; R. G.
Keys, Cubic convolution interpolation for digital image processing, IEEE Transactions on Acoustics, Speech, and Signal
Processing 29, 1981; C. E. Duchon, Lanczos filtering in one and two dimensions, Journal of Applied Meteorology 18, 1979.
"""

import functools
import math
import numbers
from typing import NamedTuple

import numpy

from fastconv.arrays import accumulator, check_float, describe, is_array
from fastconv.errors import DTypeError, ShapeError
from fastconv.window import LARGEST, per_axis

MODES = (
    "nearest", "nearest-exact", "linear", "cubic", "linear-antialias", "cubic-antialias", "lanczos-antialias"
)  # fmt: skip
# Rows and columns of a result up to which PyTorch finds the nearest neighbours of images as for small ones.
_SMALL = 128
_SPLIT = 2.0**27 + 1  # halves the digits of a float64


class Axis(NamedTuple):
    """How one axis is resized.

    Attributes:
        size, output: Positions of the input and of the output.
        scale, shift, offset: See above; scale is a float that the dtype of the coordinates holds.
        rise: What is added before a coordinate is rounded down: 1/2 in mode "nearest-exact", otherwise 0.
        mode: One of MODES.
        dtype: Name of the dtype of the coordinates.
    """

    size: int
    output: int
    scale: float
    shift: float
    offset: float
    rise: float
    mode: str
    dtype: str


class Taps(NamedTuple):
    """Entries (output position, input position, share) of one axis, an array for each of the three.

    They are ordered by output position, or by input position once they are transposed.
    """

    output: numpy.ndarray
    input: numpy.ndarray
    share: numpy.ndarray

    def transposed(self):
        """The entries that the gradient sums, in the order of the input positions."""
        order = numpy.argsort(self.input, kind="stable")
        return Taps(self.input[order], self.output[order], self.share[order])

    def starts(self, positions):
        """For each of so many positions the first of its entries, and the end of the last one's."""
        return numpy.searchsorted(self.output, numpy.arange(positions + 1))


@functools.lru_cache(maxsize=1024)
def axes(size, output, mode, align_corners, scales, dtype):
    """The Axis of each spatial axis.

    Args:
        size, output: Positions of the input and of the output on each axis.
        mode: One of MODES.
        align_corners: Whether the first and last positions of input and output coincide; for "linear".
        scales: A scale factor or None for each axis; or None for all.
        dtype: Dtype of the images.

    Returns:
        A tuple of Axis.

    Raises:
        ShapeError: There is no such mode.
    """
    if mode not in MODES:
        raise ShapeError("resize", "mode", repr(mode), " or ".join(map(repr, MODES)))
    scales = (None,) * len(size) if scales is None else scales
    rule = _small_nearest if "nearest" in mode and len(size) == 2 and sum(output) <= _SMALL else _axis
    return tuple(
        rule(positions, wanted, mode, align_corners, factor, accumulator(dtype))
        for positions, wanted, factor in zip(size, output, scales, strict=True)
    )


def _axis(size, output, mode, align_corners, factor, dtype):
    number = dtype.type
    corners = align_corners and "nearest" not in mode
    if corners:
        scale = number(size - 1) / number(output - 1) if output > 1 else number(0)
    else:
        scale = _scale(size, output, factor, number)
    shift = 0.0 if mode == "nearest" or (corners and "antialias" not in mode) else 0.5
    rise = 0.5 if mode == "nearest-exact" else 0.0
    return Axis(size, output, float(scale), shift, -shift, rise, mode, dtype.name)


def _small_nearest(size, output, mode, align_corners, factor, dtype):
    if mode == "nearest" and output in (size, 2 * size):
        scale = size / output
    else:
        scale = _scale(size, output, factor, numpy.float32)
    return Axis(size, output, float(scale), 0.0 if mode == "nearest" else 0.5, 0.0, 0.0, mode, dtype.name)


def _scale(size, output, factor, number):
    return number(size) / number(max(output, 1)) if factor is None else number(1 / factor)


@functools.lru_cache(maxsize=1024)
def taps(axis):
    """The Taps of an Axis, in the order of the output positions; shares in the dtype of the coordinates."""
    number = numpy.dtype(axis.dtype)
    positions = numpy.arange(axis.output)
    if axis.mode in _FILTERS:
        return _filtered(axis, positions, number.type)
    r = _coordinates(axis, positions.astype(number))
    if axis.mode != "cubic":
        r = numpy.maximum(r, number.type(0))
    risen = (r + number.type(axis.rise)).astype(numpy.float32)
    low = numpy.minimum(numpy.floor(risen).astype(numpy.int64), axis.size - 1)
    if "nearest" in axis.mode:
        return Taps(positions, low, numpy.ones(axis.output, number))
    rest = numpy.clip(r - low.astype(number), number.type(0), number.type(1))
    if axis.mode == "cubic":
        return _cubic(axis, positions, low, rest)
    if axis.size == axis.output:
        low, rest = positions, numpy.zeros(axis.output, number)
    high = numpy.minimum(low + 1, axis.size - 1) if axis.size != axis.output else low
    shares = numpy.stack([number.type(1) - rest, rest], axis=1)
    return Taps(numpy.repeat(positions, 2), numpy.stack([low, high], axis=1).reshape(-1), shares.reshape(-1))


def entries(axes, back, dtype):
    """The taps of axes one after the other in each array.

    Args:
        axes: Axis of each, or None for a missing one, which has one position and one tap.
        back: Whether these are the taps of the gradient.
        dtype: Dtype of the shares.

    Returns:
        (starts, positions, shares): for each position of a result the first of its taps in the other two, and behind
        those of an axis the end of its taps.
    """
    starts, positions, shares = [], [], []
    count = 0
    for axis in axes:
        found, outputs = _directed(axis, back) if axis else (Taps(*numpy.zeros((2, 1), int), numpy.ones(1)), 1)
        starts.append(count + found.starts(outputs))
        positions.append(found.input)
        shares.append(found.share.astype(dtype))
        count += found.share.size
    return tuple(numpy.concatenate(parts) for parts in (starts, positions, shares))


def padded(axis, back):
    """The taps of an Axis as a table [most taps of a position, positions].

    Args:
        axis: An Axis.
        back: Whether these are the taps of the gradient.

    Returns:
        (counts, positions, shares): how many taps each position has, and the tables, 0 behind these.
    """
    found, outputs = _directed(axis, back)
    starts = found.starts(outputs)
    counts = numpy.diff(starts)
    positions = numpy.zeros((int(counts.max()), outputs), numpy.int64)
    shares = numpy.zeros(positions.shape, found.share.dtype)
    at = numpy.arange(found.output.size) - starts[found.output], found.output
    positions[at], shares[at] = found.input, found.share
    return counts, positions, shares


def _directed(axis, back):
    """The Taps of an Axis or of its gradient, and how many positions there are of the result."""
    return (taps(axis).transposed(), axis.size) if back else (taps(axis), axis.output)


def _cubic(axis, positions, low, rest):
    """The four neighbours of low + rest."""
    one = rest.dtype.type(1)
    shares = [_keys(distance, -0.75) for distance in (rest + one, rest, one - rest, (one - rest) + one)]
    near = numpy.clip(low[:, None] + numpy.arange(-1, 3), 0, axis.size - 1)
    return Taps(numpy.repeat(positions, 4), near.reshape(-1), numpy.stack(shares, axis=1).reshape(-1))


def _filtered(axis, positions, number):
    """All that a filter reaches; sums and quotients are rounded where PyTorch rounds them."""
    if axis.size == axis.output:
        return Taps(positions, positions, numpy.ones(axis.output, number))
    shape, reach = _FILTERS[axis.mode]
    support = number(reach * max(axis.scale, 1.0))
    center = (axis.scale * (positions + 0.5)).astype(number)
    most = math.ceil(support) * 2 + 1
    first = numpy.maximum(((center - support).astype(numpy.float64) + 0.5).astype(numpy.int64), 0)
    end = numpy.minimum(((center + support).astype(numpy.float64) + 0.5).astype(numpy.int64), axis.size)
    reached = numpy.arange(most) < (end - first)[:, None]
    near = first[:, None] + numpy.arange(most)
    away = (near.astype(number) - center[:, None]).astype(numpy.float64) + 0.5
    distance = abs((away * float(number(1 / max(axis.scale, 1.0)))).astype(number))
    shares = numpy.where(reached & (distance < reach), shape(distance), number(0))
    total = numpy.cumsum(shares, axis=1, dtype=number)[:, -1:]  # one after the other, as PyTorch sums them
    shares = shares / numpy.where(total == 0, number(1), total)
    return Taps(numpy.broadcast_to(positions[:, None], near.shape)[reached], near[reached], shares[reached])


def _triangle(x):
    return x.dtype.type(1) - x


def _keys(x, slope):
    """Keys' cubic, of x from 0 to 2; in float32 a product and a sum round once together, as PyTorch is compiled."""
    number = x.dtype.type

    def fused(a, b, c):
        return (numpy.float64(a) * b + c).astype(x.dtype)

    a = number(slope)
    inner = fused(fused(a + 2, x, -(a + 3)) * x, x, number(1))
    outer = fused(fused(fused(a, x, -5 * a), x, 8 * a), x, -4 * a)
    return numpy.where(x <= 1, inner, outer)


def _lanczos(x):
    return _sinc(x) * _sinc(x / x.dtype.type(3))


def _sinc(x):
    turned = x * x.dtype.type(math.pi)
    return numpy.where(x == 0, x.dtype.type(1), numpy.sin(turned) / numpy.where(x == 0, x.dtype.type(1), turned))


# Filter of x >= 0, and where it ends.
_FILTERS = {
    "linear-antialias": (_triangle, 1.0),
    "cubic-antialias": (lambda x: _keys(x, -0.5), 2.0),
    "lanczos-antialias": (_lanczos, 3.0),
}


def _coordinates(axis, p):
    """scale * (p + shift) + offset, rounded once."""
    scale, moved = p.dtype.type(axis.scale), p + p.dtype.type(axis.shift)
    if p.dtype == numpy.float32:  # the product of two float32 is exact in float64, and so is its sum with 1/2 where > 0
        return (scale.astype(numpy.float64) * moved.astype(numpy.float64) + axis.offset).astype(numpy.float32)
    product = scale * moved
    # What the product was rounded by: T. J. Dekker, A floating-point technique for extending the available precision,
    # Numerische Mathematik 18, 1971. Its sum with -1/2 is exact where it is at least 1/4, and less than 0 otherwise.
    (s, t), (u, v) = _halves(scale), _halves(moved)
    rest = ((s * u - product) + s * v + t * u) + t * v
    return (product + axis.offset) + rest


def _halves(a):
    """The upper and the lower half of the digits of float64."""
    high = a * _SPLIT - (a * _SPLIT - a)
    return high, a - high


def output_size(operator, input, size, scale_factor, recompute, least=1, also=()):
    """Check what an image shall be resized to.

    Args:
        operator: Public name, for messages.
        input: Array [N, C, *size].
        size: An int or one a spatial axis, or None.
        scale_factor: A number or one a spatial axis, or None; one of the two is given.
        recompute: Whether the scale follows from the sizes where a scale factor is given.
        least: Positions that the input and the output need on each axis.
        also: Names of dtypes that are served besides the floating ones.

    Returns:
        (output_size, scales): an int a spatial axis; and a float a spatial axis, or None.

    Raises:
        ShapeError: A size is below `least`, neither or both of size and scale_factor are given, or one has the wrong
            number of values.
        DTypeError: input is no array of a dtype that is served, or an argument is of the wrong type.
    """
    if not (is_array(input) and input.dtype.name in also):
        check_float(operator, "input", input)
    if not 3 <= input.ndim <= 5:
        raise ShapeError(operator, "input", list(input.shape), "[N, C, L], [N, C, H, W] or [N, C, D, H, W]")
    rank = input.ndim - 2
    if (size is None) == (scale_factor is None):
        given = "neither" if size is None else "both"
        raise ShapeError(operator, "size and scale_factor", given, "one of the two")
    if min(input.shape[1:]) < least:
        raise ShapeError(
            operator, "input", list(input.shape), "at least one channel, and position on every spatial axis"
        )
    if size is not None:
        if recompute:
            raise ShapeError(operator, "recompute_scale_factor", True, "False or None where size is given")
        if isinstance(size, (tuple, list)) and len(size) != rank:
            raise ShapeError(operator, "size", list(size), f"an int or a tuple of {rank}")
        output, scales = per_axis(operator, "size", size, rank, least), None
    else:
        scales = _factors(operator, scale_factor, rank)
        output = tuple(math.floor(n * factor) for n, factor in zip(input.shape[2:], scales, strict=True))
        if min(output) < least:
            raise ShapeError(operator, "scale_factor", scale_factor, f"an output of at least 1, not {list(output)}")
        scales = None if recompute else scales
    if max(output) > LARGEST:
        raise ShapeError(operator, "size", list(output), f"at most {LARGEST} positions on an axis")
    return output, scales


def _factors(operator, value, rank):
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) != rank:
        raise ShapeError(operator, "scale_factor", list(values), f"a number or a tuple of {rank}")
    for factor in values:
        if not isinstance(factor, numbers.Real):
            raise DTypeError(operator, "scale_factor", describe(factor), "a number")
        if not 0 < factor < math.inf:
            raise ShapeError(operator, "scale_factor", factor, "a finite number above 0")
    return tuple(float(factor) for factor in values)
