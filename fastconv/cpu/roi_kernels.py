"""Kernels of roi_align and roi_pool: rows under a bin are summed first, all columns of the box at once, then columns.

A task is a region, or for gradients an image, and a block of channels: whoever writes an element writes all of it, in
the order of the regions. Images lie in memory as [planes, D, H, W, lanes], channels being the planes or the lanes.
Loops run over channels, which lie next to each other: of lanes they do, of planes a task first brings those under its
box together, or for gradients takes them apart in the end. geometry is (planes, lanes, D, H, W, O, P, Q, blocks of
channels, channels of a block, missing axes).
"""

import numpy as np

from fastconv.cpu.jit import get, kernel, put
from fastconv.cpu.roi_samples import entries

_LEAST = -float(np.finfo("float32").max)


@kernel
def align_regions(first, last, x, y, image, starts, lengths, counts, geometry):
    """y [K, planes, O, P, Q, lanes] from x [N, planes, D, H, W, lanes]. A task is a region and a block of channels."""
    results = geometry[5] * geometry[6] * geometry[7]
    for task in range(first, last):
        region = task // geometry[8]
        channel, many = channels_of(task, geometry)
        begins, positions, shares = entries(starts, lengths, counts, region, geometry[2:5], geometry[5:8], geometry[10])
        number = samples_of(counts, region, x.dtype.type(1))
        box = extent(begins, positions, geometry)
        source, base, depth_step, row_step, stride = window(x, image[region], channel, many, box, geometry)
        columns, result = np.empty((box[5] - box[4]) * many, x.dtype), np.empty(many, x.dtype)
        for row in range(geometry[5] * geometry[6]):
            o, p = row // geometry[6], geometry[5] + row % geometry[6]
            clear(columns)
            for a in range(begins[o], begins[o + 1]):
                for e in range(begins[p], begins[p + 1]):
                    at = base + positions[a] * depth_step + positions[e] * row_step
                    add_row(columns, 0, many, source, at, stride, shares[a] * shares[e], box[5] - box[4], many)
            for q in range(geometry[7]):
                b = geometry[5] + geometry[6] + q
                clear(result)
                for e in range(begins[b], begins[b + 1]):
                    add_row(result, 0, many, columns, (positions[e] - box[4]) * many, many, shares[e], 1, many)
                at, step = result_at(region, row * geometry[7] + q, channel, results, geometry)
                for c in range(many):
                    put(y, at + c * step, get(result, c) / number)


@kernel
def align_images(first, last, dy, dx, image, starts, lengths, counts, geometry):
    """dx [N, planes, D, H, W, lanes] from dy [K, planes, O, P, Q, lanes]. A task: an image and a block of channels."""
    results = geometry[5] * geometry[6] * geometry[7]
    size = geometry[2] * geometry[3] * geometry[4]
    for task in range(first, last):
        n = task // geometry[8]
        channel, many = channels_of(task, geometry)
        apart = geometry[1] == 1
        held = np.zeros(size * many if apart else 0, dx.dtype)
        target, base, stride = (held, 0, many) if apart else (dx, n * size * geometry[1] + channel, geometry[1])
        if not apart:
            for i in range(size):
                for c in range(many):
                    put(dx, base + i * stride + c, 0)
        error = np.empty(many, dx.dtype)
        for region in range(image.size):
            if image[region] != n:
                continue
            begins, positions, shares = entries(
                starts, lengths, counts, region, geometry[2:5], geometry[5:8], geometry[10]
            )
            number = samples_of(counts, region, dx.dtype.type(1))
            box = extent(begins, positions, geometry)
            columns = np.empty((box[5] - box[4]) * many, dx.dtype)
            for row in range(geometry[5] * geometry[6]):
                o, p = row // geometry[6], geometry[5] + row % geometry[6]
                clear(columns)
                for q in range(geometry[7]):
                    at, step = result_at(region, row * geometry[7] + q, channel, results, geometry)
                    for c in range(many):
                        put(error, c, get(dy, at + c * step) / number)
                    b = geometry[5] + geometry[6] + q
                    for e in range(begins[b], begins[b + 1]):
                        add_row(columns, (positions[e] - box[4]) * many, many, error, 0, many, shares[e], 1, many)
                for a in range(begins[o], begins[o + 1]):
                    for e in range(begins[p], begins[p + 1]):
                        at = (positions[a] * geometry[3] + positions[e]) * geometry[4] + box[4]
                        share = shares[a] * shares[e]
                        add_row(target, base + at * stride, stride, columns, 0, many, share, box[5] - box[4], many)
        if apart:
            for c in range(many):
                at = (n * geometry[0] + channel + c) * size
                for i in range(size):
                    put(dx, at + i, get(held, i * many + c))


