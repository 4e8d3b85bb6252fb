"""Kernels of max pooling: windows and adaptive cells, both memory formats.

The first of equal maxima counts and the last NaN, as in PyTorch. Until a row is done its indices are
kept as narrow as they can be, `narrow` says in which dtype: twice as many fit in a vector.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import BEFORE, EVEN, OUTPUT, SIZE, STEP, STRIDE, TAPS

# Rows are scanned in multiples of this: what is left over after whole vectors would take longer than they do.
_WHOLE_VECTORS = 32


@kernel
def max_pool_first(first, last, x, y, indices, narrow, geometry, starts, stops):
    """y and indices for channels first; a task is one row of y."""
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, before, step = geometry[TAPS], geometry[STRIDE], geometry[BEFORE], geometry[STEP + 2]
    inner = depth_out + height_out
    even = geometry[EVEN] == 1
    count = -(-width_out // _WHOLE_VECTORS) * _WHOLE_VECTORS
    slots = max(count + (taps - 1) * step // stride, (width - 1 + before) // stride) + 1
    phases = np.full(slots * stride if even else 0, -np.inf, x.dtype)
    maxima = np.empty(count, x.dtype)
    found = np.empty(count, narrow.dtype)  # less q * stride, so that it is the same for all of a row
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * geometry[SIZE] * height * width
        row = task * width_out
        line = (starts[o] * height + starts[depth_out + p]) * width
        empty = starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]
        for q in range(width_out):
            start = get(starts, inner + q)
            put(found, q, (-1 if empty or start >= get(stops, inner + q) else line + start) - q * stride)
            put(maxima, q, -np.inf)
        for d in range(starts[o], stops[o], geometry[STEP]):
            for h in range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1]):
                line = (d * height + h) * width
                if even:
                    _split_row(x, plane + line, width, phases, slots, stride, before)
                    for s in range(taps):
                        source = s * step % stride * slots + s * step // stride
                        place = found.dtype.type(line - before + s * step)
                        for q in range(count):
                            value, best, at = get(phases, source + q), get(maxima, q), get(found, q)
                            wins = (value > best) | (value != value)
                            put(maxima, q, value if wins else best)
                            put(found, q, place if wins else at)
                else:
                    for q in range(width_out):
                        best, at = get(maxima, q), get(found, q)
                        for w in range(starts[inner + q], stops[inner + q], step):
                            value = get(x, plane + line + w)
                            wins = (value > best) | (value != value)
                            best = value if wins else best
                            at = found.dtype.type(line + w - q * stride) if wins else at
                        put(maxima, q, best)
                        put(found, q, at)
        for q in range(width_out):
            put(y, row + q, get(maxima, q))
            put(indices, row + q, get(found, q) + q * stride)


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
def max_pool_last(first, last, x, y, indices, narrow, geometry, starts, stops, channels):
    """y and indices for channels last; a task is one row of pixels of y."""
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    inner = depth_out + height_out
    found = np.empty(channels, narrow.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        image = task // (height_out * depth_out) * geometry[SIZE] * height * width
        for q in range(width_out):
            row = (task * width_out + q) * channels
            origin = (starts[o] * height + starts[depth_out + p]) * width + starts[inner + q]
            if starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]:
                origin = -1
            if starts[inner + q] >= stops[inner + q]:
                origin = -1
            for c in range(channels):
                put(found, c, origin)
                put(y, row + c, -np.inf)
            for d in range(starts[o], stops[o], geometry[STEP]):
                for h in range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1]):
                    for w in range(starts[inner + q], stops[inner + q], geometry[STEP + 2]):
                        position = (d * height + h) * width + w
                        source = (image + position) * channels
                        for c in range(channels):
                            value, best = get(x, source + c), get(y, row + c)
                            wins = (value > best) | (value != value)
                            put(y, row + c, value if wins else best)
                            put(found, c, position if wins else get(found, c))
            for c in range(channels):
                put(indices, row + c, get(found, c))
