"""Sampling at the points of a grid on a GPU, and its gradients.

Which points read a position of an image is found by sorting, so that the input gradient sums them in a fixed order,
without atomics: CuPy sorts stably, in scratch memory, as many points at a time as max_workspace allows.
"""

import numpy

from fastconv.arrays import HALVES, accumulator
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace
from fastconv.grid import points, taps_of

_READ_BYTES = 48  # of scratch memory for a read: its key, weight and number, sorted, and what the sort itself takes
_LEAST = 4096  # points at a time, even where max_workspace allows for less


def grid_sample_forward(x, grid, mode, padding_mode, align_corners, orders):
    """y [N, C, *output]; see fastconv.backend."""
    last = is_channels_last(x)
    with launch("grid_sample_forward", x, grid) as gpu:
        xs, grids = dense(gpu, x, last), dense(gpu, grid)
        y = gpu.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype, last)
        if y.size:
            sampling = _sampling(gpu, x.shape, grid, mode, padding_mode, align_corners, orders, last)
            arrays = gpu.read(xs), gpu.read(grids), gpu.write(y)
            gpu.extension.grid_sample_forward(gpu.dtype(xs), *arrays, sampling, gpu.stream)
    return y


def grid_sample_input_grad(dy, grid, size, mode, padding_mode, align_corners, orders):
    """dx [N, C, *size]; see fastconv.backend."""
    total, reads = grid.shape[0] * points(grid), taps_of(mode) ** grid.shape[-1]
    at_once = max(get_max_workspace() // (_READ_BYTES * reads), _LEAST)
    if total > at_once and dy.dtype.name in HALVES:  # parts are added before they are rounded
        wide = accumulator(dy.dtype)
        rule = tuple(size), mode, padding_mode, align_corners, orders
        return grid_sample_input_grad(dy.astype(wide), grid.astype(wide), *rule).astype(dy.dtype)
    last = is_channels_last(dy)
    with launch("grid_sample_input_grad", dy, grid) as gpu:
        errors, grids = dense(gpu, dy, last), dense(gpu, grid)
        dx = gpu.empty((*dy.shape[:2], *size), dy.dtype, last)
        if dx.size:
            sampling = _sampling(gpu, dx.shape, grid, mode, padding_mode, align_corners, orders, last)
            for first in range(0, max(total, 1), at_once):
                count = min(at_once, total - first)
                _add_reads(gpu, errors, grids, dx, sampling, reads, first, count)
    return dx


def _add_reads(gpu, errors, grids, dx, sampling, reads, first, count):
    """Add to dx, or start it with, what so many points send."""
    xp = gpu.namespace
    keys, weights = gpu.empty(reads * count, numpy.dtype("int64")), gpu.empty(reads * count, accumulator(dx.dtype))
    gpu.extension.grid_sample_reads(
        gpu.dtype(dx), gpu.read(grids), gpu.write(keys), gpu.write(weights), sampling, first, count, gpu.stream
    )
    order = xp.argsort(keys, kind="stable") if xp is numpy else xp.argsort(keys)  # CuPy's is stable
    cells = dx.size // dx.shape[1]
    starts = xp.searchsorted(keys[order], xp.arange(cells + 1))
    arrays = [gpu.read(a) for a in (errors, order, starts, weights)]
    write = gpu.read if first else gpu.write
    gpu.extension.grid_sample_input_grad(
        gpu.dtype(dx), *arrays, write(dx), sampling, first, count, first > 0, gpu.stream
    )


def grid_sample_grid_grad(dy, x, grid, mode, padding_mode, align_corners, orders):
    """dgrid [N, *output, axes]; see fastconv.backend."""
    last = is_channels_last(x)
    with launch("grid_sample_grid_grad", dy, x, grid) as gpu:
        if mode == "nearest":
            return gpu.namespace.zeros(grid.shape, grid.dtype.newbyteorder("="))
        errors, xs, grids = dense(gpu, dy, last), dense(gpu, x, last), dense(gpu, grid)
        dgrid = gpu.empty(grid.shape, grid.dtype)
        if dgrid.size:
            sampling = _sampling(gpu, x.shape, grid, mode, padding_mode, align_corners, orders, last)
            arrays = gpu.read(errors), gpu.read(xs), gpu.read(grids), gpu.write(dgrid)
            gpu.extension.grid_sample_grid_grad(gpu.dtype(xs), *arrays, sampling, gpu.stream)
    return dgrid


def _sampling(gpu, shape, grid, mode, padding_mode, align_corners, orders, last):
    """The problem as the extension's own: axes in the order of the image, a missing one in front."""
    missing = (0,) * (3 - len(orders))
    size = (*(1 for _ in missing), *shape[2:])
    orders = (*missing, *reversed(orders))
    mode, padding = getattr(gpu.extension.GridMode, mode), getattr(gpu.extension.GridPadding, padding_mode)
    return gpu.extension.GridSampling(
        *shape[:2], points(grid), size, orders, grid.shape[-1], mode, padding, bool(align_corners), last
    )
