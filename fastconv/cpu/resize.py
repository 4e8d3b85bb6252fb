"""Resizing on the CPU: rows are summed first, all columns at once, then the columns; forward and back by one kernel."""

import functools

import numpy as np

from fastconv import resize
from fastconv.arrays import accumulator
from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.layout import dense, empty, is_channels_last, narrowed
from fastconv.cpu.threads import parallel_for

_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    axes = resize.axes(x.shape[2:], output, mode, align_corners, scales, accumulator(x.dtype))
    return _resized(x, output, _entries(axes, False))


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]; see fastconv.backend."""
    axes = resize.axes(tuple(size), dy.shape[2:], mode, align_corners, scales, accumulator(dy.dtype))
    return _resized(dy, tuple(size), _entries(axes, True))


@functools.lru_cache(maxsize=256)
def _entries(axes, back):
    """(starts, positions, shares) of three axes, missing ones in front, one after the other in each array."""
    starts, positions, shares = [], [], []
    count = 0
    for axis in (None,) * (3 - len(axes)) + axes:
        if axis is None:
            taps, outputs = resize.Taps(*np.zeros((2, 1), np.int64), np.ones(1, axes[0].dtype)), 1
        else:
            taps = resize.taps(axis).transposed() if back else resize.taps(axis)
            outputs = axis.size if back else axis.output
        starts.append(count + taps.starts(outputs))
        positions.append(taps.input)
        shares.append(taps.share)
        count += taps.share.size
    return tuple(np.concatenate(parts) for parts in (starts, positions, shares))


def _resized(x, output, entries):
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((*x.shape[:2], *output), xs.dtype, last)
    if y.size:
        lanes = x.shape[1] if last else 1
        extra = (1,) * (3 - len(output))
        shapes = np.array((*extra, *x.shape[2:], *extra, *output), np.int64)
        tasks = y.size // (output[-1] * lanes)
        parallel_for(resize_rows, tasks, max(x.size, y.size) / _SPEED, xs, ys, lanes, shapes, *entries)
    return narrowed(y, x)


@kernel
def resize_rows(first, last, x, y, lanes, shapes, starts, positions, shares):
    """y [planes, O, P, Q, lanes] from x [planes, D, H, W, lanes]; shapes is (D, H, W, O, P, Q). A task is a row."""
    depth, height, width = shapes[0], shapes[1], shapes[2]
    depth_out, height_out, width_out = shapes[3], shapes[4], shapes[5]
    # Each axis has one more start than it has positions.
    rows_at, columns_at = depth_out + 1, depth_out + 1 + height_out + 1
    columns = np.empty(width * lanes, x.dtype)
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
        for q in range(width_out):
            _sum_columns(columns, y, row + q * lanes, lanes, starts[columns_at + q], starts[columns_at + q + 1],
                         positions, shares)  # fmt: skip


@inline
def _sum_columns(columns, y, at, lanes, start, stop, positions, shares):
    """y of one position, all lanes."""
    if lanes == 1:
        total = columns.dtype.type(0)
        for a in range(start, stop):
            total += get(shares, a) * get(columns, get(positions, a))
        put(y, at, total)
        return
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
