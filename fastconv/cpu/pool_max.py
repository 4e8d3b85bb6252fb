"""Kernels of max pooling: windows and adaptive cells, both memory formats.

The first of equal maxima counts and the last NaN, as in PyTorch. Maxima and indices of a few vectors of bins or
channels stay in registers until all elements of the bins have competed. Until then indices are as narrow as they can
be, `narrow` says in which dtype: as many fit in a vector as maxima.

Indices are positions in the flattened input or, where `skipped` is not empty, in the flattened window. Either kind is
a number for the row of the input and one for the column added up, so that one loop finds both.
"""

import numpy as np

from fastconv.cpu.jit import get, kernel, pasted, put
from fastconv.cpu.pool_bins import BAND, BEFORE, OUTPUT, SIZE, STEP, STRIDE, TAPS
from fastconv.cpu.vectors import (
    LANES,
    PAIR,
    QUAD,
    add,
    any_lane,
    choose,
    either,
    even_lanes,
    exceeds,
    load,
    load_first,
    no_number,
    odd_lanes,
    splat,
    store,
    store_within,
    wins,
)


@kernel
def max_windows_first(first, last, x, y, indices, narrow, geometry, starts, stops, skipped):
    """y and indices of regular bins for channels first; a task is a band of rows of y.

    The rows of x that it takes are first sorted by the remainder of their padded positions by the stride, so that a tap
    of neighbouring bins is a vector; -inf stands for what lies outside.
    """
    depth, height, width = geometry[SIZE], geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    slices, rows, columns = geometry[TAPS], geometry[TAPS + 1], geometry[TAPS + 2]
    slice_step, row_step, step = geometry[STEP], geometry[STEP + 1], geometry[STEP + 2]
    row_stride, stride, before = geometry[STRIDE + 1], geometry[STRIDE + 2], geometry[BEFORE + 2]
    in_window, band = skipped.size > 0, geometry[BAND]
    bands, span = -(-height_out // band), (rows - 1) * row_step + 1
    count = -(-width_out // PAIR) * PAIR
    slots = max(count + (columns - 1) * step // stride, (width - 1 + before) // stride + LANES) + 1
    pitch = stride * slots
    slice_pitch = ((band - 1) * row_stride + span) * pitch
    phases = np.full(slices * slice_pitch, -np.inf, x.dtype)
    sources, places = np.empty(slices * rows * columns, np.int64), np.empty(slices * rows * columns, np.int64)
    competing = 0
    for i in range(slices):
        for r in range(rows):
            for s in range(columns):
                sources[competing] = (
                    i * slice_pitch + r * row_step * pitch + s * step % stride * slots + s * step // stride
                )
                place = ((i * slice_step) * height + r * row_step) * width + s * step
                places[competing] = competing if in_window else place
                competing += 1
    # Positions are kept less those of the first tap, so that a tap has one for all bins.
    inner = depth_out + height_out
    origins, shifts = np.zeros(count, narrow.dtype), np.zeros(count, narrow.dtype)
    for q in range(width_out):
        put(shifts, q, 0 if in_window else q * stride)
        put(origins, q, get(skipped, inner + q) if in_window else get(starts, inner + q) - q * stride)
    for task in range(first, last):
        o, plane = task // bands % depth_out, task // (bands * depth_out)
        top = task % bands * band
        bottom = min(top + band, height_out)
        d, h = o * geometry[STRIDE] - geometry[BEFORE], top * row_stride - geometry[BEFORE + 1]
        strange = False  # without NaN one comparison is enough
        for i in range(slices):
            inside = d + i * slice_step >= 0 and d + i * slice_step < depth
            line = (plane * depth + d + i * slice_step) * height + h
            for r in range((bottom - top - 1) * row_stride + span):
                to = i * slice_pitch + r * pitch
                if inside and h + r >= 0 and h + r < height:
                    if span >= row_stride or r % row_stride < span:
                        strange |= _split_row(x, (line + r) * width, width, phases, to, slots, stride, before)
                else:
                    for j in range(to, to + pitch):
                        put(phases, j, -np.inf)
        for p in range(top, bottom):
            row, base = ((plane * depth_out + o) * height_out + p) * width_out, (p - top) * row_stride * pitch
            if in_window:
                place, origin = 0, (get(skipped, o) * rows + get(skipped, depth_out + p)) * columns
            else:
                place = (d * height + p * row_stride - geometry[BEFORE + 1]) * width - before
                origin = (get(starts, o) * height + get(starts, depth_out + p)) * width
            for q in range(0, width_out, PAIR):
                best = splat(x, -np.inf, PAIR)
                at = add(load(origins, q, PAIR), splat(narrow, origin - place, PAIR))
                for t in range(competing):
                    value = load(phases, base + get(sources, t) + q, PAIR)
                    larger = wins(value, best) if strange else exceeds(value, best)
                    best, at = choose(larger, value, best), choose(larger, splat(narrow, get(places, t), PAIR), at)
                at = add(at, add(load(shifts, q, PAIR), splat(narrow, place, PAIR)))
                store_within(y, row + q, best, width_out - q)
                store_within(indices, row + q, at, width_out - q)
            if not in_window:
                nothing = starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]
                _mark_empty(indices, row, starts, stops, inner, width_out, 1, nothing)


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
        return ((skipped[o] + slices) * geometry[TAPS + 1] + skipped[below] + rows) * geometry[TAPS + 2]
    d, h = starts[o] + slices * geometry[STEP], starts[below] + rows * geometry[STEP + 1]
    return (d * geometry[SIZE + 1] + h) * geometry[SIZE + 2]


@pasted
def _split_row(x, line, width, phases, to, slots, stride, before):
    """Sort a row of x into phases, and say whether it holds NaN; what vectors write behind it is -inf as before."""
    wrong = no_number(splat(x, 0, LANES))
    w = 0
    if stride == 1:
        while w + LANES <= width:
            a = load(x, line + w, LANES)
            wrong = either(wrong, no_number(a))
            store(phases, to + before + w, a)
            w += LANES
        if w < width:
            a = load_first(x, line + w, LANES, width - w, -np.inf)
            wrong = either(wrong, no_number(a))
            store(phases, to + before + w, a)
    elif stride == 2:
        even = to + before % 2 * slots + before // 2
        odd = to + (before + 1) % 2 * slots + (before + 1) // 2
        while w < width:
            if w + PAIR <= width:
                a, b = load(x, line + w, LANES), load(x, line + w + LANES, LANES)
            else:
                a = load_first(x, line + w, LANES, width - w, -np.inf)
                b = load_first(x, line + w + LANES, LANES, width - w - LANES, -np.inf)
            wrong = either(wrong, either(no_number(a), no_number(b)))
            store(phases, even + w // 2, even_lanes(a, b))
            store(phases, odd + w // 2, odd_lanes(a, b))
            w += PAIR
    else:
        for start in range(min(stride, width)):
            at = to + (start + before) % stride * slots + (start + before) // stride
            for i in range((width - start + stride - 1) // stride):
                put(phases, at + i, get(x, line + start + i * stride))
        while w < width:
            wrong = either(wrong, no_number(load_first(x, line + w, LANES, width - w, 0)))
            w += LANES
    return any_lane(wrong)


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
    kept = geometry[TAPS] * geometry[TAPS + 1]
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
