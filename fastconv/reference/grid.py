"""Reference sampling at the points of a grid, in two and three dimensions.

    y[n,c,p] = sum over what p reads, positions i, of weight(n,p,i) * x[n,c,i]
    dx[n,c,i] = sum over the same of weight(n,p,i) * dy[n,c,p]
    dgrid[n,p,a] = sum over c of dy[n,c,p] * y[n,c,p] with the weights differentiated by coordinate a once more

Positions and weights are those of fastconv.grid.taps, chosen in the dtype of the grid; everything else is float64.
In two dimensions a position outside the image is a zero that is weighted too: a coordinate that is not finite gives
NaN. In three dimensions it is left out. Both are as in PyTorch on a CPU.
"""

import itertools
import math

import numpy

from fastconv.grid import points, taps


@numpy.errstate(all="ignore")
def grid_sample_forward(x, grid, mode, padding_mode, align_corners, orders):
    """y [N, C, *output] of x [N, C, *size] and grid [N, *output, axes]."""
    y = _sampled(x, reads(grid, x.shape[2:], mode, padding_mode, align_corners, orders))
    return y.reshape(*x.shape[:2], *grid.shape[1:-1]).astype(x.dtype.newbyteorder("="))


@numpy.errstate(all="ignore")
def grid_sample_input_grad(dy, grid, size, mode, padding_mode, align_corners, orders):
    """dx [N, C, *size] of dy [N, C, *output]."""
    errors = dy.astype(numpy.float64, "C").reshape(*dy.shape[:2], points(grid))
    dx = numpy.zeros((dy.shape[0], math.prod(size), dy.shape[1]))
    for index, weight in reads(grid, tuple(size), mode, padding_mode, align_corners, orders):
        n, p = numpy.nonzero(index >= 0)
        numpy.add.at(dx, (n, index[n, p]), weight[n, p, None] * errors[n, :, p])
    return numpy.moveaxis(dx, 2, 1).reshape(*dy.shape[:2], *size).astype(dy.dtype.newbyteorder("="))


@numpy.errstate(all="ignore")
def grid_sample_grid_grad(dy, x, grid, mode, padding_mode, align_corners, orders):
    """dgrid [N, *output, axes] of dy [N, C, *output]."""
    dgrid = numpy.zeros(grid.shape)
    for a in range(grid.shape[-1] if mode != "nearest" else 0):
        once_more = tuple(order + (i == a) for i, order in enumerate(orders))
        y = _sampled(x, reads(grid, x.shape[2:], mode, padding_mode, align_corners, once_more))
        dgrid[..., a] = (dy.astype(numpy.float64) * y.reshape(dy.shape)).sum(axis=1)
    return dgrid.astype(grid.dtype.newbyteorder("="))


def reads(grid, size, mode, padding_mode, align_corners, orders):
    """(index, weight) of each position that a point reads, arrays [N, points]: in the flattened image, or -1."""
    shape = grid.shape[0], points(grid)
    axes = [
        taps(grid[..., -1 - i].reshape(shape), n, len(size), mode, padding_mode, align_corners, orders[-1 - i])
        for i, n in enumerate(size)
    ]
    for tap in itertools.product(*(range(len(positions)) for positions, _ in axes)):
        index, weight, outside = numpy.zeros(shape, numpy.int64), numpy.ones(shape), numpy.zeros(shape, bool)
        for (positions, weights), k, n in zip(axes, tap, size, strict=True):
            index = index * n + positions[k]
            weight = weight * weights[k]
            outside |= positions[k] < 0
        if len(size) == 3:
            weight = numpy.where(outside, 0, weight)
        yield numpy.where(outside, -1, index), weight


def _sampled(x, meetings):
    """[N, C, points] in float64."""
    planes = x.astype(numpy.float64, "C").reshape(*x.shape[:2], math.prod(x.shape[2:]))
    y = 0.0
    for index, weight in meetings:
        values = numpy.take_along_axis(planes, numpy.maximum(index, 0)[:, None], axis=2)
        y = y + weight[:, None] * numpy.where(index[:, None] < 0, 0, values)
    return y
