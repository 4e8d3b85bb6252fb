"""Kernels of the input gradient of max pooling by positions in the window, both memory formats.

    dx[i] = sum of dy[p] over the windows p that cover i and whose taps[p] is i's own number in p

An input position meets its windows in the order in which a scatter would send to it, so that the bits are the same;
but rows and pixels are vectors, which a scatter's are not.
"""

import functools

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put

# Places in a sizes array: one number an axis each.
SIZE, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE = 0, 3, 6, 9, 12, 15


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


@inline
def _tap(sizes, axis, i, p):
    """Which tap of window p lies at position i, -1 for none."""
    distance = i + sizes[BEFORE + axis] - p * sizes[STRIDE + axis]
    dilation = sizes[DILATION + axis]
    if dilation == 1:
        return distance
    return distance // dilation if distance % dilation == 0 else -1


@kernel
def max_input_grad_first(first, last, dy, taps, dx, sizes, covering):
    """dx for channels first; a task is one row of it."""
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    stops = depth + height + width  # where they begin among the covering windows
    width_out, columns, stride, dilation = sizes[OUTPUT + 2], sizes[KERNEL + 2], sizes[STRIDE + 2], sizes[DILATION + 2]
    before = sizes[BEFORE + 2]
    margin = -(-before // stride)  # in each phase, so that no tap lies before it
    furthest = (columns - 1) * dilation + margin * stride - before
    slots = margin + max(width_out + furthest // stride, -(-width // stride)) + 1
    phases = np.empty(slots * stride, dx.dtype)
    targets = np.empty(columns, np.int64)  # where each tap of window 0 is found among the phases
    for s in range(columns):
        place = s * dilation + margin * stride - before
        targets[s] = place % stride * slots + place // stride
    h, d, plane = first % height, first // height % depth, first // (height * depth)
    for task in range(first, last):
        for i in range(phases.size):
            put(phases, i, 0)
        for o in range(covering[d], covering[stops + d]):
            slice_tap = _tap(sizes, 0, d, o)
            for p in range(covering[depth + h], covering[stops + depth + h]):
                row_tap = _tap(sizes, 1, h, p)
                if slice_tap < 0 or row_tap < 0:
                    continue
                line = ((plane * sizes[OUTPUT] + o) * sizes[OUTPUT + 1] + p) * width_out
                number = (slice_tap * sizes[KERNEL + 1] + row_tap) * columns
                for s in range(columns - 1, -1, -1):  # the first windows reach a column with their last taps
                    at, wanted = get(targets, s), np.uint8(number + s)
                    for q in range(width_out):
                        share, wins = get(dy, line + q), get(taps, line + q) == wanted
                        put(phases, at + q, get(phases, at + q) + (share if wins else dx.dtype.type(0)))
        _join_row(phases, slots, stride, margin, dx, task * width, width)
        h += 1  # divisions would take longer than a short row
        if h == height:
            h, d = 0, d + 1
            if d == depth:
                d, plane = 0, plane + 1


@inline
def _join_row(phases, slots, stride, margin, dx, to, width):
    """A row of dx from its phases, positions of equal remainder by the stride."""
    if stride == 1:
        for w in range(width):
            put(dx, to + w, get(phases, margin + w))
    elif stride == 2:  # both phases at once are whole vectors of dx
        for i in range(width // 2):
            put(dx, to + 2 * i, get(phases, margin + i))
            put(dx, to + 2 * i + 1, get(phases, slots + margin + i))
        if width % 2 == 1:
            put(dx, to + width - 1, get(phases, margin + width // 2))
    else:
        for start in range(min(stride, width)):
            for i in range((width - start + stride - 1) // stride):
                put(dx, to + start + i * stride, get(phases, start * slots + margin + i))


@kernel
def max_input_grad_last(first, last, dy, taps, dx, sizes, covering, channels):
    """dx for channels last; a task is one row of pixels of it."""
    depth, height, width = sizes[SIZE], sizes[SIZE + 1], sizes[SIZE + 2]
    stops = depth + height + width  # where they begin among the covering windows
    for task in range(first, last):
        h, d, plane = task % height, task // height % depth, task // (height * depth)
        for w in range(width):
            to = (task * width + w) * channels
            for c in range(channels):
                put(dx, to + c, 0)
            for o in range(covering[d], covering[stops + d]):
                slice_tap = _tap(sizes, 0, d, o)
                for p in range(covering[depth + h], covering[stops + depth + h]):
                    row_tap = _tap(sizes, 1, h, p)
                    row = ((plane * sizes[OUTPUT] + o) * sizes[OUTPUT + 1] + p) * sizes[OUTPUT + 2]
                    number = (slice_tap * sizes[KERNEL + 1] + row_tap) * sizes[KERNEL + 2]
                    for q in range(covering[depth + height + w], covering[stops + depth + height + w]):
                        column_tap = _tap(sizes, 2, w, q)
                        if slice_tap < 0 or row_tap < 0 or column_tap < 0:
                            continue
                        source, wanted = (row + q) * channels, np.uint8(number + column_tap)
                        for c in range(channels):
                            share, wins = get(dy, source + c), get(taps, source + c) == wanted
                            put(dx, to + c, get(dx, to + c) + (share if wins else dx.dtype.type(0)))
