"""Scales of the errors of sampling at the points of a grid, see fastconv.tolerance.bound, and how much it sums.

Weights are rounded where they are as large as they get, whatever they are at a point.
"""

import math

import numpy

from fastconv.grid import CUBIC, differentiated, taps_of
from fastconv.reference.grid import reads


def _largest(size, mode, align_corners, orders):
    """What the terms of a weight add up to at most."""
    largest = 1.0
    for n, order in zip(reversed(size), orders, strict=True):
        half = (n - 1 if align_corners else n) / 2
        if mode == "bicubic":
            largest *= max(sum(abs(a) for a in differentiated(p, order)) for p in CUBIC)
        largest *= half**order
    return largest


@numpy.errstate(invalid="ignore", over="ignore")
def _read(x, grid, mode, padding_mode, align_corners, orders):
    """Sums of the absolute values that are read, times the largest weight: [N, C, points]."""
    planes = abs(x.astype("float64")).reshape(*x.shape[:2], math.prod(x.shape[2:]))
    total = 0.0
    for index, weight in reads(grid, x.shape[2:], mode, padding_mode, align_corners, orders):
        values = numpy.take_along_axis(planes, numpy.maximum(index, 0)[:, None], axis=2)
        total = total + numpy.where(index[:, None] < 0, 0 * weight[:, None], values)
    return total * _largest(x.shape[2:], mode, align_corners, orders)


def _forward(case, wide):
    x, grid, *rule = wide
    return (_read(x, grid, *rule).reshape(*x.shape[:2], *grid.shape[1:-1]),)


@numpy.errstate(invalid="ignore", over="ignore")
def _input_grad(case, wide):
    dy, grid, size, mode, padding_mode, align_corners, orders = wide
    errors = abs(dy.astype("float64")).reshape(*dy.shape[:2], math.prod(dy.shape[2:]))
    dx = numpy.zeros((dy.shape[0], math.prod(size), dy.shape[1]))
    for index, _ in reads(grid, size, mode, padding_mode, align_corners, orders):
        n, p = numpy.nonzero(index >= 0)
        numpy.add.at(dx, (n, index[n, p]), errors[n, :, p])
    dx *= _largest(size, mode, align_corners, orders)
    return (numpy.moveaxis(dx, 2, 1).reshape(*dy.shape[:2], *size),)


@numpy.errstate(invalid="ignore", over="ignore")
def _grid_grad(case, wide):
    dy, x, grid, mode, padding_mode, align_corners, orders = wide
    scale = numpy.zeros(grid.shape)
    for a in range(grid.shape[-1] if mode != "nearest" else 0):
        once_more = tuple(order + (i == a) for i, order in enumerate(orders))
        y = _read(x, grid, mode, padding_mode, align_corners, once_more).reshape(dy.shape)
        scale[..., a] = (abs(dy.astype("float64")) * y).sum(axis=1)
    return (scale,)


def _most_reads(dy, grid, size, mode, padding_mode, align_corners, orders):
    """How often a position is read at most."""
    counts = numpy.zeros((dy.shape[0], math.prod(size)), int)
    for index, _ in reads(grid, size, mode, padding_mode, align_corners, orders):
        n, p = numpy.nonzero(index >= 0)
        numpy.add.at(counts, (n, index[n, p]), 1)
    return int(counts.max(initial=0))


SCALES = {
    "grid_sample_forward": _forward,
    "grid_sample_input_grad": _input_grad,
    "grid_sample_grid_grad": _grid_grad,
}
LENGTHS = {
    "grid_sample_forward": lambda x, grid, mode, *rest: taps_of(mode) ** grid.shape[-1],
    "grid_sample_input_grad": _most_reads,
    "grid_sample_grid_grad": lambda dy, x, grid, mode, *rest: x.shape[1] * taps_of(mode) ** grid.shape[-1],
}
