"""Sampling at the points of a grid by loops over single elements: see fastconv.cases.loops.

A position is reflected as often as it takes, and cubic weights are Keys' polynomials in the distance.
"""

import collections
import fractions
import itertools
import math

import numpy

from fastconv.cases.sums import exact_sum, exact_sums

__all__ = ["grid_sample_forward", "grid_sample_grid_grad", "grid_sample_input_grad"]

# Keys' polynomials in the distance, highest power first: up to 1, and from there up to 2.
_NEAR, _FAR = (1.25, -2.25, 0.0, 1.0), (-0.75, 3.75, -6.0, 3.0)


def grid_sample_forward(x, grid, *rule):
    """y [N, C, *output]."""
    terms = collections.defaultdict(list)
    for n, p, i, weight in _meetings(grid, x.shape[2:], *rule):
        for c in range(x.shape[1]):
            terms[(n, c, *p)].append(weight * (float(x[(n, c, *i)]) if i else 0.0))
    return exact_sums((*x.shape[:2], *grid.shape[1:-1]), terms)


def grid_sample_input_grad(dy, grid, size, *rule):
    """dx [N, C, *size]."""
    terms = collections.defaultdict(list)
    for n, p, i, weight in _meetings(grid, size, *rule):
        for c in range(dy.shape[1] if i else 0):
            terms[(n, c, *i)].append(weight * float(dy[(n, c, *p)]))
    return exact_sums((*dy.shape[:2], *size), terms)


def grid_sample_grid_grad(dy, x, grid, mode, padding_mode, align_corners, orders):
    """dgrid [N, *output, axes]."""
    dgrid = numpy.zeros(grid.shape)
    for a in range(grid.shape[-1] if mode != "nearest" else 0):
        once_more = tuple(order + (i == a) for i, order in enumerate(orders))
        y = grid_sample_forward(x, grid, mode, padding_mode, align_corners, once_more)
        for n, *p in numpy.ndindex(*grid.shape[:-1]):
            dgrid[(n, *p, a)] = exact_sum([float(dy[(n, c, *p)]) * float(y[(n, c, *p)]) for c in range(x.shape[1])])
    return dgrid


def _meetings(grid, size, mode, padding_mode, align_corners, orders):
    """(image, point, position or None outside, weight) of everything that is read."""
    for n, *p in numpy.ndindex(*grid.shape[:-1]):
        axes = [
            list(_reads(grid[(n, *p, a)], size[-1 - a], len(size), mode, padding_mode, align_corners, orders[a]))
            for a in range(len(size))
        ]
        for reads in itertools.product(*reversed(axes)):
            i, weights = zip(*reads, strict=True)
            if None not in i:
                yield n, p, i, math.prod(weights)
            elif len(size) == 2:
                yield n, p, None, math.prod(weights)


def _reads(c, size, rank, mode, padding, aligned, order):
    """(position or None, weight) of everything that a coordinate reads on one axis."""
    number = numpy.float64 if c.dtype == "float64" else numpy.float32
    r, slope = _place(number(c), size, rank, aligned), (size - 1 if aligned else size) / 2
    if mode != "bicubic" and padding != "zeros":
        r, moves = _inside(r, size, padding, aligned)
        slope *= moves
    low = math.floor(r) if math.isfinite(r) else math.nan
    t = float(r) - low
    if mode == "nearest":
        yield _whole(round(float(r)) if math.isfinite(r) else math.nan, size), float(order == 0)
    elif mode == "bilinear":
        shares = ((1 - t, t), (-slope, slope), (t - t, t - t))[min(order, 2)]
        yield _whole(low, size), shares[0]
        yield _whole(low + 1, size), shares[1]
    else:
        for i in (-1, 0, 1, 2):
            at = (low if math.isfinite(r) else float(r)) + i
            if padding != "zeros":
                at, _ = _inside(at, size, padding, aligned)
            side = 1 if i <= 0 else -1  # of low + i from t
            formula = numpy.polyder(_NEAR if i in (0, 1) else _FAR, order)
            yield _whole(at, size), float(numpy.polyval(formula, side * (t - i))) * (side * slope) ** order


def _place(c, size, rank, aligned):
    """r, rounded as fastconv.grid says."""
    number = type(c)
    if not math.isfinite(c):
        return c
    moved = fractions.Fraction(float(c + number(1))) * (size - 1 if aligned else size) / 2
    if aligned:
        return number(moved)
    return number(moved - fractions.Fraction(1, 2)) if rank == 2 else number(moved) - number(0.5)


def _inside(r, size, padding, aligned):
    """A position moved into the image, and the derivative of that."""
    low, high, moves = (0, size - 1, 1) if aligned else (-0.5, size - 0.5, 1)
    if padding == "reflection":
        if not math.isfinite(r) or low == high:
            return 0, 0
        while not low <= r <= high:
            r, moves = (2 * low - r if r < low else 2 * high - r), -moves
    if not r > 0:
        return 0, 0
    return (r, moves) if r < size - 1 else (size - 1, 0)


def _whole(at, size):
    return int(at) if 0 <= at < size else None
