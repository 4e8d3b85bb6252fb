"""Sampling at the points of a grid on the CPU, and its gradients."""

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu import grid_kernels as kernels
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.threads import parallel_for
from fastconv.grid import CUBIC, PADDING_MODES, differentiated, points, taps_of

_SPEED = 1  # products in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread
_TASKS = 16  # of an input gradient at least, where there are as many channels; each finds what points read for itself
_GROUP = 16  # lanes of a task at least, a cache line

_MODES = {"nearest": kernels.NEAREST, "bilinear": kernels.BILINEAR, "bicubic": kernels.BICUBIC}


def grid_sample_forward(x, grid, mode, padding_mode, align_corners, orders):
    """y [N, C, *output]; see fastconv.backend."""
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((*x.shape[:2], *grid.shape[1:-1]), xs.dtype, last)
    if y.size:
        run = kernels.forward_lanes if last else kernels.forward_planes
        geometry = _geometry(grid, x.shape[2:], mode, padding_mode, align_corners, orders, xs.dtype)
        tasks = x.shape[0] * -(-points(grid) // kernels.BLOCK)
        parallel_for(run, tasks, _work(y, mode, grid) / _SPEED, xs, flat(grid), ys, x.shape[1], *geometry)
    return narrowed(y, x)


def grid_sample_input_grad(dy, grid, size, mode, padding_mode, align_corners, orders):
    """dx [N, C, *size]; see fastconv.backend."""
    last = is_channels_last(dy)
    errors = dense(dy, last)
    batch, channels = dy.shape[:2]
    dx, dxs = empty((batch, channels, *size), errors.dtype, last)
    if dx.size:
        run = kernels.input_grad_lanes if last else kernels.input_grad_planes
        geometry = _geometry(grid, size, mode, padding_mode, align_corners, orders, errors.dtype)
        group = max(-(-channels // max(_TASKS // batch, 1)), _GROUP if last else 1)
        tasks = batch * -(-channels // group)
        work = max(_work(dy, mode, grid), dx.size)
        parallel_for(run, tasks, work / _SPEED, errors, flat(grid), dxs, channels, *geometry, group)
    return narrowed(dx, dy)


def grid_sample_grid_grad(dy, x, grid, mode, padding_mode, align_corners, orders):
    """dgrid [N, *output, axes]; see fastconv.backend."""
    last = is_channels_last(x)
    xs, errors = dense(x, last), dense(dy, last)
    axes = grid.shape[-1]
    dgrid = np.zeros(grid.shape, xs.dtype)
    if dgrid.size and mode != "nearest":
        more = [tuple(order + (i == a) for i, order in enumerate(orders)) for a in range(axes)]
        each = [_geometry(grid, x.shape[2:], mode, padding_mode, align_corners, o, xs.dtype) for o in more]
        *geometry, _, _ = each[0]
        orders, cubic = (np.stack([one[i] for one in each]) for i in (-2, -1))
        tasks = x.shape[0] * -(-points(grid) // kernels.BLOCK)
        work = 2 * _work(dy, mode, grid)
        parallel_for(kernels.grid_grad, tasks, work / _SPEED, errors, xs, flat(grid), dgrid.reshape(-1), x.shape[1],
                     *geometry, orders, cubic, last)  # fmt: skip
    return narrowed(dgrid, grid)


def _geometry(grid, size, mode, padding_mode, align_corners, orders, dtype):
    """(points, axes, sizes, rule, orders, cubic): sizes and orders of three axes, missing ones in front."""
    axes = len(size)
    missing = (0,) * (3 - axes)
    orders = np.array((*missing, *reversed(orders)), np.int64)
    sizes = np.array((*(1 for _ in missing), *size), np.int64)
    rule = np.array((_MODES[mode], PADDING_MODES.index(padding_mode), bool(align_corners)), np.int64)
    cubic = [differentiated(coefficients, int(order)) for order in orders for coefficients in CUBIC]
    return points(grid), axes, sizes, rule, orders, np.array(cubic, accumulator(dtype)).reshape(-1)


def _work(y, mode, grid):
    """Products that are summed."""
    return y.size * taps_of(mode) ** grid.shape[-1]
