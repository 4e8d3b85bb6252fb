"""Geometry of sampling at the points of a grid, in two and three dimensions: checks, and what each point reads.

A point has a coordinate for every spatial axis, that of the last axis first. On an axis of so many positions, the
coordinate c lies at the position

    r = (c + 1) * (size - 1) / 2            where corners are aligned: -1 and 1 are the centres of the outer pixels
    r = (c + 1) * size / 2 - 1/2            otherwise: they are the outer edges of these pixels

"border" moves r to the nearest position, "reflection" reflects it at -1 and 1 first; NaN then goes to the first
position. "zeros" leaves it where it is. Such a position reads, each with a weight:

nearest   the position r rounded to, of two equally near ones the even one
bilinear  low = floor(r) and low + 1, with the weights 1 - (r - low) and r - low
bicubic   low - 1 to low + 2, with the cubic polynomials of CUBIC in r - low; here r stays where it is, and "border" and
          "reflection" move each of the four positions

Outside of the image there are zeros. An order, one for each coordinate, says how often the weights are differentiated
by that coordinate: a position that "border" or "reflection" moved to an edge does not move on, and where an odd number
of reflections led to it, it moves backwards.

Numbers are float64 for float64 and float32 otherwise. r is rounded once in two dimensions; in three the product is
rounded before the difference, as PyTorch's two kernels for CPUs do: at the centre of a pixel rounding decides on a
neighbour, and all backends choose the same.

Sources: PyTorch, aten/src/ATen/native/cpu/GridSamplerKernel.cpp and aten/src/ATen/native/GridSampler.cpp; Keys, Cubic
convolution interpolation for digital image processing, IEEE Trans. ASSP 29(6), 1981.
"""

import math

import numpy

from fastconv.arrays import accumulator, check_float, check_same_dtype, namespace_of
from fastconv.errors import DTypeError, ShapeError

MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")

# Coefficients, constant first, of the polynomials that low - 1 and low are weighted by in t = r - low; low + 2 and
# low + 1 by the same ones in 1 - t.
CUBIC = ((0.0, -0.75, 1.5, -0.75), (1.0, 0.0, -2.25, 1.25))

_SPLIT = 2.0**27 + 1  # halves the digits of a float64


def check(operator, input, grid, mode, padding_mode, align_corners):
    """Refuse what cannot be sampled.

    Args:
        operator: Public name, for messages.
        input: Array [N, C, *size], two or three spatial axes.
        grid: Array [N, *output, 2] or [N, *output, 3].
        mode: One of MODES.
        padding_mode: One of PADDING_MODES.
        align_corners: A bool or None.

    Raises:
        ShapeError: Shapes disagree, a spatial axis of input is empty, there is no such mode, or not for three axes.
        DTypeError: The arrays are not floating or of two dtypes, or align_corners is no bool.
    """
    if mode not in MODES:
        raise ShapeError(operator, "mode", repr(mode), " or ".join(map(repr, MODES)))
    if padding_mode not in PADDING_MODES:
        raise ShapeError(operator, "padding_mode", repr(padding_mode), " or ".join(map(repr, PADDING_MODES)))
    check_align_corners(operator, align_corners)
    check_float(operator, "input", input)
    check_same_dtype(operator, "grid", grid, "input", input)
    rank = input.ndim - 2
    if rank not in (2, 3):
        raise ShapeError(operator, "input", list(input.shape), "[N, C, H, W] or [N, C, D, H, W]")
    if grid.ndim != input.ndim or grid.shape[0] != input.shape[0] or grid.shape[-1] != rank:
        expected = f"[{input.shape[0]}, {'D, ' if rank == 3 else ''}H, W, {rank}]"
        raise ShapeError(operator, "grid", list(grid.shape), f"{expected} for input {list(input.shape)}")
    if 0 in input.shape[2:]:
        raise ShapeError(operator, "input", list(input.shape), "at least one position on every spatial axis")
    if mode == "bicubic" and rank == 3:
        raise ShapeError(operator, "mode", repr(mode), "'bilinear' or 'nearest' for three spatial axes")


def check_align_corners(operator, value):
    """Refuse what is neither a bool nor None.

    Raises:
        DTypeError: It is of another type.
    """
    if value is not None and not isinstance(value, bool):
        raise DTypeError(operator, "align_corners", repr(value), "True, False or None")


def taps_of(mode):
    """How many positions of an axis a point reads."""
    return {"nearest": 1, "bilinear": 2, "bicubic": 4}[mode]


