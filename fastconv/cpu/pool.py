"""Pooling on the CPU: which kernel serves a call, and in which pieces.

maxima           rows of bins (channels first) or pixels (channels last); the indices come with them
averages         sums over boxes, forward and back by one kernel
gather, scatter  by the indices of maxima; the gradient of a maximum is a scatter
gradients        of small windows by positions in the window: every input position adds up what it won
"""

import math

import numpy as np

from fastconv.cpu import pool_bins, pool_indices, pool_max_grad, pool_planes, pool_sum, pool_sum_windows
from fastconv.cpu.layout import dense, empty, is_channels_last, narrowed
from fastconv.cpu.pool_max import max_bins_first, max_pool_last, max_windows_first
from fastconv.cpu.threads import parallel_for
from fastconv.errors import ShapeError
from fastconv.pool import in_plane

# Rough speeds of one thread, elements in a nanosecond: they only decide whether a call is worth a second thread.
_COMPARISONS, _SHARES, _SUMS, _MOVES = 4, 3, 8, 1
# A scatter of all channels of a pixel at once is the fastest; small batches are cut into blocks for threads.
_CHANNELS, _BLOCKS = 32, 8
# Elements of a window to which each output is compared in turn, and strides; with more, to scatter them is faster.
_MOST_COMPARED = 32
# Positions that int32 can number, those less q * stride of the kernels included.
_MOST_NARROW = 2**30


def max_pool_forward(x, window, in_window=False):
    """y [N, C, *output] and indices; see fastconv.backend."""
    return _max_pool(x, window.output, pool_bins.windowed(window), in_window)


def adaptive_max_pool_forward(x, output_size):
    """y [N, C, *output_size] and indices; see fastconv.backend."""
    output = tuple(output_size)
    return _max_pool(x, output, pool_bins.adaptive(x.shape[2:], output), in_window=False)


def max_pool_input_grad(dy, indices, window):
    """dx [N, C, *size]; see fastconv.backend."""
    compared = math.prod(window.kernel) <= _MOST_COMPARED and max(window.stride) <= _MOST_COMPARED
    if indices.dtype != np.uint8 or not compared:
        return _scattered("max_pool_input_grad", dy, in_plane(indices, window), window.size)
    last = is_channels_last(dy)
    errors, wanted = dense(dy, last), dense(indices, last)
    dx, dxs = empty((*dy.shape[:2], *window.size), errors.dtype, last)
    if dx.size:
        planes, lanes = _planes_and_lanes(dy, last)
        work = (dx.size + dy.size) / _SHARES
        sizes, *covering = pool_max_grad.geometry_of(window)
        if last:
            tasks, arguments = planes * math.prod(window.size[:-1]), (sizes, *covering, lanes)
            parallel_for(pool_max_grad.max_input_grad_last, tasks, work, errors, wanted, dxs, *arguments)
        else:
            tasks = planes * pool_max_grad.bands(sizes)
            parallel_for(pool_max_grad.max_input_grad_first, tasks, work, errors, wanted, dxs, sizes)
    return narrowed(dx, dy)


def adaptive_max_pool_input_grad(dy, indices, size):
    """dx [N, C, *size]; see fastconv.backend."""
    return _scattered("adaptive_max_pool_input_grad", dy, indices, size)


def avg_pool_forward(x, window, count_include_pad, divisor_override):
    """y [N, C, *output]; see fastconv.backend."""
    bins, divisors = pool_bins.averaged_window(window, bool(count_include_pad), divisor_override)
    return _sum_pool(x, window.output, bins, divisors=divisors)


def avg_pool_input_grad(dy, window, count_include_pad, divisor_override):
    """dx [N, C, *size]; see fastconv.backend."""
    bins, factors = pool_bins.averaged_window_back(window, bool(count_include_pad), divisor_override)
    return _sum_pool(dy, window.size, bins, factors=factors)


def adaptive_avg_pool_forward(x, output_size):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    bins, divisors = pool_bins.averaged_cells(x.shape[2:], output)
    return _sum_pool(x, output, bins, divisors=divisors)


def adaptive_avg_pool_input_grad(dy, size):
    """dx [N, C, *size]; see fastconv.backend."""
    size = tuple(size)
    bins, factors = pool_bins.averaged_cells_back(size, dy.shape[2:])
    return _sum_pool(dy, size, bins, factors=factors)


