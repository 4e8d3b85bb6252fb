"""Geometry of resizing, 1-D to 3-D: output sizes, and which input positions meet in each output position.

Every axis is resized for itself. Output position p lies at the input coordinate

    r = max(scale * (p + shift) + offset, 0),   the product and the sum rounded once

nearest        reads position floor(r), of r in float32
nearest-exact  reads position floor(r + 1/2), of r + 1/2 in float32
linear         reads low = floor(r), of r in float32, and high = low + 1, with the shares 1 - (r - low) and r - low;
               behind the last position both are the last one

scale is the size over the output size, or one over a scale factor that is given; shift and offset are 1/2 and -1/2.
In mode "nearest" both are 0; and with align_corners too, where scale is (size - 1) / (output - 1). Numbers are float64
for float64 and float32 otherwise. Every backend computes these very roundings, so that all choose the same neighbours.
Source: PyTorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp, compiled for processors with fused multiply-add.
"""

import functools
import math
import numbers
from typing import NamedTuple

import numpy

from fastconv.arrays import accumulator, check_float, describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.window import LARGEST, per_axis

MODES = ("nearest", "nearest-exact", "linear")
_SPLIT = 2.0**27 + 1  # halves the digits of a float64


class Axis(NamedTuple):
    """How one axis is resized.

    Attributes:
        size, output: Positions of the input and of the output.
        scale, shift, offset: See above; scale is a float that the dtype of the coordinates holds.
        rise: What is added before a coordinate is rounded down: 1/2 in mode "nearest-exact", otherwise 0.
        linear: Whether two positions meet in an output position rather than one.
        dtype: Name of the dtype of the coordinates.
    """

    size: int
    output: int
    scale: float
    shift: float
    offset: float
    rise: float
    linear: bool
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
    number = accumulator(dtype).type
    made = []
    for positions, wanted, factor in zip(size, output, scales, strict=True):
        corners = mode == "linear" and align_corners
        if corners:
            scale = number(positions - 1) / number(wanted - 1) if wanted > 1 else number(0)
        elif factor is not None:
            scale = number(1 / factor)
        else:
            scale = number(positions) / number(max(wanted, 1))
        shift = 0.0 if mode == "nearest" or corners else 0.5
        rise = 0.5 if mode == "nearest-exact" else 0.0
        made.append(
            Axis(positions, wanted, float(scale), shift, -shift, rise, mode == "linear", accumulator(dtype).name)
        )
    return tuple(made)


@functools.lru_cache(maxsize=1024)
def taps(axis):
    """The Taps of an Axis, in the order of the output positions; shares in the dtype of the coordinates."""
    number = numpy.dtype(axis.dtype)
    positions = numpy.arange(axis.output)
    r = numpy.maximum(_coordinates(axis, positions.astype(number)), number.type(0))
    risen = (r + number.type(axis.rise)).astype(numpy.float32)
    low = numpy.minimum(numpy.floor(risen).astype(numpy.int64), axis.size - 1)
    if not axis.linear:
        return Taps(positions, low, numpy.ones(axis.output, number))
    rest = numpy.clip(r - low.astype(number), number.type(0), number.type(1))
    if axis.size == axis.output:
        low, rest = positions, numpy.zeros(axis.output, number)
    high = numpy.minimum(low + 1, axis.size - 1) if axis.size != axis.output else low
    shares = numpy.stack([number.type(1) - rest, rest], axis=1)
    return Taps(numpy.repeat(positions, 2), numpy.stack([low, high], axis=1).reshape(-1), shares.reshape(-1))


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


def output_size(operator, input, size, scale_factor, recompute):
    """Check what an image shall be resized to.

    Args:
        operator: Public name, for messages.
        input: Array [N, C, *size].
        size: An int or one a spatial axis, or None.
        scale_factor: A number or one a spatial axis, or None; one of the two is given.
        recompute: Whether the scale follows from the sizes where a scale factor is given.

    Returns:
        (output_size, scales): an int a spatial axis; and a float a spatial axis, or None.

    Raises:
        ShapeError: A size is below 1, neither or both of size and scale_factor are given, or one has the wrong number
            of values.
        DTypeError: input is no floating array, or an argument is of the wrong type.
    """
    check_float(operator, "input", input)
    if not 3 <= input.ndim <= 5:
        raise ShapeError(operator, "input", list(input.shape), "[N, C, L], [N, C, H, W] or [N, C, D, H, W]")
    rank = input.ndim - 2
    if (size is None) == (scale_factor is None):
        given = "neither" if size is None else "both"
        raise ShapeError(operator, "size and scale_factor", given, "one of the two")
    if 0 in input.shape[2:]:
        raise ShapeError(operator, "input", list(input.shape), "at least one position on every spatial axis")
    if size is not None:
        if recompute:
            raise ShapeError(operator, "recompute_scale_factor", True, "False or None where size is given")
        output, scales = per_axis(operator, "size", size, rank, least=1), None
    else:
        scales = _factors(operator, scale_factor, rank)
        output = tuple(math.floor(n * factor) for n, factor in zip(input.shape[2:], scales, strict=True))
        if min(output) < 1:
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