@numpy.errstate(all="ignore")
def taps(coordinates, size, rank, mode, padding_mode, align_corners, order):
    """What points read on one axis.

    Args:
        coordinates: Their coordinates on the axis, an array of any shape and floating dtype.
        size: Positions of the axis.
        rank: How many axes there are.
        mode, padding_mode, align_corners: See above.
        order: How often the weights are differentiated by the coordinate.

    Returns:
        (positions, weights): int64 and float64 arrays [taps, *shape of coordinates]; position -1 is outside.
    """
    c = coordinates.astype(accumulator(coordinates.dtype))
    number = c.dtype.type
    half = number((size - 1 if align_corners else size) / 2)
    once = not align_corners and rank == 2
    r = multiply_add(c + 1, half, -0.5) if once else (c + 1) * half - number(0 if align_corners else 0.5)
    slope = numpy.full(c.shape, float(half))
    if mode != "bicubic" and padding_mode != "zeros":
        r, moves = _padded(r, size, padding_mode, align_corners)
        slope *= moves
    if mode == "nearest":
        return _inside(numpy.rint(r), size)[None], numpy.full((1, *c.shape), 1.0 if order == 0 else 0.0)
    low = numpy.floor(r)
    t = (r - low).astype(numpy.float64)
    if mode == "bilinear":
        read = numpy.stack([low, low + 1])
        weights = [(1 - t, t), (-numpy.ones_like(t), numpy.ones_like(t))][order] if order < 2 else (0 * t, 0 * t)
    else:
        read = numpy.stack([low + i for i in (-1, 0, 1, 2)])
        if padding_mode != "zeros":
            read, _ = _padded(read, size, padding_mode, align_corners)
        far, near = (differentiated(coefficients, order) for coefficients in CUBIC)
        back = (-1) ** order
        weights = _value(far, t), _value(near, t), back * _value(near, 1 - t), back * _value(far, 1 - t)
    return _inside(read, size), numpy.stack(weights) * slope**order


def differentiated(coefficients, order):
    """The coefficients of a derivative of a polynomial, constant first; as many as it has itself."""
    for _ in range(order):
        coefficients = (*(i * a for i, a in enumerate(coefficients) if i), 0.0)
    return coefficients


def _value(coefficients, t):
    total = 0.0
    for a in reversed(coefficients):
        total = total * t + a
    return total


def _padded(r, size, padding_mode, align_corners):
    """Positions moved into the image, and their derivatives by where they were: 1, -1, or 0 at an edge."""
    moves = numpy.ones(r.shape)
    if padding_mode == "reflection":
        r, moves = _reflected(r, size, align_corners)
    last = r.dtype.type(size - 1)
    moves = numpy.where((r > 0) & (r < last), moves, 0)
    return numpy.where(r > 0, numpy.minimum(r, last), r.dtype.type(0)), moves


def _reflected(r, size, align_corners):
    edge, span = (0.0, size - 1) if align_corners else (-0.5, size)
    if span == 0:
        return numpy.zeros_like(r), numpy.zeros(r.shape)
    way = r - r.dtype.type(edge)
    forth = numpy.fmod(abs(way), r.dtype.type(2 * span))
    back = r.dtype.type(2 * span) - forth
    turned = forth > back
    return numpy.where(turned, back, forth) + r.dtype.type(edge), numpy.where(turned ^ (way < 0), -1, 1)


def _inside(r, size):
    """Whole positions as integers, -1 for those outside."""
    return numpy.where((r >= 0) & (r <= size - 1), r, -1).astype(numpy.int64)


def multiply_add(a, b, c):
    """a * b + c, rounded once.

    Args:
        a: NumPy or CuPy array of float32 or float64.
        b, c: Numbers that the dtype of a holds.
    """
    b, c = float(b), float(c)
    if a.dtype == numpy.float32:  # float64 holds the product exactly, and the sum where it is not tiny beside c
        return (a.astype(numpy.float64) * b + c).astype(numpy.float32)
    product = a * b
    # What the product was rounded by, and then the sum: T. J. Dekker, A floating-point technique for extending the
    # available precision, Numerische Mathematik 18, 1971.
    (s, t), (u, v) = _halves(a), _halves(b)
    rest = ((s * u - product) + s * v + t * u) + t * v
    total = product + c
    added = total - product
    rest += (product - (total - added)) + (c - added)
    xp = namespace_of(a)
    return xp.where(xp.isfinite(rest), total + rest, total)


def _halves(a):
    """The upper and the lower half of the digits of float64."""
    high = a * _SPLIT - (a * _SPLIT - a)
    return high, a - high


def points(grid):
    """How many points an image of the grid has."""
    return math.prod(grid.shape[1:-1])
