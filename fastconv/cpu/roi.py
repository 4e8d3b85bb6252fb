"""roi_align and roi_pool on the CPU: rows under a bin are summed first, all columns of the box at once, then columns.

A task is a region, or for gradients an image, and some of its channels: whoever writes an element writes all of it, in
the order of the regions. Images lie in memory as [planes, D, H, W, lanes], channels being the planes or the lanes.
"""

import numpy as np

from fastconv import boxes
from fastconv.cpu.jit import get, kernel, put
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.roi_samples import entries
from fastconv.cpu.threads import parallel_for

_CHANNELS = 16  # of a task, where they are planes: the entries of a region are found once for all of them
_LANES = 64  # of a task, where they are lanes
_SPEED = 0.5  # elements in a nanosecond of one thread, roughly
_LEAST = -float(np.finfo("float32").max)


def roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """y [K, C, *output_size]; see fastconv.backend."""
    image, starts, lengths, counts = _samples(rois, x.shape[0], output_size, spatial_scale, sampling_ratio, aligned)
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((image.size, x.shape[1], *output_size), xs.dtype, last)
    if y.size:
        geometry = _geometry(x.shape[1], x.shape[2:], output_size, last)
        work = _bin_size(lengths, counts, x.shape[2:], output_size) * y.size
        arguments = xs, ys, image, starts, lengths, counts, geometry
        parallel_for(align_regions, image.size * geometry[8], work / _SPEED, *arguments)
    return narrowed(y, x)


def roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned):
    """dx [batch, C, *size]; see fastconv.backend."""
    output = dy.shape[2:]
    image, starts, lengths, counts = _samples(rois, batch, output, spatial_scale, sampling_ratio, aligned)
    last = is_channels_last(dy)
    dys = dense(dy, last)
    dx, dxs = empty((batch, dy.shape[1], *size), dys.dtype, last)
    if dx.size:
        geometry = _geometry(dy.shape[1], size, output, last)
        work = _bin_size(lengths, counts, size, output) * dy.size + dx.size
        arguments = dys, dxs, image, starts, lengths, counts, geometry
        parallel_for(align_images, batch * geometry[8], work / _SPEED, *arguments)
    return narrowed(dx, dy)


def roi_pool_forward(x, rois, output_size, spatial_scale):
    """y and indices [K, C, *output_size]; see fastconv.backend."""
    size = x.shape[2:]
    found = boxes.cells(np, _native(rois), x.shape[0], size, output_size, spatial_scale)
    boxes.check_images("roi_pool", found.image, x.shape[0])
    last = is_channels_last(x)
    xs = dense(x, last)
    shape = (found.image.size, x.shape[1], *output_size)
    (y, ys), (indices, at) = empty(shape, xs.dtype, last), empty(shape, np.int64, last)
    if y.size:
        geometry = _geometry(x.shape[1], size, output_size, last)
        work = float((found.end - found.begin).clip(1).max(initial=1)) * y.size
        arguments = xs, ys, at, found.image, found.begin.reshape(-1), found.end.reshape(-1), geometry
        parallel_for(pool_regions, shape[0] * geometry[8], work / _SPEED, *arguments)
    with np.errstate(over="ignore"):
        return narrowed(y, x), indices


def roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale):
    """dx [batch, C, *size]; see fastconv.backend."""
    image = boxes.images(np, _native(rois), batch)
    boxes.check_images("roi_pool", image, batch)
    last = is_channels_last(dy)
    dys, at = dense(dy, last), _indices(indices, last)
    dx, dxs = empty((batch, dy.shape[1], *size), dys.dtype, last)
    if dx.size:
        geometry = _geometry(dy.shape[1], size, dy.shape[2:], last)
        work = dy.size + dx.size
        parallel_for(scatter_images, batch * geometry[8], work / _SPEED, dys, at, dxs, image, geometry)
    return narrowed(dx, dy)


def _indices(indices, last):
    """Indices [K, C, *output] as flat memory in a format."""
    return np.ascontiguousarray(np.moveaxis(indices, 1, -1) if last else indices, np.int64).reshape(-1)


def _native(rois):
    return rois if rois.dtype.isnative else rois.astype(rois.dtype.newbyteorder("="))


def _samples(rois, batch, output_size, spatial_scale, sampling_ratio, aligned):
    """Image, and flat start, length and count of the bins of each region and axis."""
    found = boxes.samples(np, _native(rois), batch, output_size, spatial_scale, sampling_ratio, aligned)
    boxes.check_images("roi_align", found.image, batch)
    counts = found.count.astype(np.int64)
    return found.image, flat(found.start), flat(found.bin), counts.reshape(-1)


