"""The one kernel of average pooling: windows and adaptive cells, forward and back, both memory formats.

    y[p] = sum over the positions i of bin p of x[i] / before[i],  divided by after[p]

Divisors are products over the axes; forward there are none before, back none after. A bin is a box: rows
are summed first, all columns at once, then the columns of each bin. x is [planes, D, H, W, lanes], with
one lane a plane for channels first and all channels as lanes for channels last.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import BEFORE, EVEN, OUTPUT, SIZE, STRIDE, TAPS

# How the columns are summed: bin by bin; or, of one lane and all bins at once, tap by tap of any bins, of
# evenly spaced windows, or back from windows that are 1 or 2 columns apart.
BY_BIN, BY_TAP, WINDOWS, SPREAD = 0, 1, 2, 3

# Bins of more columns than this are vectors themselves.
_MOST_TAPS = 8
# A spread is summed in multiples of this: what is left over after whole vectors would take longer than they do.
_WHOLE_VECTORS = 32


@kernel
def sum_bins(first, last, x, y, lanes, mode, geometry, starts, stops, factors, divisors):
    """y from x; factors [D + H + W] are 1 / before, divisors are those after, or empty. A task is one row of y."""
    depth, height, width = geometry[SIZE], geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, before = geometry[TAPS], geometry[STRIDE], geometry[BEFORE]
    inner = depth_out + height_out
    one = x.dtype.type(1)
    margin, length = 0, width + 1  # zeros around the columns save all questions about what lies inside
    if mode == WINDOWS:
        margin, length = before, max((width_out - 1) * stride + taps, before + width)
    elif mode == SPREAD:
        margin = taps // stride
        length = margin + max(width, (width_out + before) // stride + 1) + _WHOLE_VECTORS
    columns = np.zeros(length * lanes, x.dtype)
    phases = np.empty(2 * length, x.dtype)
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
        if mode == WINDOWS:
            if stride == 1:
                _sum_windows(columns, y, row, width_out, taps, 1)
            elif stride == 2:
                _sum_windows(columns, y, row, width_out, taps, 2)
            else:
                _sum_windows(columns, y, row, width_out, taps, stride)
        elif mode == SPREAD:
            _spread_windows(columns, phases, y, row, margin, width_out, taps, stride, before)
        elif mode == BY_TAP:
            _sum_taps(columns, y, row, width_out, taps, starts, stops, inner, width)
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


@inline
def _sum_windows(columns, y, row, width_out, taps, stride):
    """y[q] = sum over s of columns[q * stride + s]."""
    for q in range(width_out):
        put(y, row + q, get(columns, q * stride))
    for s in range(1, taps):
        for q in range(width_out):
            put(y, row + q, get(y, row + q) + get(columns, q * stride + s))


@inline
def _spread_windows(columns, phases, y, row, margin, width_out, taps, stride, before):
    """y[w] = sum over the windows that cover w; those of every second w are equally far back at stride 2."""
    if stride == 1:
        _sum_phase(columns, margin + before, taps, y, row, width_out)
        return
    half, count = phases.size // 2, -(-width_out // (2 * _WHOLE_VECTORS)) * _WHOLE_VECTORS
    for start in range(2):
        newest, windows = margin + (start + before) // 2, (taps + 1 - (start + before) % 2) // 2
        _sum_phase(columns, newest, windows, phases, start * half, count)
    for i in range(width_out // 2):  # both phases at once fill whole vectors
        put(y, row + 2 * i, get(phases, i))
        put(y, row + 2 * i + 1, get(phases, half + i))
    if width_out % 2 == 1:
        put(y, row + width_out - 1, get(phases, width_out // 2))


@inline
def _sum_phase(columns, newest, windows, target, at, count):
    """target[at + i] = sum over m of columns[newest + i - m], m below `windows`."""
    if windows == 0:
        for i in range(count):
            put(target, at + i, 0)
        return
    for i in range(count):
        put(target, at + i, get(columns, newest + i))
    for m in range(1, windows):
        for i in range(count):
            put(target, at + i, get(target, at + i) + get(columns, newest + i - m))


def mode_of(geometry, forward):
    """How sum_bins is to sum the columns of one lane."""
    if geometry[EVEN] == 1:
        return WINDOWS if forward else SPREAD
    return BY_TAP if geometry[TAPS] <= _MOST_TAPS else BY_BIN
