"""Resizing on the CPU: rows are summed first, all columns at once, then the columns; forward and back by one kernel."""

import functools

import numpy as np

from fastconv import resize
from fastconv.arrays import accumulator
from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.layout import dense, empty, is_channels_last, narrowed
from fastconv.cpu.threads import parallel_for

_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread
_FEW = 16  # lanes below which columns are gathered one by one, rather than the lanes of a column at once


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    axes = resize.axes(x.shape[2:], output, mode, align_corners, scales, accumulator(x.dtype))
    return _resized(x, output, axes, False)


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]; see fastconv.backend."""
    axes = resize.axes(tuple(size), dy.shape[2:], mode, align_corners, scales, accumulator(dy.dtype))
    return _resized(dy, tuple(size), axes, True)


@functools.lru_cache(maxsize=256)
def _tables(axes, back, lanes):
    """What resize_rows reads behind `shapes`: the taps of three axes, missing ones in front; and those of the columns
    once more for few lanes, for each column and lane as many as the column with the most of them has, the first of all
    columns in front. Those that are left over read a zero behind the row.
    """
    taps = resize.entries((None,) * (3 - len(axes)) + axes, back, axes[0].dtype)
    if lanes >= _FEW:
        return *taps, 0, np.empty(0, np.int64), np.empty(0, axes[0].dtype)
    width = axes[-1].output if back else axes[-1].size
    counts, positions, shares = resize.padded(axes[-1], back)
    sources = positions[..., None] * lanes + np.arange(lanes)
    sources[np.arange(len(positions))[:, None] >= counts] = width * lanes
    return *taps, len(positions), sources.reshape(-1), np.repeat(shares.reshape(-1), lanes)


def _resized(x, output, axes, back):
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((*x.shape[:2], *output), xs.dtype, last)
    if y.size:
        lanes = x.shape[1] if last else 1
        extra = (1,) * (3 - len(output))
        shapes = np.array((*extra, *x.shape[2:], *extra, *output), np.int64)
        tasks = y.size // (output[-1] * lanes)
        tables = _tables(axes, back, lanes)
        parallel_for(resize_rows, tasks, max(x.size, y.size) / _SPEED, xs, ys, lanes, shapes, *tables)
    return narrowed(y, x)


@kernel
def resize_rows(first, last, x, y, lanes, shapes, starts, positions, shares, gathers, sources, weights):
    """y [planes, O, P, Q, lanes] from x [planes, D, H, W, lanes]; shapes is (D, H, W, O, P, Q). A task is a row."""
    depth, height, width = shapes[0], shapes[1], shapes[2]
    depth_out, height_out, width_out = shapes[3], shapes[4], shapes[5]
    # Each axis has one more start than it has positions.
    rows_at, columns_at = depth_out + 1, depth_out + 1 + height_out + 1
    columns = np.zeros(width * lanes + 1, x.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * depth
        rows = 0
        for a in range(starts[o], starts[o + 1]):
            for b in range(starts[rows_at + p], starts[rows_at + p + 1]):
                line = ((plane + positions[a]) * height + positions[b]) * width * lanes
                share = shares[a] * shares[b]
                if rows == 0:
                    for i in range(width * lanes):
                        put(columns, i, share * get(x, line + i))
                else:
                    for i in range(width * lanes):
                        put(columns, i, get(columns, i) + share * get(x, line + i))
                rows += 1
        if rows == 0:
            for i in range(width * lanes):
                put(columns, i, 0)
        row = task * width_out * lanes
        if gathers > 0:
            _gather_columns(columns, y, row, width_out * lanes, gathers, sources, weights)
            continue
        for q in range(width_out):
            _sum_columns(columns, y, row + q * lanes, lanes, starts[columns_at + q], starts[columns_at + q + 1],
                         positions, shares)  # fmt: skip


@inline
def _sum_columns(columns, y, at, lanes, start, stop, positions, shares):
    """y of one position, all lanes."""
    if start == stop:
        for c in range(lanes):
            put(y, at + c, 0)
    for a in range(start, stop):
        share, source = shares[a], positions[a] * lanes
        if a == start:
            for c in range(lanes):
                put(y, at + c, share * get(columns, source + c))
        else:
            for c in range(lanes):
                put(y, at + c, get(y, at + c) + share * get(columns, source + c))


@inline
def _gather_columns(columns, y, row, count, gathers, sources, weights):
    """y of one row, two entries of all its columns and lanes at a time."""
    if gathers % 2 == 1:
        for i in range(count):
            put(y, row + i, get(weights, i) * get(columns, get(sources, i)))
    else:
        for i in range(count):
            near = get(weights, i) * get(columns, get(sources, i))
            put(y, row + i, near + get(weights, count + i) * get(columns, get(sources, count + i)))
    for entry in range(2 - gathers % 2, gathers, 2):
        a, b = entry * count, (entry + 1) * count
        for i in range(count):
            near = get(y, row + i) + get(weights, a + i) * get(columns, get(sources, a + i))
            put(y, row + i, near + get(weights, b + i) * get(columns, get(sources, b + i)))
