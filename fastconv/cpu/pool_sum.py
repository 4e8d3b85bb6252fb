"""Average pooling by sums of columns: windows and adaptive cells, forward and back, both memory formats.

    y[p] = sum over the positions i of bin p of x[i] / before[i],  divided by after[p]

Divisors are products over the axes; forward there are none before, back none after. A bin is a box: rows
are summed first, all columns at once, then the columns of each bin. x is [planes, D, H, W, lanes], with
one lane a plane for channels first and all channels as lanes for channels last. What registers serve
better is in fastconv.cpu.pool_sum_windows.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import OUTPUT, SIZE, TAPS

# How the columns are summed: bin by bin; or, of one lane and all bins at once, tap by tap.
BY_BIN, BY_TAP = 0, 1

# Bins of more columns than this are vectors themselves.
_MOST_TAPS = 8


@kernel
def sum_bins(first, last, x, y, lanes, mode, geometry, starts, stops, factors, divisors):
    """y from x; factors [D + H + W] are 1 / before, divisors are those after, or empty. A task is one row of y."""
    depth, height, width = geometry[SIZE], geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    inner = depth_out + height_out
    one = x.dtype.type(1)
    columns = np.zeros((width + 1) * lanes, x.dtype)  # a zero behind them stands for those that a bin lacks
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * depth
        row = task * width_out * lanes
        if task > first and p > 0 and divisors.size == 0 and _same_bin(starts, stops, depth_out + p):
            for i in range(row, row + width_out * lanes):
                put(y, i, get(y, i - width_out * lanes))
            continue
        rows = 0
        for d in range(starts[o], stops[o]):
            for h in range(starts[depth_out + p], stops[depth_out + p]):
                line = ((plane + d) * height + h) * width * lanes
                factor = factors[d] * factors[depth + h] if factors.size > 0 else one
                if rows == 0:
                    for i in range(width * lanes):
                        put(columns, i, factor * get(x, line + i))
                else:
                    for i in range(width * lanes):
                        put(columns, i, get(columns, i) + factor * get(x, line + i))
                rows += 1
        if rows == 0:
            for i in range(width * lanes):
                put(columns, i, 0)
        if factors.size > 0:
            _scale_columns(columns, width, lanes, factors, depth + height)
        share = divisors[o] * divisors[depth_out + p] if divisors.size > 0 else one
        if mode == BY_TAP:
            _sum_taps(columns, y, row, width_out, geometry[TAPS + 2], starts, stops, inner, width)
        else:
            for q in range(width_out):
                _sum_bin(columns, y, row + q * lanes, starts[inner + q], stops[inner + q], lanes)
        if divisors.size > 0:
            _divide_row(y, row, width_out, lanes, share, divisors, inner)


@inline
def _same_bin(starts, stops, p):
    """Whether bin p of an axis covers what bin p - 1 covers."""
    return starts[p] == starts[p - 1] and stops[p] == stops[p - 1]


@inline
def _scale_columns(columns, width, lanes, factors, offset):
    """Multiply each column by its factor."""
    if lanes == 1:
        for w in range(width):
            put(columns, w, get(columns, w) * get(factors, offset + w))
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
        first = start * lanes
        if stop - start >= 2:
            for c in range(lanes):
                put(y, at + c, get(columns, first + c) + get(columns, first + lanes + c))
        else:
            for c in range(lanes):
                put(y, at + c, get(columns, first + c) if stop > start else 0)
        for w in range(start + 2, stop):
            for c in range(lanes):
                put(y, at + c, get(y, at + c) + get(columns, w * lanes + c))


@inline
def _divide_row(y, row, width_out, lanes, share, divisors, inner):
    """Divide each bin by its divisor."""
    if lanes == 1:
        for q in range(width_out):
            put(y, row + q, get(y, row + q) / (share * get(divisors, inner + q)))
    else:
        for q in range(width_out):
            divisor = share * divisors[inner + q]
            for c in range(row + q * lanes, row + (q + 1) * lanes):
                put(y, c, get(y, c) / divisor)


@inline
def _sum_taps(columns, y, row, width_out, taps, starts, stops, inner, zero):
    """y of all bins of up to `taps` columns each; columns[zero] stands for those that a bin lacks."""
    for q in range(width_out):
        start = get(starts, inner + q)
        put(y, row + q, get(columns, start if start < get(stops, inner + q) else zero))
    for s in range(1, taps):
        for q in range(width_out):
            w = get(starts, inner + q) + s
            put(y, row + q, get(y, row + q) + get(columns, w if w < get(stops, inner + q) else zero))


def mode_of(geometry, lanes):
    """How sum_bins is to sum the columns."""
    return BY_TAP if lanes == 1 and geometry[TAPS + 2] <= _MOST_TAPS else BY_BIN
