"""Winograd convolution in blocks of tiles: what a block is transformed to and multiplied with stays in the L2 cache.

    v[point, tile, channel]   the inputs of a block of tiles of one plane, transformed
    m[point, tile, filter]    their products with some panels of filters, summed over channels and depth taps

Both memory formats go through a strip: the pixels of a run of tiles, a vector of channels at a time, in L1. It is there
that channels-first memory is transposed, and padding and channels that are not there are filled in.
"""

from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.conv_winograd_transforms import (
    INPUTS,
    OUTPUTS,
    POINTS,
    TAPS,
    clear_lanes,
    copy_lanes,
    fetch_to_read,
    fetch_to_write,
    filter_tile,
    input_tile,
    output_tile,
    pixels_from_planes,
    planes_from_pixels,
    vector_lanes,
)
from fastconv.cpu.jit import aligned_start, inline, kernel
from fastconv.cpu.microkernel import LOW_ROWS, ROWS, gemm_tile_ahead, gemm_tile_low, tile_width

_AHEAD, _FILTERS_AHEAD = 3, 8  # tiles, and channels, for which memory is fetched before it is needed
RUN = 14  # tiles of a strip, which is then 22 KB in float32


class Tiling(NamedTuple):
    """Output planes in tiles, numbered through the batch; a block is some tiles in one plane and group."""

    batch: int
    groups: int
    channels: int  # read, in one group
    filters: int  # written, in one group
    size: tuple  # input positions
    output: tuple  # output positions
    before: tuple  # padding before the first position of each axis
    taps: int  # along depth
    rows: int  # tiles down a plane
    columns: int  # tiles across a plane
    first: int  # tile of a pass
    tiles: int  # of a pass, in each plane
    block: int  # tiles of a block, a multiple of ROWS
    panels: int  # of filters that are multiplied before results go out
    planes: int  # consecutive output planes of a task
    depth: int  # channels that are multiplied at a time where filters are transformed as they are needed


@kernel
def transform_filters(first, last, w, u, strides, tiling, flipped):
    """u[group, panel, depth tap, point, channel, lane] of w; a task is one panel and depth tap of one group.

    strides: Elements of w from one group, filter, channel to the next. flipped: Take all taps in reverse.
    """
    lanes, columns = vector_lanes(w), tile_width(w)
    channels, filters, taps = tiling.channels, tiling.filters, tiling.taps
    panels = ceil_div(filters, columns)
    square = np.empty((TAPS * TAPS + lanes) * lanes + 64, w.dtype)
    square_at = aligned_start(square)
    step = filter_step(tiling, columns)
    for task in range(first, last):
        tap = task % taps
        panel = task // taps % panels
        group = task // (taps * panels)
        place = (taps - 1 - tap if flipped else tap) * TAPS * TAPS
        for lane in range(0, columns, lanes):
            f0 = panel * columns + lane
            used = max(1, min(lanes, filters - f0))
            source = group * strides[0] + min(f0, filters - 1) * strides[1] + place
            for c in range(channels):
                transform_filter(w, source + c * strides[2], strides[1], used, flipped, square, square_at,
                                 u, task * POINTS * step + c * columns + lane, step)  # fmt: skip


@inline
def transform_filter(w, at, stride, used, flipped, square, square_at, u, u_at, step):
    """A vector of filters of one channel and depth tap."""
    lanes = vector_lanes(w)
    for t in range(0, TAPS * TAPS, lanes):
        pixels_from_planes(w, at + t, stride, used, min(lanes, TAPS * TAPS - t), square, square_at + t * lanes)
    if flipped:
        filter_tile(square, square_at + (TAPS * TAPS - 1) * lanes, -lanes, u, u_at, step)
    else:
        filter_tile(square, square_at, lanes, u, u_at, step)


