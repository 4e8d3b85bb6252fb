"""Kernels of the input gradient of max pooling by positions in the window, both memory formats.

    dx[i] = sum of dy[p] over the windows p that cover i and whose taps[p] is i's own number in p

An input position meets its windows in the order in which a scatter would send to it, so that the bits are the same;
but rows and pixels are vectors, which a scatter's are not.
"""

import functools
import math

import numpy as np

from fastconv.cpu.jit import get, kernel, pasted, put
from fastconv.cpu.pool_bins import evenly
from fastconv.cpu.vectors import (
    LANES,
    PAIR,
    QUAD,
    add,
    choose,
    equals,
    interleave,
    load,
    load_first,
    splat,
    store,
    store_within,
)

# Places in a sizes array; all but the last have one number an axis.
SIZE, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, BAND = 0, 3, 6, 9, 12, 15, 18

_NO_TAP = 255  # of so large a window no tap is asked for
# What a band of rows may take of the first cache, and the elements that a row is longer by than it seems.
_BAND_BYTES, _LONGEST_VECTOR = 32768, 64


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def geometry_of(window):
    """A Window as the kernels take it.

    Returns:
        Four int64 arrays. sizes, see the places above. begins, one number a position of each axis in turn and one more:
        where the windows that cover it begin in the others. windows: which they are. numbers: which tap of theirs lies
        there, as the part of its number in the window that this axis has.
    """
    w = window.three_axes()
    before = [pair[0] for pair in w.padding]
    sizes = np.array([*w.size, *w.output, *w.kernel, *w.stride, *w.dilation, *before, _band(w)], np.int64)
    begins, windows, numbers = [0], [], []
    for axis, (size, output, count, stride, dilation, padding) in enumerate(sizes[:BAND].reshape(6, 3).T):
        tap = np.arange(count)[::-1]  # the first windows reach a position with their last taps
        start = np.arange(size)[:, None] + padding - tap * dilation
        covers = (start >= 0) & (start % stride == 0) & (start // stride < output)
        begins.extend(begins[-1] + np.cumsum(covers.sum(1)))
        windows.append((start // stride)[covers])
        numbers.append(np.broadcast_to(tap * math.prod(w.kernel[axis + 1 :]), covers.shape)[covers])
    return sizes, np.array(begins), np.concatenate(windows), np.concatenate(numbers)


def _band(window):
    """How many rows of dx to work on at a time: a multiple of the stride."""
    stride, before = window.stride[1], window.padding[1][0]
    above, below = _reach(window.kernel[1], stride, window.dilation[1], before)
    row = 5 * window.kernel[0] * (window.output[2] + _LONGEST_VECTOR + window.kernel[2] * window.dilation[2])
    lines = max(_BAND_BYTES // row - above - below, above + below, 1)
    wanted = -(-window.size[1] // stride)
    return stride * evenly(wanted, lines)


def bands(sizes):
    """Bands of rows in a plane, a task each."""
    return int(sizes[SIZE] * -(-sizes[SIZE + 1] // sizes[BAND]))


def _reach(taps, stride, dilation, before):
    """How many windows before and behind the one at i // stride may cover a position i."""
    return max(((taps - 1) * dilation - before) // stride + 1, 0), (stride - 1 + before) // stride


_reach_of = pasted(_reach)


@kernel
def max_input_grad_first(first, last, dy, taps, dx, sizes):
    """dx for channels first; a task is a band of rows of it.

    Positions of equal remainders by the strides, a phase, take from windows that lie side by side. Rows of dy and taps
    are first copied to where there are margins, of no tap, around them.
    """
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    depth_out, height_out, width_out = sizes[OUTPUT], sizes[OUTPUT + 1], sizes[OUTPUT + 2]
    slices, rows, columns = sizes[KERNEL], sizes[KERNEL + 1], sizes[KERNEL + 2]
    slice_stride, row_stride, stride = sizes[STRIDE], sizes[STRIDE + 1], sizes[STRIDE + 2]
    slice_dilation, row_dilation, dilation = sizes[DILATION], sizes[DILATION + 1], sizes[DILATION + 2]
    slice_before, row_before, before = sizes[BEFORE], sizes[BEFORE + 1], sizes[BEFORE + 2]
    band = sizes[BAND]
    bands = -(-height // band)
    margin, behind = _reach_of(columns, stride, dilation, before)
    above, below = _reach_of(rows, row_stride, row_dilation, row_before)
    count = -(-width // stride)  # of positions of a phase
    slots = margin + max(behind + -(-count // PAIR) * PAIR, width_out + PAIR)
    lines = above + band // row_stride + below
    shares, wanted = np.zeros(slices * lines * slots, dy.dtype), np.full(slices * lines * slots, _NO_TAP, np.uint8)
    # What each phase takes from within a slice of dy, and from all slices that reach d.
    places, parts = np.empty(rows * columns, np.int64), np.empty(rows * columns, np.int64)
    inner = np.zeros(row_stride * stride + 1, np.int64)
    found = 0
    for phase in range(row_stride * stride):
        for r in range(rows - 1, -1, -1):  # the first windows reach a position with their last taps
            for s in range(columns - 1, -1, -1):
                p, q = phase // stride + row_before - r * row_dilation, phase % stride + before - s * dilation
                if p % row_stride == 0 and q % stride == 0:
                    places[found] = (above + p // row_stride) * slots + margin + q // stride
                    parts[found] = r * columns + s
                    found += 1
        inner[phase + 1] = found
    sources, numbers = np.empty(slices * rows * columns, np.int64), np.empty(slices * rows * columns, np.uint8)
    begins = np.zeros(row_stride * stride + 1, np.int64)
    reaching = np.empty(slices, np.int64)
    phases = np.empty(count + PAIR if stride > 2 else 0, dx.dtype)
    listed = -1
    for task in range(first, last):
        d, plane = task // bands % depth, task // (bands * depth)
        top = task % bands * band
        bottom, used = min(top + band, height), 0
        for z in range(slices - 1, -1, -1):
            o = (d + slice_before - z * slice_dilation) // slice_stride
            if o < 0 or o >= depth_out or o * slice_stride + z * slice_dilation != d + slice_before:
                continue
            p, to = top // row_stride - above, used * lines * slots + margin
            for _ in range(above + -(-(bottom - top) // row_stride) + below):
                inside = p >= 0 and p < height_out
                line = ((plane * depth_out + o) * height_out + p) * width_out
                _copy_row(dy, taps, line, width_out if inside else 0, width_out, shares, wanted, to)
                p, to = p + 1, to + slots
            reaching[used] = z
            used += 1
        if d != listed:
            listed, found = d, 0
            for phase in range(row_stride * stride):
                for i in range(used):
                    for j in range(inner[phase], inner[phase + 1]):
                        put(sources, found, i * lines * slots + get(places, j))
                        put(numbers, found, get(reaching, i) * rows * columns + get(parts, j))
                        found += 1
                begins[phase + 1] = found
        phase, base = 0, 0
        for h in range(top, bottom):
            to = ((plane * depth + d) * height + h) * width
            begin, middle, end = begins[phase], begins[phase + 1], begins[phase + stride]
            if stride == 1:
                for i in range(0, width, PAIR):
                    won = _won(shares, wanted, sources, numbers, begin, end, base + i)
                    store_within(dx, to + i, won, width - i)
            elif stride == 2:  # both phases at once are whole vectors of dx
                for i in range(0, count, PAIR):
                    even = _won(shares, wanted, sources, numbers, begin, middle, base + i)
                    odd = _won(shares, wanted, sources, numbers, middle, end, base + i)
                    store_within(dx, to + 2 * i, interleave(even, odd), width - 2 * i)
            else:
                for start in range(min(stride, width)):
                    begin, end = begins[phase + start], begins[phase + start + 1]
                    for i in range(0, count, PAIR):
                        store(phases, i, _won(shares, wanted, sources, numbers, begin, end, base + i))
                    for i in range((width - start + stride - 1) // stride):
                        put(dx, to + start + i * stride, get(phases, i))
            phase += stride
            if phase == row_stride * stride:
                phase, base = 0, base + slots


@pasted
def _copy_row(dy, taps, line, count, width_out, shares, wanted, to):
    """Copy so many elements of a row of dy and taps; what vectors write behind them is no tap."""
    for q in range(0, width_out, PAIR):
        if q + PAIR <= count:
            store(shares, to + q, load(dy, line + q, PAIR))
            store(wanted, to + q, load(taps, line + q, PAIR))
        else:
            store(shares, to + q, load_first(dy, line + q, PAIR, count - q, 0))
            store(wanted, to + q, load_first(taps, line + q, PAIR, count - q, _NO_TAP))


@pasted
def _won(shares, wanted, sources, numbers, begin, end, base):
    """What neighbouring positions of a phase win."""
    won = splat(shares, 0, PAIR)
    for t in range(begin, end):
        at, number = base + get(sources, t), splat(wanted, get(numbers, t), PAIR)
        won = choose(equals(load(wanted, at, PAIR), number), add(won, load(shares, at, PAIR)), won)
    return won


@kernel
def max_input_grad_last(first, last, dy, taps, dx, sizes, begins, windows, numbers, channels):
    """dx for channels last; a task is one row of pixels of it."""
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    depth_out, height_out, width_out = sizes[OUTPUT], sizes[OUTPUT + 1], sizes[OUTPUT + 2]
    rows = sizes[KERNEL] * sizes[KERNEL + 1]
    lines, row_places = np.empty(rows, np.int64), np.empty(rows, np.int64)
    sources, places = np.empty(rows * sizes[KERNEL + 2], np.int64), np.empty(rows * sizes[KERNEL + 2], np.int64)
    for task in range(first, last):
        h, d, plane = task % height, task // height % depth, task // (height * depth)
        rows = 0
        for a in range(get(begins, d), get(begins, d + 1)):
            for b in range(get(begins, depth + h), get(begins, depth + h + 1)):
                line = (plane * depth_out + get(windows, a)) * height_out + get(windows, b)
                put(lines, rows, line * width_out)
                put(row_places, rows, get(numbers, a) + get(numbers, b))
                rows += 1
        for w in range(width):
            competing, at = 0, depth + height + w
            for r in range(rows):
                for c in range(get(begins, at), get(begins, at + 1)):
                    put(sources, competing, (get(lines, r) + get(windows, c)) * channels)
                    put(places, competing, get(row_places, r) + get(numbers, c))
                    competing += 1
            to, c = (task * width + w) * channels, 0
            while c + QUAD <= channels:
                _win_quad(dy, taps, dx, sources, places, competing, c, to, channels - c)
                c += QUAD
            while c < channels:
                _win_lanes(dy, taps, dx, sources, places, competing, c, to, channels - c)
                c += LANES


def _winning(lanes):
    """The inner part of max_input_grad_last for so many lanes."""

    @pasted
    def win(dy, taps, dx, sources, places, competing, c, to, left):
        """dx of channels c and so on of a pixel from as many lanes of the windows that cover it."""
        won = splat(dx, 0, lanes)
        for t in range(competing):
            at = get(sources, t) + c
            if left >= lanes:
                share, tap = load(dy, at, lanes), load(taps, at, lanes)
            else:
                share, tap = load_first(dy, at, lanes, left, 0), load_first(taps, at, lanes, left, 0)
            won = choose(equals(tap, splat(taps, get(places, t), lanes)), add(won, share), won)
        store_within(dx, to + c, won, left)

    return win


_win_quad, _win_lanes = _winning(QUAD), _winning(LANES)
