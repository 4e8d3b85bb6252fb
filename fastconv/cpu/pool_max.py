"""Kernels of max pooling: windows and adaptive cells, both memory formats.

The first of equal maxima counts and the last NaN, as in PyTorch. Until a row is done its indices are
kept as narrow as they can be, `narrow` says in which dtype: twice as many fit in a vector.

Indices are positions in the flattened input or, where `skipped` is not empty, in the flattened window. Either kind is
a number for the row of the input and one for the column added up, so that one loop finds both.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import BEFORE, EVEN, OUTPUT, ROWS, SIZE, STEP, STRIDE, TAPS

# Rows are scanned in multiples of this: what is left over after whole vectors would take longer than they do.
_WHOLE_VECTORS = 32


@kernel
def max_pool_first(first, last, x, y, indices, narrow, geometry, starts, stops, skipped):
    """y and indices for channels first; a task is one row of y.

    Evenly spaced bins compete side by side, tap by tap. Others choose among the maxima of their columns.
    """
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, before, step = geometry[TAPS], geometry[STRIDE], geometry[BEFORE], geometry[STEP + 2]
    inner = depth_out + height_out
    even, in_window = geometry[EVEN] == 1, skipped.size > 0
    advance = 1 if in_window else step  # of an index from one tap of a row to the next
    count = -(-width_out // _WHOLE_VECTORS) * _WHOLE_VECTORS
    slots = max(count + (taps - 1) * step // stride, (width - 1 + before) // stride) + 1
    phases = np.full(slots * stride if even else 0, -np.inf, x.dtype)
    maxima = np.full(count if even else width, -np.inf, x.dtype)
    found = np.zeros(maxima.size, narrow.dtype)
    sources = np.empty(taps, np.int64)  # where each tap of bin 0 is found among the phases
    for s in range(taps):
        sources[s] = s * step % stride * slots + s * step // stride
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * geometry[SIZE] * height * width
        row = task * width_out
        origin = _row_index(geometry, skipped, starts, o, p, 0, 0)
        if even and in_window:
            for q in range(width_out):
                put(found, q, origin + get(skipped, inner + q))
        elif even:  # positions are kept less q * stride, so that a tap has one for all of a row
            for q in range(width_out):
                start = get(starts, inner + q)
                put(found, q, (origin + start if start < get(stops, inner + q) else -1) - q * stride)
        else:  # and here less w
            for w in range(width):
                put(found, w, origin)
        for i in range(maxima.size):
            put(maxima, i, -np.inf)
        for slices, d in enumerate(range(starts[o], stops[o], geometry[STEP])):
            for rows, h in enumerate(range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1])):
                line = (d * height + h) * width
                index = _row_index(geometry, skipped, starts, o, p, slices, rows)
                if even:
                    _split_row(x, plane + line, width, phases, slots, stride, before)
                    _scan_taps(phases, sources, index if in_window else index - before, advance, maxima, found)
                else:
                    for w in range(width):
                        _compete(get(x, plane + line + w), index, maxima, found, w)
        if even:
            for q in range(width_out):
                put(y, row + q, get(maxima, q))
            if in_window:
                for q in range(width_out):
                    put(indices, row + q, get(found, q))
            else:
                for q in range(width_out):
                    put(indices, row + q, get(found, q) + q * stride)
        else:
            for q in range(width_out):
                start, stop = get(starts, inner + q), get(stops, inner + q)
                offset = get(skipped, inner + q) if in_window else start
                _choose(maxima, found, start, stop, step, offset, advance, y, indices, row + q)
        if starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]:
            for q in range(width_out):
                put(indices, row + q, -1)


@inline
def _row_index(geometry, skipped, starts, o, p, slices, rows):
    """What the indices of a row of the input have in common, so many slices and rows behind the first of a bin."""
    below = geometry[OUTPUT] + p
    if skipped.size > 0:
        return ((skipped[o] + slices) * geometry[ROWS] + skipped[below] + rows) * geometry[TAPS]
    d, h = starts[o] + slices * geometry[STEP], starts[below] + rows * geometry[STEP + 1]
    return (d * geometry[SIZE + 1] + h) * geometry[SIZE + 2]


@inline
def _compete(value, place, maxima, found, i):
    """Let a value compete for maximum i."""
    best, at = get(maxima, i), get(found, i)
    wins = (value > best) | (value != value)
    put(maxima, i, value if wins else best)
    put(found, i, found.dtype.type(place) if wins else at)


@inline
def _scan_taps(phases, sources, index, advance, maxima, found):
    """Let a row of x, sorted into phases, compete for its bins; two taps at once save half of the loads and stores."""
    taps = sources.size
    for s in range(0, taps - 1, 2):
        source, next_source = get(sources, s), get(sources, s + 1)
        place, next_place = found.dtype.type(index + s * advance), found.dtype.type(index + (s + 1) * advance)
        for q in range(maxima.size):
            value, best, at = get(phases, source + q), get(maxima, q), get(found, q)
            wins = (value > best) | (value != value)
            best, at = value if wins else best, place if wins else at
            value = get(phases, next_source + q)
            wins = (value > best) | (value != value)
            put(maxima, q, value if wins else best)
            put(found, q, next_place if wins else at)
    if taps % 2 == 1:
        source, place = get(sources, taps - 1), found.dtype.type(index + (taps - 1) * advance)
        for q in range(maxima.size):
            _compete(get(phases, source + q), place, maxima, found, q)


@inline
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


@inline
def _split_row(x, line, width, phases, slots, stride, before):
    """Sort a row of x by the remainder of its padded position by the stride: windows become contiguous."""
    if stride == 1:
        for w in range(width):
            put(phases, before + w, get(x, line + w))
    elif stride == 2:  # both phases at once are whole vectors of x
        even = before % 2 * slots + before // 2
        odd = (before + 1) % 2 * slots + (before + 1) // 2
        for i in range(width // 2):
            put(phases, even + i, get(x, line + 2 * i))
            put(phases, odd + i, get(x, line + 2 * i + 1))
        if width % 2 == 1:
            put(phases, even + width // 2, get(x, line + width - 1))
    else:
        for start in range(min(stride, width)):
            at = (start + before) % stride * slots + (start + before) // stride
            for i in range((width - start + stride - 1) // stride):
                put(phases, at + i, get(x, line + start + i * stride))


@kernel
def max_pool_last(first, last, x, y, indices, narrow, geometry, starts, stops, skipped, channels):
    """y and indices for channels last; a task is one row of pixels of y."""
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    inner, step, in_window = depth_out + height_out, geometry[STEP + 2], skipped.size > 0
    advance = 1 if in_window else step
    found = np.empty(channels, narrow.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        image = task // (height_out * depth_out) * geometry[SIZE] * height * width
        for q in range(width_out):
            row = (task * width_out + q) * channels
            offset = skipped[inner + q] if in_window else starts[inner + q]
            origin = _row_index(geometry, skipped, starts, o, p, 0, 0) + offset
            if starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]:
                origin = -1
            if starts[inner + q] >= stops[inner + q]:
                origin = -1
            for c in range(channels):
                put(found, c, origin)
                put(y, row + c, -np.inf)
            for slices, d in enumerate(range(starts[o], stops[o], geometry[STEP])):
                for rows, h in enumerate(range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1])):
                    line = (d * height + h) * width
                    index = _row_index(geometry, skipped, starts, o, p, slices, rows) + offset
                    w = starts[inner + q]
                    while w + step < stops[inner + q]:
                        pixel = image + line + w
                        _compete_pair(x, pixel, pixel + step, index, index + advance, channels, y, row, found)
                        w += 2 * step
                        index += 2 * advance
                    if w < stops[inner + q]:
                        place = found.dtype.type(index)
                        for c in range(channels):
                            value, best, at = get(x, (image + line + w) * channels + c), get(y, row + c), get(found, c)
                            wins = (value > best) | (value != value)
                            put(y, row + c, value if wins else best)
                            put(found, c, place if wins else at)
            for c in range(channels):
                put(indices, row + c, get(found, c))


@inline
def _compete_pair(x, pixel, next_pixel, index, next_index, channels, y, row, found):
    """Let two pixels compete for the maxima of a third: as two taps in _scan_taps."""
    source, next_source = pixel * channels, next_pixel * channels
    place, next_place = found.dtype.type(index), found.dtype.type(next_index)
    for c in range(channels):
        value, best, at = get(x, source + c), get(y, row + c), get(found, c)
        wins = (value > best) | (value != value)
        best, at = value if wins else best, place if wins else at
        value = get(x, next_source + c)
        wins = (value > best) | (value != value)
        put(y, row + c, value if wins else best)
        put(found, c, next_place if wins else at)