@kernel
def transform_inputs(x, strip, strip_at, v, v_at, row, step, tiling, group, c_first, c_last, plane, tile, tiles,
                     channels_last):  # fmt: skip
    """v[v_at + point * step + i * row + c - c_first] for `tiles` tiles from `tile` on of one plane of x."""
    lanes = vector_lanes(x)
    channels = tiling.channels
    depth, height, width = tiling.size
    per_image = tiling.rows * tiling.columns
    positions = depth * height * width
    pitch = (OUTPUTS * RUN + INPUTS - OUTPUTS + lanes) * lanes
    pixel, channel = (tiling.groups * channels, 1) if channels_last else (1, positions)
    apart = positions % 1024 == 0  # lines of all channels share a cache set and are gone before they are read again
    i = 0
    while i < tiles:
        image, place = (tile + i) // per_image, (tile + i) % per_image
        count = min(RUN, tiling.columns - place % tiling.columns, tiles - i)
        top = place // tiling.columns * OUTPUTS - tiling.before[1]
        left = place % tiling.columns * OUTPUTS - tiling.before[2]
        image_at = (image * tiling.groups + group) * channels * positions
        if channels_last:
            image_at = image * positions * pixel + group * channels
        near, far = 0, 0  # tiles between are read in place
        if channels_last and (c_last - c_first) % lanes == 0 and top >= 0 and top + INPUTS <= height:
            near = 1 if left < 0 else 0
            far = max(near, min(count, (width - left - INPUTS) // OUTPUTS + 1))
            for k in range(near, far):
                source = image_at + ((plane * height + top) * width + left + k * OUTPUTS) * pixel
                for c in range(c_first, c_last, lanes):
                    for r in range(INPUTS - OUTPUTS, INPUTS):
                        for p in range(_AHEAD * OUTPUTS, (_AHEAD + 1) * OUTPUTS):
                            fetch_to_read(x, source + c + (r * width + p) * pixel)
                    input_tile(x, source + c, width * pixel, pixel, v, v_at + (i + k) * row + c - c_first, step)
        for side in range(2):
            begin, end = (0, near) if side == 0 else (far, count)
            if begin == end:
                continue
            start = left + begin * OUTPUTS
            across = OUTPUTS * (end - begin) + INPUTS - OUTPUTS
            low, high = max(0, -start), min(across, width - start)
            for c in range(c_first, c_last, lanes):
                used = min(lanes, channels - c)
                for r in range(INPUTS):
                    at = strip_at + r * pitch
                    if top + r < 0 or top + r >= height:
                        for p in range(across):
                            clear_lanes(strip, at + p * lanes)
                        continue
                    source = image_at + c * channel + ((plane * height + top + r) * width + start) * pixel
                    for p in range(low):
                        clear_lanes(strip, at + p * lanes)
                    if channels_last:
                        for p in range(low, high):
                            copy_lanes(x, source + p * pixel, strip, at + p * lanes, used, True)
                    else:
                        p = low
                        while p < high:
                            wide = min(high - p, lanes - (source + p) % lanes if apart else lanes)
                            pixels_from_planes(x, source + p, channel, used, wide, strip, at + p * lanes)
                            p += wide
                    for p in range(high, across):
                        clear_lanes(strip, at + p * lanes)
                target = v_at + (i + begin) * row + c - c_first
                for k in range(end - begin):
                    input_tile(strip, strip_at + k * OUTPUTS * lanes, pitch, lanes, v, target + k * row, step)
        i += count


@kernel
def transform_results(m, m_at, row, step, bias, least, strip, strip_at, y, bad, tiling, group, f0, filters, plane,
                      tile, tiles, channels_last):  # fmt: skip
    """Put out `filters` filters from f0 on of `tiles` tiles; note in `bad` the images with a sum that is not finite."""
    lanes = vector_lanes(m)
    depth, height, width = tiling.output
    per_image = tiling.rows * tiling.columns
    positions = depth * height * width
    all_filters = tiling.groups * tiling.filters
    pitch = (OUTPUTS * RUN + lanes) * lanes
    i = 0
    while i < tiles:
        image, place = (tile + i) // per_image, (tile + i) % per_image
        count = min(RUN, tiling.columns - place % tiling.columns, tiles - i)
        top = place // tiling.columns * OUTPUTS
        left = place % tiling.columns * OUTPUTS
        far = 0  # tiles before are written in place
        if channels_last and filters % lanes == 0 and top + OUTPUTS <= height:
            far = min(count, (width - left) // OUTPUTS)
            for k in range(far):
                position = image * positions + (plane * height + top) * width + left + k * OUTPUTS
                target = position * all_filters + group * tiling.filters + f0
                for f in range(0, filters, lanes):
                    for r in range(OUTPUTS):
                        for p in range(_AHEAD * OUTPUTS, (_AHEAD + 1) * OUTPUTS):
                            fetch_to_write(y, target + f + (r * width + p) * all_filters)
                    finite = output_tile(m, m_at + (i + k) * row + f, step, bias, group * tiling.filters + f0 + f,
                                         least, y, target + f, width * all_filters, all_filters)  # fmt: skip
                    if not finite:
                        bad[image] = 1
        across = min(OUTPUTS * count, width - left) - far * OUTPUTS
        for f in range(0, filters if far < count else 0, lanes):
            channel = group * tiling.filters + f0 + f
            used = min(lanes, filters - f)
            for k in range(far, count):
                finite = output_tile(m, m_at + (i + k) * row + f, step, bias, channel, least,
                                     strip, strip_at + (k - far) * OUTPUTS * lanes, pitch, lanes)  # fmt: skip
                if not finite:
                    bad[image] = 1
            for r in range(min(OUTPUTS, height - top)):
                at = strip_at + r * pitch
                position = (plane * height + top + r) * width + left + far * OUTPUTS
                if channels_last:
                    target = (image * positions + position) * all_filters + channel
                    for p in range(across):
                        copy_lanes(strip, at + p * lanes, y, target + p * all_filters, used, False)
                else:
                    target = (image * all_filters + channel) * positions + position
                    p = 0
                    while p < across:  # no line is written in two pieces that could be avoided
                        wide = min(across - p, lanes - (target + p) % lanes)
                        planes_from_pixels(strip, at + p * lanes, y, target + p, positions, used, wide)
                        p += wide
        i += count


@kernel
def multiply_points(
    v, v_at, v_row, v_step, tiles, channels, u, u_at, u_step, u_panel, m, m_at, m_row, m_step, panels, add
):
    """m (+)= v * u at every point, for a number of tiles and panels of filters."""
    columns = tile_width(v)
    for p in range(panels):
        for e in range(POINTS):
            filters_at = u_at + p * u_panel + e * u_step
            i = 0
            while i < tiles:
                at, to = v_at + e * v_step + i * v_row, m_at + e * m_step + i * m_row + p * columns
                low = tiles - i <= LOW_ROWS or ROWS < tiles - i <= 2 * LOW_ROWS
                i += LOW_ROWS if low else ROWS
                ahead = v_at + (e * v_step + i * v_row if i < tiles else (e + 1) % POINTS * v_step)
                if low:
                    gemm_tile_low(channels, v, at, v_row, 1, u, filters_at, columns, m, to, m_row, add, ahead)
                else:
                    gemm_tile_ahead(channels, v, at, v_row, 1, u, filters_at, columns, m, to, m_row, add, ahead)


@kernel
def convolve_blocks(first, last, x, u, bias, least, y, bad, tiling, channels_last):
    """y from x and the transformed filters; a task is a block of tiles in some planes of one group."""
    lanes, columns = vector_lanes(x), tile_width(x)
    taps, block = tiling.taps, tiling.block
    depth, planes = tiling.size[0], tiling.output[0]
    all_tiles = tiling.tiles
    blocks, cuts = ceil_div(all_tiles, block), ceil_div(planes, tiling.planes)
    v_row, v_step = row_and_step(block, ceil_div(tiling.channels, lanes) * lanes, lanes)
    m_row, m_step = row_and_step(block, tiling.panels * columns, lanes)
    panels = ceil_div(tiling.filters, columns)
    u_step = filter_step(tiling, columns)
    u_tap = POINTS * u_step
    strip = np.empty(INPUTS * (OUTPUTS * RUN + INPUTS - OUTPUTS + lanes) * lanes + 64, x.dtype)
    v = np.zeros(taps * POINTS * v_step + 64, x.dtype)  # rows beyond the last tile are multiplied as well
    m = np.empty(POINTS * m_step + 64, x.dtype)
    strip_at, v_at, m_at = aligned_start(strip), aligned_start(v), aligned_start(m)
    for task in range(first, last):
        tile = task % blocks * block
        start = task // blocks % cuts * tiling.planes
        group = task // (blocks * cuts)
        tiles = min(block, all_tiles - tile)
        ready = max(0, start - tiling.before[0])  # the first plane of x that is not yet transformed
        for plane in range(start, min(planes, start + tiling.planes)):
            front = plane - tiling.before[0]
            for z in range(ready, min(depth, front + taps)):
                transform_inputs(x, strip, strip_at, v, v_at + z % taps * POINTS * v_step, v_row, v_step, tiling, group,
                                 0, tiling.channels, z, tile, tiles, channels_last)  # fmt: skip
            ready = max(ready, min(depth, front + taps))
            for p in range(0, panels, tiling.panels):
                count = min(tiling.panels, panels - p)
                add = False
                for tap in range(max(0, -front), min(taps, depth - front)):
                    at = ((group * panels + p) * taps + tap) * u_tap
                    slot = v_at + (front + tap) % taps * POINTS * v_step
                    multiply_points(v, slot, v_row, v_step, tiles, tiling.channels, u, at, u_step, taps * u_tap,
                                    m, m_at, m_row, m_step, count, add)  # fmt: skip
                    add = True
                f0 = p * columns
                filters = min(count * columns, tiling.filters - f0)
                transform_results(m, m_at, m_row, m_step, bias, least, strip, strip_at, y, bad, tiling, group,
                                  f0, filters, plane, tile, tiles, channels_last)  # fmt: skip


@kernel
def transform_all_inputs(first, last, x, v, tiling, channels_last):
    """v[group, slice of channels, point, plane and tile, channel]; a task is some tiles of a plane and slice."""
    lanes = vector_lanes(x)
    depth, tiles = tiling.size[0], tiling.tiles
    slices, blocks = ceil_div(tiling.channels, tiling.depth), ceil_div(tiles, 2 * RUN)
    row, step = row_and_step(depth * tiles + ROWS, tiling.depth, lanes)
    strip = np.empty(INPUTS * (OUTPUTS * RUN + INPUTS - OUTPUTS + lanes) * lanes + 64, x.dtype)
    strip_at = aligned_start(strip)
    for task in range(first, last):
        tile = task % blocks * 2 * RUN
        plane = task // blocks % depth
        part = task // (blocks * depth)
        c = part % slices * tiling.depth
        at = part * POINTS * step
        transform_inputs(x, strip, strip_at, v, at + (plane * tiles + tile) * row, row, step, tiling, part // slices,
                         c, min(tiling.channels, c + tiling.depth), plane, tiling.first + tile,
                         min(2 * RUN, tiles - tile), channels_last)  # fmt: skip
        if (
            plane == 0 and tile == 0
        ):  # a product may go beyond the last row, and what it meets is added to rows that count
            for e in range(POINTS):
                for i in range(depth * tiles * row, step):
                    v[at + e * step + i] = 0


@kernel
def convolve_filters(first, last, v, w, strides, flipped, bias, least, y, bad, tiling, channels_last):
    """y from all transformed inputs; a task is some panels of filters and a block of tiles or planes of one group."""
    lanes, columns = vector_lanes(v), tile_width(v)
    taps, channels, filters = tiling.taps, tiling.channels, tiling.filters
    planes, tiles = tiling.output[0], tiling.tiles
    slices, blocks = ceil_div(channels, tiling.depth), ceil_div(tiles, tiling.block)
    cuts, parts = ceil_div(planes, tiling.planes), ceil_div(filters, tiling.panels * columns)
    v_row, v_step = row_and_step(tiling.size[0] * tiles + ROWS, tiling.depth, lanes)
    m_row, m_step = row_and_step(tiling.planes * tiling.block + ROWS, tiling.panels * columns, lanes)
    u_step = (tiling.depth + 1) * columns
    strip = np.empty((OUTPUTS * (OUTPUTS * RUN + lanes) + TAPS * TAPS + lanes) * lanes + 64, v.dtype)
    u = np.empty(tiling.panels * POINTS * u_step + 64, v.dtype)
    m = np.empty(POINTS * m_step + 64, v.dtype)
    strip_at, u_at, m_at = aligned_start(strip), aligned_start(u), aligned_start(m)
    for task in range(first, last):
        tile = task % blocks * tiling.block
        start = task // blocks % cuts * tiling.planes
        part = task // (blocks * cuts)
        group = part // parts
        f0 = part % parts * tiling.panels * columns
        count = min(tiling.panels, ceil_div(filters - f0, columns))
        wide = min(tiling.block, tiles - tile)
        stop = min(planes, start + tiling.planes)
        m[:] = 0
        for c in range(0, channels, tiling.depth):
            depth = min(tiling.depth, channels - c)
            slice_at = (group * slices + c // tiling.depth) * POINTS * v_step
            for tap in range(taps):
                shift = tap - tiling.before[0]
                low, high = max(start, -shift), min(stop, tiling.size[0] - shift)
                if low >= high:
                    continue
                place = (taps - 1 - tap if flipped else tap) * TAPS * TAPS
                for f in range(f0, min(filters, f0 + count * columns), lanes):
                    used = min(lanes, filters - f)
                    source = group * strides[0] + f * strides[1] + c * strides[2] + place
                    panel, lane = (f - f0) // columns, (f - f0) % columns
                    target = u_at + panel * POINTS * u_step + lane
                    for k in range(depth):
                        for i in range(lanes):
                            fetch_to_read(w, source + (k + _FILTERS_AHEAD) * strides[2] + i * strides[1])
                        transform_filter(w, source + k * strides[2], strides[1], used, flipped, strip, strip_at,
                                         u, target + k * columns, u_step)  # fmt: skip
                multiply_points(v, slice_at + ((low + shift) * tiles + tile) * v_row, v_row, v_step,
                                (high - low - 1) * tiles + wide, depth, u, u_at, u_step, POINTS * u_step,
                                m, m_at + (low - start) * tiles * m_row, m_row, m_step, count, True)  # fmt: skip
        wanted = min(count * columns, filters - f0)
        for plane in range(start, stop):
            transform_results(m, m_at + (plane - start) * tiles * m_row, m_row, m_step, bias, least, strip, strip_at,
                              y, bad, tiling, group, f0, wanted, plane, tiling.first + tile, wide,
                              channels_last)  # fmt: skip


@inline
def row_and_step(rows, length, lanes):
    """Elements of rows of `length`, and from one point to the next, such that points do not share cache sets."""
    row = length + (lanes if length % 256 == 0 else 0)
    step = rows * row
    return row, step + (lanes if step // lanes % 2 == 0 else 0)


@inline
def filter_step(tiling, columns):
    """Elements of a panel of transformed filters from one point to the next, which must not share cache sets either."""
    return (tiling.channels + 1) * columns
