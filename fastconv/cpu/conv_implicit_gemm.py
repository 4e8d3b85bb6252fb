"""Convolution as an implicit GEMM: filters x depth times depth x pixels, in blocks that stay in the L2 cache.

For every block of pixels and filters the patches are packed a slice of depth at a time and multiplied by the
packed filters; sums rest in a scratch block until the last slice, then go out with the bias. Channels first
has pixels in the vector lanes, channels last has filters there, so that both read and write memory in order.
Source: Goto & van de Geijn, ACM TOMS 34 (2008), for the blocking.
"""

import math

import numpy as np

from fastconv.cpu.conv_packing import packed
from fastconv.cpu.conv_patches import RUN_FIELDS, ceil_div, list_runs, pack_patches_first, pack_patches_last
from fastconv.cpu.jit import aligned_start, get, inline, kernel, put
from fastconv.cpu.layout import flat
from fastconv.cpu.microkernel import ROWS, gemm_tile, panel, tile_width
from fastconv.cpu.threads import get_num_threads, parallel_for

# At most 150 KB of patches and 265 KB of sums in float32: together they stay in an L2 cache of 512 KB.
DEPTH = 256  # slice of the sum
PIXEL_PANELS = 4  # channels first: pixels of a block, in widths of a tile
PIXEL_TILES = 8  # channels last: pixels of a block, in heights of a tile
_FILTERS = 512  # of a block, about: patches are packed once for all of them
_TASKS_PER_THREAD = 2  # where there are fewer, filters are split further, though each part packs the patches anew
# Multiply-adds in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread.
GEMM_SPEED = 40
LINE = 16  # elements that keep rows of patches from falling into the same cache sets


@kernel
def pack_filters(first, last, w, packed, lanes, filters, channels, taps, strides, tap_major):
    """packed[group, panel, depth, lane] of w; a task is one panel of one group.

    strides: Elements of w from one group, filter, channel to the next. taps: The place of each tap in w.
    """
    panels = ceil_div(filters, lanes)
    depth = channels * taps.size
    for task in range(first, last):
        group = task // panels
        f0 = task % panels * lanes
        base = task * depth * lanes
        used = min(lanes, filters - f0)
        for c in range(channels):  # outside, so that w is read in the order in which it lies
            for t in range(taps.size):
                k = t * channels + c if tap_major else c * taps.size + t
                source = group * strides[0] + f0 * strides[1] + c * strides[2] + taps[t]
                at = base + k * lanes
                for i in range(used):
                    put(packed, at + i, get(w, source + i * strides[1]))
                for i in range(used, lanes):
                    put(packed, at + i, 0)


@kernel
def conv_first(first, last, x, packed, bias, y, sampling, offsets, per_block):
    """y = packed filters over x, channels first; a task is a block of pixels and per_block tiles of filters."""
    columns = tile_width(x)
    block = PIXEL_PANELS * columns
    stride = block + LINE
    per_image = sampling.count[0] * sampling.count[1] * sampling.count[2]
    pixels = sampling.batch * per_image
    filter_tiles = ceil_div(sampling.filters, ROWS)
    filter_blocks = ceil_div(filter_tiles, per_block)
    pixel_blocks = ceil_div(pixels, block)
    depth = sampling.channels * sampling.taps
    runs = np.empty(block * RUN_FIELDS, np.int64)
    patches = np.zeros(min(DEPTH, depth) * stride + LINE, x.dtype)
    sums = np.zeros(min(per_block, filter_tiles) * ROWS * block + LINE, x.dtype)
    patches_at, sums_at = aligned_start(patches), aligned_start(sums)
    for task in range(first, last):
        tile_first = task % filter_blocks * per_block
        tile_last = min(filter_tiles, tile_first + per_block)
        pixel = task // filter_blocks % pixel_blocks * block
        group = task // (filter_blocks * pixel_blocks)
        width = min(block, pixels - pixel)
        found = list_runs(runs, pixel, pixel + width, sampling.count)
        for k0 in range(0, depth, DEPTH):
            k1 = min(depth, k0 + DEPTH)
            pack_patches_first(patches, patches_at, stride, x, sampling, offsets, group, k0, k1, runs, found)
            for tile in range(tile_first, tile_last):
                filters_at = ((group * filter_tiles + tile) * depth + k0) * ROWS
                row = sums_at + (tile - tile_first) * ROWS * block
                for j in range(0, width, columns):
                    gemm_tile(k1 - k0, packed, filters_at, 1, ROWS, patches, patches_at + j, stride,
                              sums, row + j, block, k0 > 0)  # fmt: skip
        f_first = tile_first * ROWS
        for f in range(f_first, min(sampling.filters, tile_last * ROWS)):
            channel = group * sampling.filters + f
            added = bias[channel] if bias.size > 0 else y.dtype.type(0)
            write_row(y, sums, sums_at + (f - f_first) * block, added, channel, sampling, runs, found)


@inline
def write_row(y, sums, row, added, channel, sampling, runs, found):
    """Write the pixels of one filter, channels first."""
    channels = sampling.groups * sampling.filters
    spread = sampling.spread[2]
    for r in range(found):
        run = r * RUN_FIELDS
        d = sampling.start[0] + runs[run + 1] * sampling.spread[0]
        h = sampling.start[1] + runs[run + 2] * sampling.spread[1]
        w = sampling.start[2] + runs[run + 3] * spread
        plane = ((runs[run] * channels + channel) * sampling.output[0] + d) * sampling.output[1] + h
        at = plane * sampling.output[2] + w
        source = row + runs[run + 4]
        if spread == 1:
            for i in range(runs[run + 5]):
                put(y, at + i, get(sums, source + i) + added)
        else:
            for i in range(runs[run + 5]):
                put(y, at + i * spread, get(sums, source + i) + added)


