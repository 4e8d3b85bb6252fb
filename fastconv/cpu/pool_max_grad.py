"""Kernels of the input gradient of max pooling by positions in the window, both memory formats.

    dx[i] = sum of dy[p] over the windows p that cover i and whose taps[p] is i's own number in p

An input position meets its windows in the order in which a scatter would send to it, so that the bits are the same;
but rows and pixels are vectors, which a scatter's are not.
"""

import functools

import numpy as np

from fastconv.cpu.jit import get, kernel, pasted, put
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

# Places in a sizes array: one number an axis each.
SIZE, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE = 0, 3, 6, 9, 12, 15

_NO_TAP = 255  # of so large a window no tap is asked for


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def geometry_of(window):
    """A Window as the kernels take it.

    Returns:
        Two int64 arrays: sizes, see the places above; and the first window that may cover each position of an axis,
        one axis after the other, followed by one more than the last.
    """
    w = window.three_axes()
    before = [pair[0] for pair in w.padding]
    sizes = np.array([*w.size, *w.output, *w.kernel, *w.stride, *w.dilation, *before], np.int64)
    starts, stops = [], []
    for size, output, count, stride, dilation, padding in sizes.reshape(6, 3).T:
        ahead = np.arange(size) + padding
        starts.append(np.maximum(-(((count - 1) * dilation - ahead) // stride), 0))
        stops.append(np.minimum(ahead // stride + 1, output))
    return sizes, np.concatenate(starts + stops)


@pasted
def _tap(sizes, axis, i, p):
    """Which tap of window p lies at position i, -1 for none."""
    distance = i + sizes[BEFORE + axis] - p * sizes[STRIDE + axis]
    dilation = sizes[DILATION + axis]
    if dilation == 1:
        return distance
    return distance // dilation if distance % dilation == 0 else -1


@kernel
def max_input_grad_first(first, last, dy, taps, dx, sizes, covering):
    """dx for channels first; a task is one row of it.

    Positions of equal remainder by the stride, a phase, take from windows that lie side by side. Rows of dy and taps
    are copied to where they have margins, and kept for the rows of dx that follow.
    """
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    stops = depth + height + width  # where they begin among the covering windows
    width_out, columns, stride, dilation = sizes[OUTPUT + 2], sizes[KERNEL + 2], sizes[STRIDE + 2], sizes[DILATION + 2]
    before = sizes[BEFORE + 2]
    margin = max(((columns - 1) * dilation - before) // stride + 1, 0)  # so that no tap lies before it
    count = -(-width // stride)  # of positions of a phase
    slots = margin + max((stride - 1 + before) // stride + -(-count // PAIR) * PAIR, width_out + PAIR)
    slices, rows = 1, 1
    for d in range(depth):
        slices = max(slices, covering[stops + d] - covering[d])
    for h in range(depth, depth + height):
        rows = max(rows, covering[stops + h] - covering[h])
    shares, wanted = np.zeros(slices * rows * slots, dy.dtype), np.full(slices * rows * slots, _NO_TAP, np.uint8)
    lines = np.full(slices * rows, -1, np.int64)  # which row of dy is in each place
    shifts, numbers = np.empty(columns, np.int64), np.empty(columns, np.int64)  # of the taps of each phase in turn
    begins = np.zeros(stride + 1, np.int64)
    found = 0
    for phase in range(stride):
        for s in range(columns - 1, -1, -1):  # the first windows reach a column with their last taps
            if (phase + before - s * dilation) % stride == 0:
                shifts[found], numbers[found] = margin + (phase + before - s * dilation) // stride, s
                found += 1
        begins[phase + 1] = found
    sources, places = np.empty(slices * rows, np.int64), np.empty(slices * rows, np.int64)
    phases = np.empty(count + PAIR if stride > 2 else 0, dx.dtype)
    h, d, plane = first % height, first // height % depth, first // (height * depth)
    for task in range(first, last):
        competing = 0
        for o in range(covering[d], covering[stops + d]):
            slice_tap = _tap(sizes, 0, d, o)
            turn = covering[depth + h] % rows
            for p in range(covering[depth + h], covering[stops + depth + h]):
                place = (o - covering[d]) * rows + turn
                turn = turn + 1 if turn + 1 < rows else 0
                row_tap = _tap(sizes, 1, h, p)
                if slice_tap < 0 or row_tap < 0:
                    continue
                line = (plane * sizes[OUTPUT] + o) * sizes[OUTPUT + 1] + p
                if lines[place] != line:
                    lines[place] = line
                    _copy_row(dy, taps, line * width_out, width_out, shares, wanted, place * slots + margin)
                sources[competing] = place * slots
                places[competing] = (slice_tap * sizes[KERNEL + 1] + row_tap) * columns
                competing += 1
        to = task * width
        if stride == 1:
            for i in range(0, width, PAIR):
                won = _won(shares, wanted, sources, places, competing, shifts, numbers, 0, columns, i)
                store_within(dx, to + i, won, width - i)
        elif stride == 2:  # both phases at once are whole vectors of dx
            for i in range(0, count, PAIR):
                even = _won(shares, wanted, sources, places, competing, shifts, numbers, 0, begins[1], i)
                odd = _won(shares, wanted, sources, places, competing, shifts, numbers, begins[1], columns, i)
                store_within(dx, to + 2 * i, interleave(even, odd), width - 2 * i)
        else:
            for phase in range(min(stride, width)):
                begin, end = begins[phase], begins[phase + 1]
                for i in range(0, count, PAIR):
                    won = _won(shares, wanted, sources, places, competing, shifts, numbers, begin, end, i)
                    store(phases, i, won)
                for i in range((width - phase + stride - 1) // stride):
                    put(dx, to + phase + i * stride, get(phases, i))
        h += 1  # divisions would take longer than a short row
        if h == height:
            h, d = 0, d + 1
            if d == depth:
                d, plane = 0, plane + 1


@pasted
def _copy_row(dy, taps, line, width_out, shares, wanted, to):
    """Copy a row of dy and taps; what vectors write behind it is no tap as before."""
    for q in range(0, width_out, PAIR):
        store(shares, to + q, load_first(dy, line + q, PAIR, width_out - q, 0))
        store(wanted, to + q, load_first(taps, line + q, PAIR, width_out - q, _NO_TAP))


@pasted
def _won(shares, wanted, sources, places, rows, shifts, numbers, begin, end, i):
    """What positions i and so on of a phase win in all rows of windows."""
    won = splat(shares, 0, PAIR)
    for r in range(rows):
        source, place = get(sources, r) + i, get(places, r)
        for t in range(begin, end):
            at = source + get(shifts, t)
            wins = equals(load(wanted, at, PAIR), splat(wanted, place + get(numbers, t), PAIR))
            won = choose(wins, add(won, load(shares, at, PAIR)), won)
    return won


@kernel
def max_input_grad_last(first, last, dy, taps, dx, sizes, covering, channels):
    """dx for channels last; a task is one row of pixels of it."""
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    stops = depth + height + width  # where they begin among the covering windows
    most = sizes[KERNEL] * sizes[KERNEL + 1] * sizes[KERNEL + 2]
    sources, places = np.empty(most, np.int64), np.empty(most, np.int64)
    for task in range(first, last):
        h, d, plane = task % height, task // height % depth, task // (height * depth)
        for w in range(width):
            competing = 0
            for o in range(covering[d], covering[stops + d]):
                slice_tap = _tap(sizes, 0, d, o)
                for p in range(covering[depth + h], covering[stops + depth + h]):
                    row_tap = _tap(sizes, 1, h, p)
                    row = ((plane * sizes[OUTPUT] + o) * sizes[OUTPUT + 1] + p) * sizes[OUTPUT + 2]
                    number = (slice_tap * sizes[KERNEL + 1] + row_tap) * sizes[KERNEL + 2]
                    for q in range(covering[depth + height + w], covering[stops + depth + height + w]):
                        column_tap = _tap(sizes, 2, w, q)
                        if slice_tap >= 0 and row_tap >= 0 and column_tap >= 0:
                            put(sources, competing, (row + q) * channels)
                            put(places, competing, number + column_tap)
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
