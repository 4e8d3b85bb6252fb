"""The one kernel of average pooling: windows and adaptive cells, forward and back, both memory formats.

    y[p] = sum over the positions i of bin p of x[i] / before[i],  divided by after[p]

Divisors are products over the axes; forward there are none before, back none after. A bin is a box: rows
are summed first, all columns at once, then the columns of each bin. x is [planes, D, H, W, lanes], with
one lane a plane for channels first and all channels as lanes for channels last.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import BEFORE, OUTPUT, SIZE, STRIDE, TAPS

# How the columns are summed: bin by bin, or, of one lane, as evenly spaced windows, forward or back.
BY_BIN, GATHER, SPREAD = 0, 1, 2


@kernel
def sum_bins(first, last, x, y, lanes, mode, geometry, starts, stops, factors, divisors):
    """y from x; factors [D + H + W] are 1 / before, divisors are those after, or empty. A task is one row of y."""
    depth, height, width = geometry[SIZE], geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, before = geometry[TAPS], geometry[STRIDE], geometry[BEFORE]
    inner = depth_out + height_out
    one = x.dtype.type(1)
    margin, length = 0, width  # zeros on both sides of the columns save all questions about what lies inside
    if mode == GATHER:
        margin, length = before, max((width_out - 1) * stride + taps, before + width)
    elif mode == SPREAD:
        margin = (taps - 1) // stride
        length = margin + max(width, (width_out - 1 + before) // stride + 1)
    columns = np.zeros(length * lanes, x.dtype)
    phases = np.empty(2 * length, x.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * depth
        row = task * width_out * lanes
        rows = 0
        for d in range(starts[o], stops[o]):
            for h in range(starts[depth_out + p], stops[depth_out + p]):
                line = ((plane + d) * height + h) * width * lanes
                factor = factors[d] * factors[depth + h] if factors.size > 0 else one
                if rows == 0:
                    for i in range(width * lanes):
                        put(columns, margin + i, factor * get(x, line + i))
                else:
                    for i in range(width * lanes):
                        put(columns, margin + i, get(columns, margin + i) + factor * get(x, line + i))
                rows += 1
        if rows == 0:
            for i in range(width * lanes):
                put(columns, margin + i, 0)
        if factors.size > 0:
            _scale_columns(columns, margin, width, lanes, factors, depth + height)
        share = divisors[o] * divisors[depth_out + p] if divisors.size > 0 else one
        if mode == GATHER:
            if stride == 1:
                _gather_windows(columns, y, row, width_out, taps, 1)
            elif stride == 2:
                _gather_windows(columns, y, row, width_out, taps, 2)
            else:
                _gather_windows(columns, y, row, width_out, taps, stride)
            for q in range(width_out):
                put(y, row + q, get(y, row + q) / (share * get(divisors, inner + q)))
        elif mode == SPREAD:
            _spread_windows(columns, phases, y, row, margin, width_out, taps, stride, before)
        else:
            for q in range(width_out):
                _sum_bin(columns, y, row + q * lanes, starts[inner + q], stops[inner + q], lanes)
                if divisors.size > 0:
                    divisor = share * divisors[inner + q]
                    for c in range(row + q * lanes, row + (q + 1) * lanes):
                        put(y, c, get(y, c) / divisor)


@inline
def _scale_columns(columns, margin, width, lanes, factors, offset):
    """Multiply each column by its factor."""
    if lanes == 1:
        for w in range(width):
            put(columns, margin + w, get(columns, margin + w) * get(factors, offset + w))
    else:
        for w in range(width):
            factor = factors[offset + w]
            for c in range(w * lanes, (w + 1) * lanes):
                put(columns, c, get(columns, c) * factor)


@inline
def _sum_bin(columns, y, at, start, stop, lanes):
    """y of one bin, all lanes."""
    if lanes == 1:
        total = columns.dtype.type(0)
        for w in range(start, stop):
            total += get(columns, w)
        put(y, at, total)
    else:
        for c in range(lanes):
            put(y, at + c, 0)
        for w in range(start, stop):
            for c in range(lanes):
                put(y, at + c, get(y, at + c) + get(columns, w * lanes + c))


@inline
def _gather_windows(columns, y, row, width_out, taps, stride):
    """y[q] = sum over s of columns[q * stride + s]."""
    for q in range(width_out):
        put(y, row + q, get(columns, q * stride))
    for s in range(1, taps):
        for q in range(width_out):
            put(y, row + q, get(y, row + q) + get(columns, q * stride + s))


@inline
def _spread_windows(columns, phases, y, row, margin, width_out, taps, stride, before):
    """y[w] = sum over the windows that cover w: those as far back, for every stride-th w."""
    if stride == 1:
        _sum_phase(columns, margin + before, taps, y, row, width_out)
        return
    half = phases.size // 2
    for start in range(min(stride, width_out)):
        remainder, newest = (start + before) % stride, margin + (start + before) // stride
        windows, count = -((remainder - taps) // stride), -((start - width_out) // stride)
        if stride == 2:
            _sum_phase(columns, newest, windows, phases, start * half, count)
        else:
            _sum_phase(columns, newest, windows, phases, 0, count)
            for i in range(count):
                put(y, row + start + i * stride, get(phases, i))
    if stride == 2:  # both phases at once fill whole vectors
        for i in range(width_out // 2):
            put(y, row + 2 * i, get(phases, i))
            put(y, row + 2 * i + 1, get(phases, half + i))
        if width_out % 2 == 1:
            put(y, row + width_out - 1, get(phases, width_out // 2))


@inline
def _sum_phase(columns, newest, windows, target, at, count):
    """target[at + i] = sum over m of columns[newest + i - m], m below `windows`."""
    for i in range(count):
        put(target, at + i, get(columns, newest + i) if windows > 0 else 0)
    for m in range(1, windows):
        for i in range(count):
            put(target, at + i, get(target, at + i) + get(columns, newest + i - m))
