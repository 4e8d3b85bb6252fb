"""Average pooling in registers: evenly spaced windows for channels first, any bins for channels last.

    y[p] = sum over the positions i of bin p of x[i] / before[i],  divided by after[p]

as in fastconv.cpu.pool_sum, which has what is left: uneven bins, and windows that overlap so much that
sums of columns save more than registers do.
"""

import numpy as np

from fastconv.cpu.jit import get, kernel, pasted, put
from fastconv.cpu.pool_bins import BEFORE, OUTPUT, SIZE, STRIDE, TAPS
from fastconv.cpu.vectors import (
    LANES,
    PAIR,
    QUAD,
    add,
    divide,
    even_lanes,
    interleave,
    load,
    load_first,
    multiply,
    odd_lanes,
    splat,
    store,
    store_within,
)


@kernel
def sum_windows_first(first, last, x, y, back, geometry, starts, stops, factors, divisors):
    """y from x for channels first, forward or `back`, from windows 1 or 2 columns apart; a task is one row of y.

    factors [D + H + W] are 1 / before, divisors are those after; forward there are none before, back none after.
    """
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth, depth_out, height_out, width_out = (
        geometry[SIZE],
        geometry[OUTPUT],
        geometry[OUTPUT + 1],
        geometry[OUTPUT + 2],
    )
    taps, stride, before = geometry[TAPS + 2], geometry[STRIDE + 2], geometry[BEFORE + 2]
    # Zeros around the columns save all questions about what lies inside.
    margin = taps // stride if back else before
    length = margin + width + (width_out + before) * (1 if back else stride) + taps + 2 * QUAD
    # A row is summed while the columns of the next are: what was just stored cannot yet be loaded from elsewhere.
    columns = np.zeros(2 * length, x.dtype)
    lines, shares = (
        np.empty(geometry[TAPS] * geometry[TAPS + 1], np.int64),
        np.empty(geometry[TAPS] * geometry[TAPS + 1], x.dtype),
    )
    p, o, plane = first % height_out, first // height_out % depth_out, first // (height_out * depth_out)
    half, share = 0, x.dtype.type(1)
    for task in range(first, last + 1):
        previous, previous_share = half, share
        if task < last:
            below = depth_out + p
            if (
                back
                and task > first
                and p > 0
                and starts[below] == starts[below - 1]
                and stops[below] == stops[below - 1]
            ):
                pass  # the columns are those of the row before
            else:
                half = length - half
                rows = 0
                for d in range(starts[o], stops[o]):
                    for h in range(starts[below], stops[below]):
                        lines[rows] = ((plane * depth + d) * height + h) * width
                        shares[rows] = factors[d] * factors[depth + h] if back else x.dtype.type(1)
                        rows += 1
                if back:
                    _sum_shares(x, lines, shares, rows, columns, half + margin, width, factors, depth + height)
                else:
                    _sum_rows(x, lines, rows, columns, half + margin, width)
            share = x.dtype.type(1) if back else divisors[o] * divisors[below]
            p += 1  # divisions would take longer than a short row
            if p == height_out:
                p, o = 0, o + 1
                if o == depth_out:
                    o, plane = 0, plane + 1
        if task > first:
            row = (task - 1) * width_out
            if back:
                _spread_row(columns, previous + margin, y, row, width_out, taps, stride, before)
            else:
                _sum_row(
                    columns, previous, y, row, width_out, taps, stride, divisors, depth_out + height_out, previous_share
                )


@pasted
def _sum_rows(x, lines, rows, columns, to, width):
    """Columns of all rows of a row of windows."""
    for w in range(0, width, PAIR):
        total = splat(x, 0, PAIR)
        if width - w >= PAIR:
            for r in range(rows):
                total = add(total, load(x, get(lines, r) + w, PAIR))
        else:
            for r in range(rows):
                total = add(total, load_first(x, get(lines, r) + w, PAIR, width - w, 0))
        store(columns, to + w, total)


@pasted
def _sum_shares(x, lines, shares, rows, columns, to, width, factors, offset):
    """As _sum_rows, of what windows give to one of their elements."""
    for w in range(0, width, PAIR):
        total = splat(x, 0, PAIR)
        for r in range(rows):
            value = load_first(x, get(lines, r) + w, PAIR, width - w, 0)
            total = add(total, multiply(splat(x, get(shares, r), PAIR), value))
        store(columns, to + w, multiply(total, load_first(factors, offset + w, PAIR, width - w, 0)))


@pasted
def _sum_row(columns, start, y, row, width_out, taps, stride, divisors, inner, share):
    """A row of y from the columns."""
    for q in range(0, width_out, PAIR):
        total = splat(columns, 0, PAIR)
        if stride == 1:
            total = _run(columns, start + q, taps)
        elif stride == 2:
            for s in range(0, taps, 2):
                at = start + 2 * q + s
                a, b = load(columns, at, PAIR), load(columns, at + PAIR, PAIR)
                total = add(total, even_lanes(a, b))
                if s + 1 < taps:
                    total = add(total, odd_lanes(a, b))
        else:
            for i in range(q, min(q + PAIR, width_out)):
                put(y, row + i, _sum_of(columns, start + i * stride, taps))
            total = load_first(y, row + q, PAIR, width_out - q, 0)
        divisor = multiply(splat(columns, share, PAIR), load_first(divisors, inner + q, PAIR, width_out - q, 1))
        store_within(y, row + q, divide(total, divisor), width_out - q)


