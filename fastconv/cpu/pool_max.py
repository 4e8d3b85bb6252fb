"""Kernels of max pooling: windows and adaptive cells, both memory formats.

The first of equal maxima counts and the last NaN, as in PyTorch. Maxima and indices of a few vectors of bins or
channels stay in registers until all elements of the bins have competed. Until then indices are as narrow as they can
be, `narrow` says in which dtype: as many fit in a vector as maxima.

Indices are positions in the flattened input or, where `skipped` is not empty, in the flattened window. Either kind is
a number for the row of the input and one for the column added up, so that one loop finds both.
"""

import numpy as np

from fastconv.cpu.jit import get, kernel, pasted, put
from fastconv.cpu.pool_bins import BEFORE, OUTPUT, ROWS, SIZE, SLICES, STEP, STRIDE, TAPS
from fastconv.cpu.vectors import (
    LANES,
    PAIR,
    QUAD,
    add,
    choose,
    even_lanes,
    load,
    load_first,
    odd_lanes,
    splat,
    store,
    store_within,
    wins,
)


@kernel
def max_windows_first(first, last, x, y, indices, narrow, geometry, starts, stops, skipped):
    """y and indices of evenly spaced bins for channels first; a task is one row of y.

    Rows of x are sorted by the remainder of their padded positions by the stride, so that a tap of neighbouring bins
    is a vector, and kept for the rows of y that follow.
    """
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, before, step = geometry[TAPS], geometry[STRIDE], geometry[BEFORE], geometry[STEP + 2]
    inner, in_window = depth_out + height_out, skipped.size > 0
    advance = 1 if in_window else step  # of an index from one tap of a row to the next
    count = -(-width_out // PAIR) * PAIR
    slots = max(count + (taps - 1) * step // stride, (width - 1 + before) // stride) + 1 + PAIR
    kept = geometry[SLICES] * geometry[ROWS]
    phases = np.full(kept * stride * slots, -np.inf, x.dtype)
    lines = np.full(kept, -1, np.int64)  # which row of x is in each place
    aside = np.empty(taps, np.int64)  # where each tap of bin 0 is found in a row
    for s in range(taps):
        put(aside, s, s * step % stride * slots + s * step // stride)
    sources = np.empty(kept * taps, np.int64)  # where those of all rows are found
    places = np.empty(kept * taps, np.int64)  # and their indices
    # Positions are kept less q * stride, so that a tap has one for all of a row.
    origins, shifts = np.zeros(count, narrow.dtype), np.zeros(count, narrow.dtype)
    for q in range(width_out):
        put(shifts, q, 0 if in_window else q * stride)
        put(origins, q, get(skipped, inner + q) if in_window else get(starts, inner + q) - q * stride)
    p, o, plane = first % height_out, first // height_out % depth_out, first // (height_out * depth_out)
    for task in range(first, last):
        origin = _row_index(geometry, skipped, starts, o, p, 0, 0)
        competing, slices, d = 0, 0, starts[o]
        while d < stops[o]:
            turn = starts[depth_out + p] % geometry[ROWS] if geometry[STEP + 1] == 1 else 0
            rows, h = 0, starts[depth_out + p]
            while h < stops[depth_out + p]:
                place = slices * geometry[ROWS] + turn
                line = (plane * geometry[SIZE] + d) * height + h
                if lines[place] != line:
                    lines[place] = line
                    _split_row(x, line * width, width, phases, place * stride, slots, stride, before)
                index = _row_index(geometry, skipped, starts, o, p, slices, rows) - (0 if in_window else before)
                for s in range(taps):
                    put(sources, competing, place * stride * slots + get(aside, s))
                    put(places, competing, index + s * advance)
                    competing += 1
                turn = turn + 1 if turn + 1 < geometry[ROWS] else 0
                rows, h = rows + 1, h + geometry[STEP + 1]
            slices, d = slices + 1, d + geometry[STEP]
        row = task * width_out
        for q in range(0, width_out, PAIR):
            best = splat(x, -np.inf, PAIR)
            at = add(load(origins, q, PAIR), splat(narrow, origin, PAIR))
            for t in range(competing):
                value, place = load(phases, get(sources, t) + q, PAIR), splat(narrow, get(places, t), PAIR)
                larger = wins(value, best)
                best, at = choose(larger, value, best), choose(larger, place, at)
            at = add(at, load(shifts, q, PAIR))
            store_within(y, row + q, best, width_out - q)
            store_within(indices, row + q, at, width_out - q)
        if not in_window:
            _mark_empty(indices, row, starts, stops, inner, width_out, 1, competing == 0)
        p += 1  # divisions would take longer than a short row
        if p == height_out:
            p, o = 0, o + 1
            if o == depth_out:
                o, plane = 0, plane + 1


@pasted
def _mark_empty(indices, row, starts, stops, inner, width_out, lanes, every):
    """Write -1 as the indices of bins without an element."""
    for q in range(width_out):
        if every or get(starts, inner + q) >= get(stops, inner + q):
            for c in range(row + q * lanes, row + (q + 1) * lanes):
                put(indices, c, -1)


@pasted
def _row_index(geometry, skipped, starts, o, p, slices, rows):
    """What the indices of a row of the input have in common, so many slices and rows behind the first of a bin."""
    below = geometry[OUTPUT] + p
    if skipped.size > 0:
        return ((skipped[o] + slices) * geometry[ROWS] + skipped[below] + rows) * geometry[TAPS]
    d, h = starts[o] + slices * geometry[STEP], starts[below] + rows * geometry[STEP + 1]
    return (d * geometry[SIZE + 1] + h) * geometry[SIZE + 2]


@pasted
def _split_row(x, line, width, phases, phase, slots, stride, before):
    """Sort a row of x into the phases from this one on; what vectors write behind it is -inf as before."""
    if stride == 1:
        to = phase * slots + before
        for w in range(0, width, LANES):
            store(phases, to + w, load_first(x, line + w, LANES, width - w, -np.inf))
    elif stride == 2:
        even = (phase + before % 2) * slots + before // 2
        odd = (phase + (before + 1) % 2) * slots + (before + 1) // 2
        for w in range(0, width, PAIR):
            a = load_first(x, line + w, LANES, width - w, -np.inf)
            b = load_first(x, line + w + LANES, LANES, width - w - LANES, -np.inf)
            store(phases, even + w // 2, even_lanes(a, b))
            store(phases, odd + w // 2, odd_lanes(a, b))
    else:
        for start in range(min(stride, width)):
            to = (phase + (start + before) % stride) * slots + (start + before) // stride
            for i in range((width - start + stride - 1) // stride):
                put(phases, to + i, get(x, line + start + i * stride))


@kernel
def max_bins_first(first, last, x, y, indices, narrow, geometry, starts, stops, skipped):
    """y and indices of any bins for channels first; a task is one row of y.

    They choose among the maxima of their columns.
    """
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    step, inner, in_window = geometry[STEP + 2], depth_out + height_out, skipped.size > 0
    advance = 1 if in_window else step
    maxima, found = np.empty(width, x.dtype), np.empty(width, narrow.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * geometry[SIZE] * height * width
        origin = _row_index(geometry, skipped, starts, o, p, 0, 0)
        for w in range(width):
            put(found, w, origin)
            put(maxima, w, -np.inf)
        for slices, d in enumerate(range(starts[o], stops[o], geometry[STEP])):
            for rows, h in enumerate(range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1])):
                line = plane + (d * height + h) * width
                place = found.dtype.type(_row_index(geometry, skipped, starts, o, p, slices, rows))
                for w in range(width):
                    value, best, at = get(x, line + w), get(maxima, w), get(found, w)
                    larger = (value > best) | (value != value)
                    put(maxima, w, value if larger else best)
                    put(found, w, place if larger else at)
        row = task * width_out
        for q in range(width_out):
            start, stop = get(starts, inner + q), get(stops, inner + q)
            offset = get(skipped, inner + q) if in_window else start
            _choose(maxima, found, start, stop, step, offset, advance, y, indices, row + q)
        if starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]:
            for q in range(width_out):
                put(indices, row + q, -1)


@pasted
def _choose(maxima, found, start, stop, step, offset, advance, y, indices, to):
    """y and index of a bin from the maxima of its columns: of equals the first position, of NaNs the last."""
    best, at = maxima.dtype.type(-np.inf), np.int64(-1)
    for w in range(start, stop, step):
        value, position = get(maxima, w), np.int64(get(found, w)) + offset
        offset += advance
        larger = (value > best) | ((value != value) & ((best == best) | (position > at)))
        if larger or at < 0 or (value == best and position < at):
            best, at = value, position
    put(y, to, best)
    put(indices, to, at)


def _competition(lanes):
    """The inner part of max_pool_last for so many lanes."""

    @pasted
    def compete(
        x, y, indices, narrow, lines, places, rows, start, stop, step, offset, advance, channels, c, to, origin
    ):
        """y and indices of channels c and so on of a pixel from as many lanes of all pixels of its bin."""
        best, at = splat(x, -np.inf, lanes), splat(narrow, origin + offset, lanes)
        following = splat(narrow, advance, lanes)
        left = channels - c
        for r in range(rows):
            source, place = (get(lines, r) + start) * channels + c, splat(narrow, get(places, r) + offset, lanes)
            w = start
            while w < stop:
                value = load(x, source, lanes) if left >= lanes else load_first(x, source, lanes, left, 0)
                larger = wins(value, best)
                best, at = choose(larger, value, best), choose(larger, place, at)
                place = add(place, following)
                source += step * channels
                w += step
        store_within(y, to + c, best, left)
        store_within(indices, to + c, at, left)

    return compete


_compete_quad, _compete_lanes = _competition(QUAD), _competition(LANES)


@kernel
def max_pool_last(first, last, x, y, indices, narrow, geometry, starts, stops, skipped, channels):
    """y and indices for channels last; a task is one row of pixels of y."""
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    inner, step, in_window = depth_out + height_out, geometry[STEP + 2], skipped.size > 0
    advance = 1 if in_window else step
    kept = geometry[SLICES] * geometry[ROWS]
    lines, places = np.empty(kept, np.int64), np.empty(kept, np.int64)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * geometry[SIZE]
        origin = _row_index(geometry, skipped, starts, o, p, 0, 0)
        rows_in = 0
        for slices, d in enumerate(range(starts[o], stops[o], geometry[STEP])):
            for rows, h in enumerate(range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1])):
                lines[rows_in] = ((plane + d) * height + h) * width
                places[rows_in] = _row_index(geometry, skipped, starts, o, p, slices, rows)
                rows_in += 1
        for q in range(width_out):
            to, start, stop = (task * width_out + q) * channels, starts[inner + q], stops[inner + q]
            offset = skipped[inner + q] if in_window else start
            c = 0
            while c + QUAD <= channels:
                _compete_quad(
                    x,
                    y,
                    indices,
                    narrow,
                    lines,
                    places,
                    rows_in,
                    start,
                    stop,
                    step,
                    offset,
                    advance,
                    channels,
                    c,
                    to,
                    origin,
                )
                c += QUAD
            while c < channels:
                _compete_lanes(
                    x,
                    y,
                    indices,
                    narrow,
                    lines,
                    places,
                    rows_in,
                    start,
                    stop,
                    step,
                    offset,
                    advance,
                    channels,
                    c,
                    to,
                    origin,
                )
                c += LANES
        if not in_window:
            row = task * width_out * channels
            _mark_empty(indices, row, starts, stops, inner, width_out, channels, rows_in == 0)