def _geometry(channels, size, output_size, last):
    """(planes, lanes, D, H, W, O, P, Q, blocks of channels, channels of a block, missing axes) as an array."""
    missing = (1,) * (3 - len(size))
    block = _LANES if last else _CHANNELS
    planes, lanes = (1, channels) if last else (channels, 1)
    blocks = -(-channels // block)
    return np.array((planes, lanes, *missing, *size, *missing, *output_size, blocks, block, len(missing)), np.int64)


def _bin_size(lengths, counts, size, output_size):
    """About how many elements a bin reads."""
    samples = counts.reshape(-1, 3).astype(float).clip(0, max(size)).prod(axis=1)
    return float(samples.mean()) + 1 if samples.size else 1.0


@kernel
def align_regions(first, last, x, y, image, starts, lengths, counts, geometry):
    """y [K, planes, O, P, Q, lanes] from x [N, planes, D, H, W, lanes]. A task is a region and a block of channels."""
    height, width, lanes = geometry[3], geometry[4], geometry[1]
    plane_size, result_size = geometry[2] * height * width * lanes, geometry[5] * geometry[6] * geometry[7] * lanes
    for task in range(first, last):
        region = task // geometry[8]
        first_plane, last_plane, first_lane, many = channels_of(task % geometry[8], geometry)
        begins, positions, shares = entries(starts, lengths, counts, region, geometry[2:5], geometry[5:8], geometry[10])
        number = samples_of(counts, region, x.dtype.type(1))
        low, high = column_range(begins, positions, geometry)
        columns = np.empty(max(high - low, 0) * many, x.dtype)
        for plane in range(first_plane, last_plane):
            source = (image[region] * geometry[0] + plane) * plane_size + low * lanes + first_lane
            target = (region * geometry[0] + plane) * result_size + first_lane
            for row in range(geometry[5] * geometry[6]):
                o, p = row // geometry[6], geometry[5] + row % geometry[6]
                clear(columns, 0, 1, 0, columns.size)
                for a in range(begins[o], begins[o + 1]):
                    for e in range(begins[p], begins[p + 1]):
                        at = source + (positions[a] * height + positions[e]) * width * lanes
                        add_row(columns, 0, many, x, at, lanes, shares[a] * shares[e], high - low, many)
                for q in range(geometry[7]):
                    b = geometry[5] + geometry[6] + q
                    at = target + (row * geometry[7] + q) * lanes
                    sum_columns(columns, y, at, many, begins[b], begins[b + 1], positions, shares, low, number)


@kernel
def align_images(first, last, dy, dx, image, starts, lengths, counts, geometry):
    """dx [N, planes, D, H, W, lanes] from dy [K, planes, O, P, Q, lanes]. A task: an image and a block of channels."""
    height, width, lanes = geometry[3], geometry[4], geometry[1]
    plane_size, result_size = geometry[2] * height * width * lanes, geometry[5] * geometry[6] * geometry[7] * lanes
    for task in range(first, last):
        n = task // geometry[8]
        first_plane, last_plane, first_lane, many = channels_of(task % geometry[8], geometry)
        for plane in range(first_plane, last_plane):
            clear(dx, (n * geometry[0] + plane) * plane_size + first_lane, plane_size // lanes, lanes, many)
        for region in range(image.size):
            if image[region] != n:
                continue
            begins, positions, shares = entries(
                starts, lengths, counts, region, geometry[2:5], geometry[5:8], geometry[10]
            )
            number = samples_of(counts, region, dx.dtype.type(1))
            low, high = column_range(begins, positions, geometry)
            columns = np.empty(max(high - low, 0) * many, dx.dtype)
            for plane in range(first_plane, last_plane):
                target = (n * geometry[0] + plane) * plane_size + low * lanes + first_lane
                source = (region * geometry[0] + plane) * result_size + first_lane
                for row in range(geometry[5] * geometry[6]):
                    o, p = row // geometry[6], geometry[5] + row % geometry[6]
                    clear(columns, 0, 1, 0, columns.size)
                    for q in range(geometry[7]):
                        b = geometry[5] + geometry[6] + q
                        at = source + (row * geometry[7] + q) * lanes
                        for e in range(begins[b], begins[b + 1]):
                            add_row(
                                columns, (positions[e] - low) * many, many, dy, at, lanes, shares[e] / number, 1, many
                            )
                    for a in range(begins[o], begins[o + 1]):
                        for e in range(begins[p], begins[p + 1]):
                            at = target + (positions[a] * height + positions[e]) * width * lanes
                            add_row(dx, at, lanes, columns, 0, many, shares[a] * shares[e], high - low, many)


@kernel
def channels_of(block, geometry):
    """(first plane, last plane, first lane, lanes) of a block of channels."""
    start, stop = block * geometry[9], (block + 1) * geometry[9]
    if geometry[0] == 1 and geometry[1] > 1:
        return 0, 1, start, min(stop, geometry[1]) - start
    return start, min(stop, geometry[0]), 0, 1


@kernel
def samples_of(counts, region, one):
    """How many samples a bin has, at least 1."""
    number = type(one)(counts[3 * region]) * type(one)(counts[3 * region + 1]) * type(one)(counts[3 * region + 2])
    return max(number, one)


@kernel
def column_range(begins, positions, geometry):
    """The columns [low, high) that a region reads; (0, 0) if there are none."""
    low, high = geometry[4], 0
    for e in range(begins[geometry[5] + geometry[6]], positions.size):
        low, high = min(low, positions[e]), max(high, positions[e] + 1)
    return min(low, high), high


@kernel
def clear(memory, at, rows, stride, many):
    """Zeros for so many elements in each of the rows."""
    for row in range(rows):
        for c in range(many):
            put(memory, at + row * stride + c, 0)


@kernel
def add_row(target, at, step, source, start, stride, share, width, many):
    """target += share * source, of so many columns and lanes that lie at a step and a stride from each other."""
    if many == step and many == stride:
        for i in range(width * many):
            put(target, at + i, get(target, at + i) + share * get(source, start + i))
    else:
        for w in range(width):
            for c in range(many):
                i, j = at + w * step + c, start + w * stride + c
                put(target, i, get(target, i) + share * get(source, j))


@kernel
def sum_columns(columns, y, at, many, start, stop, positions, shares, low, number):
    """y of one bin, some lanes, from its columns."""
    if many == 1:
        total = columns.dtype.type(0)
        for e in range(start, stop):
            total += get(shares, e) * get(columns, get(positions, e) - low)
        put(y, at, total / number)
        return
    clear(y, at, 1, 0, many)
    for e in range(start, stop):
        add_row(y, at, many, columns, (positions[e] - low) * many, many, shares[e] / number, 1, many)


@kernel
def pool_regions(first, last, x, y, indices, image, begins, ends, geometry):
    """y and indices [K, planes, O, P, Q, lanes] from x. A task is a region and a block of channels."""
    height, width, lanes = geometry[3], geometry[4], geometry[1]
    depths, rows, columns = geometry[5], geometry[6], geometry[7]
    plane_size, results = geometry[2] * height * width * lanes, depths * rows * columns
    least = x.dtype.type(_LEAST)
    for task in range(first, last):
        region = task // geometry[8]
        first_plane, last_plane, first_lane, many = channels_of(task % geometry[8], geometry)
        base = region * (depths + rows + columns)
        for plane in range(first_plane, last_plane):
            source = (image[region] * geometry[0] + plane) * plane_size + first_lane
            for result in range(results):
                o, p = base + result // (rows * columns), base + depths + result // columns % rows
                q = base + depths + rows + result % columns
                at = ((region * geometry[0] + plane) * results + result) * lanes + first_lane
                empty_cell = begins[o] >= ends[o] or begins[p] >= ends[p] or begins[q] >= ends[q]
                for c in range(many):
                    put(indices, at + c, -1)
                    put(y, at + c, x.dtype.type(0) if empty_cell else least)
                for d in range(begins[o], ends[o]):
                    for h in range(begins[p], ends[p]):
                        for w in range(begins[q], ends[q]):
                            i = (d * height + h) * width + w
                            for c in range(many):
                                value = get(x, source + i * lanes + c)
                                if value > get(y, at + c):
                                    put(y, at + c, value)
                                    put(indices, at + c, i)


@kernel
def scatter_images(first, last, dy, indices, dx, image, geometry):
    """dx [N, planes, D, H, W, lanes] from dy and indices [K, planes, O, P, Q, lanes]. A task as of align_images."""
    lanes = geometry[1]
    plane_size = geometry[2] * geometry[3] * geometry[4] * lanes
    results = geometry[5] * geometry[6] * geometry[7]
    for task in range(first, last):
        n = task // geometry[8]
        first_plane, last_plane, first_lane, many = channels_of(task % geometry[8], geometry)
        for plane in range(first_plane, last_plane):
            target = (n * geometry[0] + plane) * plane_size + first_lane
            clear(dx, target, plane_size // lanes, lanes, many)
            for region in range(image.size):
                if image[region] == n:
                    for result in range(results):
                        at = ((region * geometry[0] + plane) * results + result) * lanes + first_lane
                        for c in range(many):
                            i = get(indices, at + c)
                            if i >= 0:
                                put(dx, target + i * lanes + c, get(dx, target + i * lanes + c) + get(dy, at + c))