@pasted
def _sum_of(columns, start, count):
    """The sum of so many columns."""
    total = columns.dtype.type(0)
    for s in range(count):
        total += get(columns, start + s)
    return total


@pasted
def _spread_row(columns, start, y, row, width_out, taps, stride, before):
    """A row of y back from the columns; positions of equal remainder by the stride have windows side by side."""
    windows, newest = (taps + stride - 1 - before % stride) // stride, start + before // stride
    if stride == 1:
        for w in range(0, width_out, PAIR):
            store_within(y, row + w, _run(columns, newest - windows + 1 + w, windows), width_out - w)
    else:
        odd_windows, odd_newest = (taps + 1 - (before + 1) % 2) // 2, start + (before + 1) // 2
        for i in range(0, (width_out + 1) // 2, PAIR):
            even = _run(columns, newest - windows + 1 + i, windows)
            odd = _run(columns, odd_newest - odd_windows + 1 + i, odd_windows)
            store_within(y, row + 2 * i, interleave(even, odd), width_out - 2 * i)


@pasted
def _run(columns, start, count):
    """The sum of so many vectors, each of which begins one column later."""
    total = splat(columns, 0, PAIR)
    for i in range(count):
        total = add(total, load(columns, start + i, PAIR))
    return total


@kernel
def sum_bins_last(first, last, x, y, channels, geometry, starts, stops, factors, divisors):
    """y from x for channels last, forward or back; a task is one row of pixels of y."""
    depth, height, width = geometry[SIZE], geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    inner, back = depth_out + height_out, factors.size > 0
    lines, shares = (
        np.empty(geometry[TAPS] * geometry[TAPS + 1], np.int64),
        np.empty(geometry[TAPS] * geometry[TAPS + 1], x.dtype),
    )
    for task in range(first, last):
        p, o, plane = task % height_out, task // height_out % depth_out, task // (height_out * depth_out)
        rows = 0
        for d in range(starts[o], stops[o]):
            for h in range(starts[depth_out + p], stops[depth_out + p]):
                lines[rows] = ((plane * depth + d) * height + h) * width
                shares[rows] = factors[d] * factors[depth + h] if back else x.dtype.type(1)
                rows += 1
        for q in range(width_out):
            start, stop, to = starts[inner + q], stops[inner + q], (task * width_out + q) * channels
            c = 0
            if back:
                while c + QUAD <= channels:
                    _share_quad(x, y, lines, shares, rows, start, stop, channels, c, to, factors, depth + height)
                    c += QUAD
                while c < channels:
                    _share_lanes(x, y, lines, shares, rows, start, stop, channels, c, to, factors, depth + height)
                    c += LANES
            else:
                divisor = divisors[o] * divisors[depth_out + p] * divisors[inner + q]
                while c + QUAD <= channels:
                    _sum_quad(x, y, lines, rows, start, stop, channels, c, to, divisor)
                    c += QUAD
                while c < channels:
                    _sum_lanes(x, y, lines, rows, start, stop, channels, c, to, divisor)
                    c += LANES


def _summation(lanes):
    """The inner part of sum_bins_last for so many lanes, forward."""

    @pasted
    def sum_pixels(x, y, lines, rows, start, stop, channels, c, to, divisor):
        """y of channels c and so on of a pixel from as many lanes of all pixels of its bin."""
        total, left = splat(x, 0, lanes), channels - c
        for r in range(rows):
            source = (get(lines, r) + start) * channels + c
            for _ in range(start, stop):
                value = load(x, source, lanes) if left >= lanes else load_first(x, source, lanes, left, 0)
                total = add(total, value)
                source += channels
        store_within(y, to + c, divide(total, splat(x, divisor, lanes)), left)

    return sum_pixels


def _sharing(lanes):
    """The inner part of sum_bins_last for so many lanes, back."""

    @pasted
    def sum_shares(x, y, lines, shares, rows, start, stop, channels, c, to, factors, offset):
        """y of channels c and so on of a pixel from as many lanes of all windows that cover it."""
        total, left = splat(x, 0, lanes), channels - c
        for r in range(rows):
            source = (get(lines, r) + start) * channels + c
            for w in range(start, stop):
                value = load(x, source, lanes) if left >= lanes else load_first(x, source, lanes, left, 0)
                total = add(total, multiply(splat(x, get(shares, r) * get(factors, offset + w), lanes), value))
                source += channels
        store_within(y, to + c, total, left)

    return sum_shares


_sum_quad, _sum_lanes = _summation(QUAD), _summation(LANES)
_share_quad, _share_lanes = _sharing(QUAD), _sharing(LANES)