@kernel
def pool_regions(first, last, x, y, indices, image, begins, ends, geometry):
    """y and indices [K, planes, O, P, Q, lanes] from x. A task is a region and a block of channels."""
    depths, rows, columns = geometry[5], geometry[6], geometry[7]
    results = depths * rows * columns
    zero = x.dtype.type(0)
    for task in range(first, last):
        region = task // geometry[8]
        channel, many = channels_of(task, geometry)
        o = region * (depths + rows + columns)
        p, q = o + depths, o + depths + rows
        box = (begins[o], ends[o + depths - 1], begins[p], ends[p + rows - 1], begins[q], ends[q + columns - 1])
        box = (box[0], max(box[0], box[1]), box[2], max(box[2], box[3]), box[4], max(box[4], box[5]))
        source, base, depth_step, row_step, stride = window(x, image[region], channel, many, box, geometry)
        largest, where = np.empty(many, x.dtype), np.empty(many, np.int64)
        for result in range(results):
            a, b, e = o + result // (rows * columns), p + result // columns % rows, q + result % columns
            empty = begins[a] >= ends[a] or begins[b] >= ends[b] or begins[e] >= ends[e]
            for c in range(many):
                put(largest, c, zero if empty else x.dtype.type(_LEAST))
                put(where, c, -1)
            for d in range(begins[a], ends[a]):
                for h in range(begins[b], ends[b]):
                    for w in range(begins[e], ends[e]):
                        at = base + d * depth_step + h * row_step + (w - box[4]) * stride
                        i = (d * geometry[3] + h) * geometry[4] + w
                        for c in range(many):
                            value = get(source, at + c)
                            if value > get(largest, c):
                                put(largest, c, value)
                                put(where, c, i)
            at, step = result_at(region, result, channel, results, geometry)
            for c in range(many):
                put(y, at + c * step, get(largest, c))
                put(indices, at + c * step, get(where, c))


@kernel
def scatter_images(first, last, dy, indices, dx, image, geometry):
    """dx [N, planes, D, H, W, lanes] from dy and indices [K, planes, O, P, Q, lanes]. A task as of align_images."""
    results = geometry[5] * geometry[6] * geometry[7]
    size = geometry[2] * geometry[3] * geometry[4]
    for task in range(first, last):
        n = task // geometry[8]
        channel, many = channels_of(task, geometry)
        apart = geometry[1] == 1
        base = (n * geometry[0] + channel) * size if apart else n * size * geometry[1] + channel
        channel_step, stride = (size, 1) if apart else (1, geometry[1])
        for i in range(size):
            for c in range(many):
                put(dx, base + i * stride + c * channel_step, 0)
        for region in range(image.size):
            if image[region] != n:
                continue
            for result in range(results):
                at, step = result_at(region, result, channel, results, geometry)
                for c in range(many):
                    i = get(indices, at + c * step)
                    if i >= 0:
                        to = base + i * stride + c * channel_step
                        put(dx, to, get(dx, to) + get(dy, at + c * step))


@kernel
def channels_of(task, geometry):
    """The first channel of a task, and how many it has."""
    channel = task % geometry[8] * geometry[9]
    return channel, min(geometry[9], geometry[0] * geometry[1] - channel)


@kernel
def result_at(region, bin, channel, results, geometry):
    """Where a bin's output of a channel lies, and the step to that of the next channel."""
    if geometry[1] == 1:
        return (region * geometry[0] + channel) * results + bin, results
    return (region * results + bin) * geometry[1] + channel, 1


@kernel
def samples_of(counts, region, one):
    """How many samples a bin has, at least 1."""
    number = type(one)(counts[3 * region]) * type(one)(counts[3 * region + 1]) * type(one)(counts[3 * region + 2])
    return max(number, one)


@kernel
def extent(begins, positions, geometry):
    """Positions that a region reads: [0, 1) of the depth, [2, 3) of the height and [4, 5) of the width."""
    d = _range(positions, begins[0], begins[geometry[5]])
    h = _range(positions, begins[geometry[5]], begins[geometry[5] + geometry[6]])
    w = _range(positions, begins[geometry[5] + geometry[6]], positions.size)
    return d[0], d[1], h[0], h[1], w[0], w[1]


@kernel
def _range(positions, first, last):
    if first == last:
        return np.int64(0), np.int64(0)
    low = high = positions[first]
    for e in range(first, last):
        low, high = min(low, positions[e]), max(high, positions[e])
    return low, high + 1


@kernel
def window(x, n, channel, many, box, geometry):
    """(memory, base, step of depths, step of rows, step of columns) of some channels of image n, neighbours in memory.

    Row (d, h) begins at base + d * step + h * step, with the first column of the box.
    """
    depth, height, width = box[1] - box[0], box[3] - box[2], box[5] - box[4]
    size = geometry[2] * geometry[3] * geometry[4]
    if geometry[1] > 1:
        row = geometry[4] * geometry[1]
        return x, (n * size + box[4]) * geometry[1] + channel, geometry[3] * row, row, geometry[1]
    memory = np.empty(depth * height * width * many, x.dtype)
    for c in range(many):
        plane = (n * geometry[0] + channel + c) * size
        for d in range(depth):
            for h in range(height):
                at = plane + ((box[0] + d) * geometry[3] + box[2] + h) * geometry[4] + box[4]
                to = (d * height + h) * width * many + c
                for w in range(width):
                    put(memory, to + w * many, get(x, at + w))
    row = width * many
    return memory, -(box[0] * height + box[2]) * row, height * row, row, many


@kernel
def clear(memory):
    """Zeros."""
    for i in range(memory.size):
        put(memory, i, 0)


@kernel
def add_row(target, at, step, source, start, stride, share, width, many):
    """target += share * source, of so many columns and channels; columns lie at a step and a stride from each other."""
    if many == step and many == stride:
        for i in range(width * many):
            put(target, at + i, get(target, at + i) + share * get(source, start + i))
    else:
        for w in range(width):
            for c in range(many):
                i, j = at + w * step + c, start + w * stride + c
                put(target, i, get(target, i) + share * get(source, j))