def pool_gather(x, indices):
    """y [N, C, *output]; see fastconv.backend."""
    last = is_channels_last(x)
    xs, places = dense(x, last), _places(indices, last)
    y, ys = empty(indices.shape, xs.dtype, last)
    if y.size:
        planes, lanes = _planes_and_lanes(x, last)
        sizes = np.array([math.prod(x.shape[2:]), y.size // (planes * lanes), lanes], np.int64)
        faults = np.zeros(1, np.int64)
        tasks = planes * int(sizes[1])
        parallel_for(pool_indices.gather, tasks, y.size / _MOVES, xs, places, ys, sizes, faults)
        _check_indices("pool_gather", faults, x.shape[2:])
    return narrowed(y, x)


def pool_scatter(dy, indices, size):
    """dx [N, C, *size]; see fastconv.backend."""
    return _scattered("pool_scatter", dy, indices, size)


def pool_place(x, indices, size):
    """y [N, C, *size]; see fastconv.backend."""
    return _scattered("pool_place", x, indices, size, adds=False)


def _scattered(operator, dy, indices, size, adds=True):
    last = is_channels_last(dy)
    errors, places = dense(dy, last), _places(indices, last)
    dx, dxs = empty((*dy.shape[:2], *size), errors.dtype, last)
    if dx.size:
        planes, lanes = _planes_and_lanes(dy, last)
        block = -(-lanes // -(-_BLOCKS // planes))
        block = -(-block // _CHANNELS) * _CHANNELS if lanes > 1 else 1
        sizes = np.array([math.prod(size), errors.size // (planes * lanes), lanes, block, adds], np.int64)
        faults = np.zeros(1, np.int64)
        tasks = planes * -(-lanes // block)
        work = (dx.size + dy.size) / _MOVES
        parallel_for(pool_indices.scatter, tasks, work, errors, places, dxs, sizes, faults)
        _check_indices(operator, faults, size)
    elif dy.size:
        _check_indices(operator, [1], size)  # of no position every index is out of range
    return narrowed(dx, dy)


def _max_pool(x, output, bins, in_window):
    """y and indices of any bins."""
    last = is_channels_last(x)
    xs, shape = dense(x, last), (*x.shape[:2], *output)
    y, ys = empty(shape, xs.dtype, last)
    indices, places = empty(shape, np.uint8 if in_window else np.int64, last)
    if y.size:
        planes, lanes = _planes_and_lanes(x, last)
        narrow = np.empty(0, np.int32 if in_window or math.prod(x.shape[2:]) <= _MOST_NARROW else np.int64)
        skipped = bins.skipped if in_window else _NO_TAPS
        geometry, tasks, work = bins.geometry, planes * _rows(bins), max(x.size, y.size) / _COMPARISONS
        arguments = (xs, ys, places, narrow, geometry, bins.starts, bins.stops, skipped)
        if last:
            parallel_for(max_pool_last, tasks, work, *arguments, lanes)
        elif geometry[pool_bins.WHOLE] == 1:
            parallel_for(pool_planes.max_planes_first, planes, work, xs, ys, places, xs.size // planes)
        elif pool_bins.in_bands(geometry):
            tasks = planes * pool_bins.bands(geometry)
            parallel_for(max_windows_first, tasks, work, *arguments)
        else:
            parallel_for(max_bins_first, tasks, work, *arguments)
    return narrowed(y, x), indices


_NOTHING, _NO_TAPS = np.empty(0), np.empty(0, np.int64)


def _sum_pool(x, output, bins, factors=_NOTHING, divisors=_NOTHING):
    """Sums of x over bins, multiplied by factors before or divided by divisors after."""
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((*x.shape[:2], *output), xs.dtype, last)
    if y.size:
        planes, lanes = _planes_and_lanes(x, last)
        tasks, work = planes * _rows(bins), max(x.size, y.size) / _SUMS
        whole = not last and bins.geometry[pool_bins.WHOLE] == 1
        rest = (*bins[:3], factors.astype(xs.dtype), divisors.astype(xs.dtype))
        if whole and factors.size > 0:
            factor = xs.dtype.type(np.prod(factors))
            parallel_for(pool_planes.spread_planes_first, planes, work, xs, ys, ys.size // planes, factor)
        elif whole:
            divisor = xs.dtype.type(np.prod(divisors))
            parallel_for(pool_planes.average_planes_first, planes, work, xs, ys, xs.size // planes, divisor)
        elif last and pool_bins.overlap_little(bins.geometry):
            parallel_for(pool_sum_windows.sum_bins_last, tasks, work, xs, ys, lanes, *rest)
        elif not last and bins.geometry[pool_bins.EVEN] == 1:
            parallel_for(pool_sum_windows.sum_windows_first, tasks, work, xs, ys, factors.size > 0, *rest)
        else:
            mode = pool_sum.mode_of(bins.geometry, lanes)
            parallel_for(pool_sum.sum_bins, tasks, work, xs, ys, lanes, mode, *rest)
    return narrowed(y, x)


def _planes_and_lanes(x, last):
    """How x [N, C, *size] is stored: [planes, *size, lanes]."""
    return (x.shape[0], x.shape[1]) if last else (x.shape[0] * x.shape[1], 1)


def _rows(bins):
    """Rows of bins in a plane."""
    return int(bins.geometry[pool_bins.OUTPUT] * bins.geometry[pool_bins.OUTPUT + 1])


def _places(indices, last):
    """Indices as the kernels need them."""
    return dense(indices.astype(np.int64, copy=False), last)


def _check_indices(operator, faults, size):
    if faults[0]:
        expected = f"positions below {math.prod(size)}, in a plane of {list(size)}"
        raise ShapeError(operator, "indices", "an index out of range", expected)
