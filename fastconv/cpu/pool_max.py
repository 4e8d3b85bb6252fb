"""Kernels of max pooling: windows and adaptive cells, both memory formats.

The first of equal maxima counts and the last NaN, as in PyTorch. Until a row is done its indices are
kept as narrow as they can be, `narrow` says in which dtype: twice as many fit in a vector.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.pool_bins import BEFORE, HIGH, LOW, OUTPUT, SIZE, STEP, STRIDE, TAPS


@kernel
def max_pool_first(first, last, x, y, indices, narrow, geometry, starts, stops):
    """y and indices for channels first; a task is one row of y."""
    height, width = geometry[SIZE + 1], geometry[SIZE + 2]
    depth_out, height_out, width_out = geometry[OUTPUT], geometry[OUTPUT + 1], geometry[OUTPUT + 2]
    taps, stride, step = geometry[TAPS], geometry[STRIDE], geometry[STEP + 2]
    low, high = geometry[LOW], geometry[HIGH]
    inner = depth_out + height_out
    found = np.empty(width_out, narrow.dtype)
    for task in range(first, last):
        o, p = task // height_out % depth_out, task % height_out
        plane = task // (height_out * depth_out) * geometry[SIZE] * height * width
        row = task * width_out
        line = (starts[o] * height + starts[depth_out + p]) * width
        empty = starts[o] >= stops[o] or starts[depth_out + p] >= stops[depth_out + p]
        for q in range(width_out):
            start = get(starts, inner + q)
            put(found, q, -1 if empty or start >= get(stops, inner + q) else line + start)
            put(y, row + q, -np.inf)
        for d in range(starts[o], stops[o], geometry[STEP]):
            for h in range(starts[depth_out + p], stops[depth_out + p], geometry[STEP + 1]):
                line = (d * height + h) * width
                place = line - geometry[BEFORE]
                if stride == 1:
                    _scan_row(x, y, found, plane, place, row, low, high, taps, step, 1)
                elif stride == 2:
                    _scan_row(x, y, found, plane, place, row, low, high, taps, step, 2)
                else:
                    _scan_row(x, y, found, plane, place, row, low, high, taps, step, stride)
                for q in range(low):
                    _scan_bin(x, y, found, plane, line, row, q, starts[inner + q], stops[inner + q], step)
                for q in range(high, width_out):
                    _scan_bin(x, y, found, plane, line, row, q, starts[inner + q], stops[inner + q], step)
        for q in range(width_out):
            put(indices, row + q, get(found, q))


@inline
def _scan_row(x, y, found, plane, place, row, low, high, taps, step, stride):
    """Let one row of x compete for bins low to high, which have all their elements."""
    for s in range(taps):
        begin = place + s * step
        for q in range(low, high):
            value, best = get(x, plane + begin + q * stride), get(y, row + q)
            wins = (value > best) | (value != value)
            put(y, row + q, value if wins else best)
            put(found, q, begin + q * stride if wins else get(found, q))


@inline
def _scan_bin(x, y, found, plane, line, row, q, start, stop, step):
    """Let one row of x compete for bin q."""
    best, at = get(y, row + q), get(found, q)
    for w in range(start, stop, step):
        value = get(x, plane + line + w)
        if value > best or value != value:
            best, at = value, line + w
    put(y, row + q, best)
    put(found, q, at)


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