@kernel
def conv_last(first, last, x, packed, bias, y, sampling, offsets, per_block):
    """y = packed filters over x, channels last; a task is a block of pixels and per_block panels of filters."""
    columns = tile_width(x)
    block = PIXEL_TILES * ROWS
    per_image = sampling.count[0] * sampling.count[1] * sampling.count[2]
    pixels = sampling.batch * per_image
    filter_panels = ceil_div(sampling.filters, columns)
    filter_blocks = ceil_div(filter_panels, per_block)
    pixel_blocks = ceil_div(pixels, block)
    depth = sampling.channels * sampling.taps
    stride = min(DEPTH, depth) + LINE
    sums_stride = min(per_block, filter_panels) * columns
    runs = np.empty(block * RUN_FIELDS, np.int64)
    patches = np.zeros(block * stride + LINE, x.dtype)
    sums = np.zeros(block * sums_stride + LINE, x.dtype)
    patches_at, sums_at = aligned_start(patches), aligned_start(sums)
    for task in range(first, last):
        panel_first = task % filter_blocks * per_block
        panel_last = min(filter_panels, panel_first + per_block)
        pixel = task // filter_blocks % pixel_blocks * block
        group = task // (filter_blocks * pixel_blocks)
        height = min(block, pixels - pixel)
        found = list_runs(runs, pixel, pixel + height, sampling.count)
        for k0 in range(0, depth, DEPTH):
            k1 = min(depth, k0 + DEPTH)
            pack_patches_last(patches, patches_at, stride, x, sampling, offsets, group, k0, k1, runs, found)
            for p in range(panel_first, panel_last):
                filters_at = ((group * filter_panels + p) * depth + k0) * columns
                column = sums_at + (p - panel_first) * columns
                for i in range(0, height, ROWS):
                    gemm_tile(k1 - k0, patches, patches_at + i * stride, stride, 1, packed, filters_at, columns,
                              sums, column + i * sums_stride, sums_stride, k0 > 0)  # fmt: skip
        f_first = panel_first * columns
        f_last = min(sampling.filters, panel_last * columns)
        channels = sampling.groups * sampling.filters
        for r in range(found):
            run = r * RUN_FIELDS
            d = sampling.start[0] + runs[run + 1] * sampling.spread[0]
            h = sampling.start[1] + runs[run + 2] * sampling.spread[1]
            for i in range(runs[run + 5]):
                w = sampling.start[2] + (runs[run + 3] + i) * sampling.spread[2]
                position = ((runs[run] * sampling.output[0] + d) * sampling.output[1] + h) * sampling.output[2] + w
                at = position * channels + group * sampling.filters
                source = sums_at + (runs[run + 4] + i) * sums_stride - f_first
                if bias.size > 0:
                    for f in range(f_first, f_last):
                        put(y, at + f, get(sums, source + f) + get(bias, group * sampling.filters + f))
                else:
                    for f in range(f_first, f_last):
                        put(y, at + f, get(sums, source + f))


def multiply(xs, w, bs, ys, sampling, offsets, taps, strides, channels_last):
    """ys = bs + the taps of w over xs: pack the filters, then run every block.

    xs, bs, ys are flat arrays, w is any array. strides: Elements of flat(w) from one group, filter, channel to
    the next. taps: The place of each tap in it.
    """
    columns = panel(xs.dtype)
    filters = packed_filters(w, columns if channels_last else ROWS, sampling, taps, strides, channels_last)
    depth = sampling.channels * sampling.taps
    tasks, per_block = _blocks(sampling, channels_last, columns)
    pixels = sampling.batch * math.prod(sampling.count)
    work = sampling.groups * sampling.filters * depth * pixels / GEMM_SPEED
    run = conv_last if channels_last else conv_first
    parallel_for(run, tasks, work, xs, filters, bs, ys, sampling, offsets, per_block)


def packed_filters(w, lanes, sampling, taps, strides, tap_major):
    """[group, panel, depth, lane] of w as a flat array; see multiply and pack_filters."""
    filters, channels = sampling.filters, sampling.channels
    panels = sampling.groups * -(-filters // lanes)

    def make():
        ws = flat(w)
        result = _aligned(panels * channels * sampling.taps * lanes, ws.dtype)
        parallel_for(
            pack_filters, panels, result.size, ws, result, lanes, filters, channels, taps, strides, tap_major
        )  # fmt: skip
        return result

    return packed(w, ("filters", lanes, panels, filters, channels, taps.tobytes(), strides, tap_major), make)


def _aligned(size, dtype):
    """An unwritten flat array that starts on a cache line."""
    slack = 64 // dtype.itemsize
    memory = np.empty(size + slack, dtype)
    start = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[start : start + size]


def _blocks(sampling, channels_last, columns):
    """(tasks, per_block): how many blocks conv_first or conv_last has, and the tiles or panels of filters in each."""
    pixels = sampling.batch * math.prod(sampling.count)
    lanes, pixels_per_block = (columns, PIXEL_TILES * ROWS) if channels_last else (ROWS, PIXEL_PANELS * columns)
    others = sampling.groups * -(-pixels // pixels_per_block)
    tiles = -(-sampling.filters // lanes)
    threads = get_num_threads()  # may decide here: no sum depends on how blocks are cut
    wanted = _TASKS_PER_THREAD * threads if threads > 1 else 1
    filter_blocks = max(-(-sampling.filters // _FILTERS), min(tiles, -(-wanted // others)))
    per_block = -(-tiles // filter_blocks)
    return others * -(-tiles // per_block), per_block
