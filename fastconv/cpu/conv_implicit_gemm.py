"""Convolution as an implicit GEMM: filters x depth times depth x pixels, in blocks that stay in the L2 cache.

For every block of pixels and filters the patches are packed a slice of depth at a time and multiplied by the
packed filters. Channels first has pixels in the vector lanes, channels last has filters there, so that both
read and write memory in order. Sums grow in the output itself where a tile of them is a piece of it, and
otherwise in a scratch block. Pixels of a channels-last image that meet one tap each are multiplied where they lie.
Source: Goto & van de Geijn, ACM TOMS 34 (2008), for the blocking.
"""

import math

import numpy as np

from fastconv.cpu.conv_activation import activate
from fastconv.cpu.conv_packing import packed
from fastconv.cpu.conv_patches import RUN_FIELDS, ceil_div, list_runs, pack_patches_first, pack_patches_last
from fastconv.cpu.jit import aligned_start, get, get_apart, inline, kernel, put, put_apart
from fastconv.cpu.layout import flat
from fastconv.cpu.microkernel import ROWS, panel, tile_width
from fastconv.cpu.microkernel_parts import ACCUMULATE, ADD_COLUMNS, ADD_ROWS, AHEAD, RECTIFY, TOUCH, gemm_part
from fastconv.cpu.threads import get_num_threads, parallel_for

# At most 430 KB of patches, and as much of sums where there is a scratch block: less than an L2 cache of 1 MB.
DEPTH = 256  # slice of the sum, about
PIXEL_PANELS = 7  # channels first: pixels of a block, in widths of a tile
PIXEL_TILES = 8  # channels last: pixels of a block, in heights of a tile
_FILTERS = 512  # of a block, about: patches are packed once for all of them
_LARGE = 1 << 20  # bytes of filters that leave the L2 cache before the next block of pixels comes to them
_TILES_LARGE = 28  # so these blocks are larger
_FILTERS_LARGE = 256
_RUN = 7  # channels last: pixels in a row from which on spread rows of the output are written in place
_TASKS_PER_THREAD = 2  # where there are fewer, filters are split further, though each part packs the patches anew
# Multiply-adds in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread.
GEMM_SPEED = 40
FILL_SPEED = 4  # as GEMM_SPEED, of elements that are only written
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


@inline
def slice_of(depth):
    """Length of the slices that a sum is cut into: about equal, and whole cache lines."""
    return ceil_div(ceil_div(depth, ceil_div(depth, DEPTH)), LINE) * LINE


@kernel
def conv_first(first, last, x, packed, added, y, sampling, offsets, per_block, block, in_place, finish):
    """y = packed filters over x, channels first; a task is a block of pixels and per_block tiles of filters.

    in_place: Blocks end with their image, and sums grow in y; otherwise blocks take pixels of several images or
    lines that are spread over y, and sums grow in scratch. added: Of each filter, the bias; empty without one.
    finish: What the last slice does besides, of the constants of gemm_part.
    """
    columns = tile_width(x)
    stride = block + LINE
    per_image = sampling.count[0] * sampling.count[1] * sampling.count[2]
    pixels = sampling.batch * per_image
    filter_tiles = ceil_div(sampling.filters, ROWS)
    filter_blocks = ceil_div(filter_tiles, per_block)
    per_stretch = per_image if in_place else pixels  # pixels that blocks divide
    stretch_blocks = ceil_div(per_stretch, block)
    pixel_blocks = pixels // per_stretch * stretch_blocks
    depth = sampling.channels * sampling.taps
    part = slice_of(depth)
    runs = np.empty(block * RUN_FIELDS, np.int64)
    patches = np.zeros(min(part, depth) * stride + LINE, x.dtype)
    sums = np.empty(0 if in_place else min(per_block, filter_tiles) * ROWS * block + LINE, x.dtype)
    patches_at, sums_at = aligned_start(patches), aligned_start(sums)
    for task in range(first, last):
        tile_first = task % filter_blocks * per_block
        tiles = min(filter_tiles - tile_first, per_block)
        pixel_block = task // filter_blocks % pixel_blocks
        image = pixel_block // stretch_blocks
        place = pixel_block % stretch_blocks * block
        width = min(block, per_stretch - place)
        group = task // (filter_blocks * pixel_blocks)
        f_first = tile_first * ROWS
        found = list_runs(runs, image * per_stretch + place, image * per_stretch + place + width, sampling.count)
        panels = ceil_div(width, columns)
        if in_place:
            c, c_row = y, per_image
            c_at = ((image * sampling.groups + group) * sampling.filters + f_first) * per_image + place
        else:
            c, c_row, c_at = sums, block, sums_at
        for k0 in range(0, depth, part):
            k1 = min(depth, k0 + part)
            pack_patches_first(patches, patches_at, stride, x, sampling, offsets, group, k0, k1, runs, found)
            what = (ACCUMULATE if k0 > 0 else TOUCH if in_place else 0) + (finish if k1 == depth else 0)
            # Panels inside, so that rows of the output are written on and on, not in pieces far apart.
            for step in range(tiles * panels):
                tile, p = step // panels, step % panels
                filters_at = ((group * filter_tiles + tile_first + tile) * depth + k0) * ROWS
                row = tile * ROWS
                end = min(row + ROWS, sampling.filters - f_first)
                ahead = LINE if p == 0 else 0  # the next tile of filters, while the first panel passes this one
                while row < end:
                    a_at = filters_at + row - tile * ROWS
                    row += gemm_part(
                        end - row, width - p * columns, k1 - k0, packed, a_at, 1, ROWS,
                        patches, patches_at + p * columns, stride, c, c_at + row * c_row + p * columns, c_row,
                        added, group * sampling.filters + f_first + row, what,
                        packed, filters_at + depth * ROWS, ahead, ahead * AHEAD,
                    )  # fmt: skip
        if not in_place:
            for f in range(min(sampling.filters - f_first, tiles * ROWS)):
                channel = group * sampling.filters + f_first + f
                write_row(y, sums, sums_at + f * block, channel, sampling, runs, found)


@inline
def write_row(y, sums, row, channel, sampling, runs, found):
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
                put(y, at + i, get(sums, source + i))
        else:
            for i in range(runs[run + 5]):
                put(y, at + i * spread, get(sums, source + i))


@kernel
def conv_last(first, last, x, packed, added, y, sampling, offsets, per_block, block, direct, finish):
    """y = packed filters over x, channels last; a task is a block of pixels and per_block panels of filters.

    direct: Pixels meet one tap and no padding, and x is multiplied where it lies. added: Of each group and panel,
    the bias; empty without one. finish: What the last slice does besides, of the constants of gemm_part.
    """
    columns = tile_width(x)
    per_image = sampling.count[0] * sampling.count[1] * sampling.count[2]
    pixels = sampling.batch * per_image
    filter_panels = ceil_div(sampling.filters, columns)
    filter_blocks = ceil_div(filter_panels, per_block)
    pixel_blocks = ceil_div(pixels, block)
    depth = sampling.channels * sampling.taps
    part = slice_of(depth)
    whole = sampling.count == sampling.output  # rows of sums lie side by side in y
    dense = sampling.size == sampling.count  # and so do rows of x that are multiplied where they lie
    by_run = sampling.count[2] >= _RUN and not (whole and (dense or not direct))
    channels = sampling.groups * sampling.filters
    sums_row = min(per_block, filter_panels) * columns
    runs = np.empty(block * RUN_FIELDS, np.int64)
    patches = np.empty(0 if direct else block * (part + LINE) + LINE, x.dtype)
    in_place = whole or by_run
    sums = np.empty(0 if in_place else block * sums_row + LINE, x.dtype)
    patches_at, sums_at = aligned_start(patches), aligned_start(sums)
    for task in range(first, last):
        panel_first = task % filter_blocks * per_block
        panel_last = min(filter_panels, panel_first + per_block)
        pixel = task // filter_blocks % pixel_blocks * block
        group = task // (filter_blocks * pixel_blocks)
        height = min(block, pixels - pixel)
        found = list_runs(runs, pixel, pixel + height, sampling.count)
        stretches = found if by_run else 1
        for k0 in range(0, depth, part):
            k1 = min(depth, k0 + part)
            if direct:
                a, a_row = x, sampling.groups * sampling.channels * sampling.step[2]
                a_start = pixel * a_row + group * sampling.channels + k0
            else:
                a, a_row, a_start = patches, part + LINE, patches_at
                pack_patches_last(patches, a_start, a_row, x, sampling, offsets, group, k0, k1, runs, found)
            what = (ACCUMULATE if k0 > 0 else TOUCH if in_place else 0) + (finish if k1 == depth else 0)
            for p in range(panel_first, panel_last):
                filters_at = ((group * filter_panels + p) * depth + k0) * columns
                lanes = sampling.filters - p * columns
                following = filters_at + depth * columns
                if p + 1 == panel_last:
                    following = ((group * filter_panels + panel_first) * depth + k1) * columns
                for stretch in range(stretches):
                    i, end = 0, height
                    a_first = a_start
                    c, c_row, c_at = y, channels, pixel * channels + group * sampling.filters + p * columns
                    if by_run:
                        run = stretch * RUN_FIELDS
                        i, end = runs[run + 4], runs[run + 4] + runs[run + 5]
                        c_row = channels * sampling.spread[2]
                        c_at = written(runs, run, sampling) * channels + group * sampling.filters + p * columns
                        c_at -= i * c_row
                        if direct:
                            a_first = read(runs, run, sampling) * sampling.groups * sampling.channels
                            a_first += group * sampling.channels + k0 - i * a_row
                    elif not whole:
                        c, c_row, c_at = sums, sums_row, sums_at + (p - panel_first) * columns
                    while i < end:
                        a_at = a_first + i * a_row
                        ahead, ahead_at, ahead_row, ahead_step = packed, following, 0, 0
                        if direct and p == panel_first:  # rows that may still lie in main memory
                            ahead, ahead_at, ahead_row, ahead_step = a, a_at + ROWS * a_row, a_row, AHEAD
                            if i + ROWS >= end and by_run and stretch + 1 < stretches:
                                ahead_at = read(runs, run + RUN_FIELDS, sampling) * sampling.groups * sampling.channels
                                ahead_at += group * sampling.channels + k0
                        elif i < ROWS:
                            ahead_row, ahead_step = columns, columns * AHEAD
                        elif i < 2 * ROWS:
                            ahead_at += LINE
                            ahead_row, ahead_step = columns, columns * AHEAD
                        i += gemm_part(
                            min(ROWS, end - i), lanes, k1 - k0, a, a_at, a_row, 1, packed, filters_at, columns,
                            c, c_at + i * c_row, c_row, added, (group * filter_panels + p) * columns, what,
                            ahead, ahead_at, ahead_row, ahead_step,
                        )  # fmt: skip
        if not in_place:
            f_first = panel_first * columns
            f_last = min(sampling.filters, panel_last * columns)
            for r in range(found):
                run = r * RUN_FIELDS
                at = written(runs, run, sampling) * channels + group * sampling.filters
                for i in range(runs[run + 5]):
                    source = sums_at + (runs[run + 4] + i) * sums_row - f_first
                    for f in range(f_first, f_last):
                        put(y, at + f, get(sums, source + f))
                    at += sampling.spread[2] * channels


@inline
def read(runs, run, sampling):
    """Where among all input positions a run begins, for one tap without offset."""
    d, h, w = runs[run + 1] * sampling.step[0], runs[run + 2] * sampling.step[1], runs[run + 3] * sampling.step[2]
    return ((runs[run] * sampling.size[0] + d) * sampling.size[1] + h) * sampling.size[2] + w


@inline
def written(runs, run, sampling):
    """Where among all output positions a run begins."""
    d = sampling.start[0] + runs[run + 1] * sampling.spread[0]
    h = sampling.start[1] + runs[run + 2] * sampling.spread[1]
    w = sampling.start[2] + runs[run + 3] * sampling.spread[2]
    return ((runs[run] * sampling.output[0] + d) * sampling.output[1] + h) * sampling.output[2] + w


@kernel
def fill_images(first, last, y, added, channels, positions, channels_last):
    """y = added, of every channel a value; a task is an image."""
    for image in range(first, last):
        base = image * channels * positions
        if channels_last:
            for at in range(base, base + channels * positions, channels):
                for c in range(channels):
                    put_apart(y, at + c, get_apart(added, c))
        else:
            for c in range(channels):
                value = added[c]
                for i in range(positions):
                    put(y, base + c * positions + i, value)


def fill(ys, bs, batch, channels, channels_last):
    """ys = bs: what is left of a convolution where no tap meets any pixel."""
    added = bs if bs.size else np.zeros(channels, ys.dtype)
    positions = ys.size // (batch * channels)
    parallel_for(fill_images, batch, ys.size / FILL_SPEED, ys, added, channels, positions, channels_last)


def multiply(xs, w, bs, ys, sampling, offsets, taps, strides, channels_last, activation=None):
    """ys = activation(bs + the taps of w over xs): pack the filters, then run every block.

    xs, bs, ys are flat arrays, w is any array. strides: Elements of flat(w) from one group, filter, channel to
    the next. taps: The place of each tap in it.
    """
    columns = panel(xs.dtype)
    pixels = sampling.batch * math.prod(sampling.count)
    depth = sampling.channels * sampling.taps
    if depth == 0:
        fill(ys, bs, sampling.batch, sampling.groups * sampling.filters, channels_last)
        activate(ys, activation)
        return
    work = sampling.groups * sampling.filters * depth * pixels / GEMM_SPEED
    finish = RECTIFY if activation == "relu" else 0
    merged = _merged(sampling, columns) if channels_last else 1
    if merged > 1 and _is_finite(xs):
        _multiply_merged(xs, w, bs, ys, sampling, offsets, taps, strides, activation, merged)
        return
    if channels_last:
        filters = packed_filters(w, columns, sampling, taps, strides, channels_last)
        large = sampling.filters * depth * xs.itemsize > _LARGE
        block = (_TILES_LARGE if large else PIXEL_TILES) * ROWS
        per_block, tasks = _filter_blocks(sampling, columns, -(-pixels // block), _FILTERS_LARGE if large else _FILTERS)
        finish += ADD_COLUMNS if bs.size else 0
        parallel_for(
            conv_last, tasks, work,
            xs, filters, _padded(bs, sampling, columns), ys, sampling, offsets, per_block, block,
            _is_direct(sampling, offsets), finish,
        )  # fmt: skip
    else:
        filters = packed_filters(w, ROWS, sampling, taps, strides, channels_last)
        block, in_place = _pixel_blocks(sampling, columns)
        stretch = math.prod(sampling.count) if in_place else pixels
        per_block, tasks = _filter_blocks(sampling, ROWS, pixels // stretch * -(-stretch // block), _FILTERS)
        finish += ADD_ROWS if bs.size else 0
        parallel_for(
            conv_first, tasks, work,
            xs, filters, bs, ys, sampling, offsets, per_block, block, in_place, finish,
        )  # fmt: skip
    activate(ys, None if activation == "relu" else activation)


def _merged(sampling, columns):
    """How many groups to compute as one, channels last: as many as fill a vector, if they do."""
    if sampling.filters >= columns // 2:
        return 1
    fitting = (m for m in range(2, sampling.groups + 1) if sampling.groups % m == 0)
    return next((m for m in fitting if m * sampling.filters >= columns // 2), 1)


def _multiply_merged(xs, w, bs, ys, sampling, offsets, taps, strides, activation, merged):
    """multiply, channels last, of groups that are too narrow: several are one, whose weights between them are 0.

    A product of 0 and a finite number changes no bit of a sum.
    """
    groups = sampling.groups // merged
    filters, channels, count = sampling.filters, sampling.channels, taps.size

    def make():
        group, f, c = np.ogrid[: sampling.groups, :filters, :channels]
        at = (group * strides[0] + f * strides[1] + c * strides[2])[..., None] + taps
        parts = flat(w)[at].reshape(groups, merged, filters, channels, count)
        whole = np.zeros((groups, merged, filters, merged, channels, count), parts.dtype)
        for i in range(merged):
            whole[:, i, :, i] = parts[:, i]
        return whole.reshape(groups * merged * filters, merged * channels, count)

    whole = packed(w, ("merged", merged, groups, filters, channels, taps.tobytes(), strides), make)
    wide = sampling._replace(groups=groups, filters=merged * filters, channels=merged * channels)
    steps = (merged * filters * merged * channels * count, merged * channels * count, count)
    multiply(xs, whole, bs, ys, wide, offsets, np.arange(count), steps, True, activation)


def _is_finite(xs):
    """Whether a flat array holds neither NaN nor infinity."""
    return xs.size == 0 or bool(np.isfinite(xs.max()) and np.isfinite(xs.min()))


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


def _padded(bs, sampling, columns):
    """The bias of each group in whole panels."""
    if bs.size == 0:
        return bs
    padded = np.zeros((sampling.groups, -(-sampling.filters // columns) * columns), bs.dtype)
    padded[:, : sampling.filters] = bs.reshape(sampling.groups, -1)
    return padded.reshape(-1)


def _is_direct(sampling, offsets):
    """Whether channels-last pixels meet one tap each and no padding, side by side or in runs that fill a tile."""
    if sampling.taps != 1 or offsets.any():
        return False
    axes = zip(sampling.size, sampling.count, sampling.step, strict=True)
    inside = all((count - 1) * step < size for size, count, step in axes)
    return inside and (sampling.size == sampling.count or sampling.count[2] >= _RUN)


def _pixel_blocks(sampling, columns):
    """(block, in_place): pixels of a block of conv_first, and whether its sums grow in the output."""
    count = math.prod(sampling.count)
    half = columns // 2
    # Blocks that end with their image leave lanes idle, which costs more than a pass over scratch in small images.
    in_place = sampling.count == sampling.output and -(-count // half) * half * 10 <= count * 11
    stretch = count if in_place else sampling.batch * count
    low = in_place and sampling.channels * sampling.taps * 2 <= DEPTH  # patches take as much room in longer rows
    blocks = -(-stretch // (PIXEL_PANELS * columns * (2 if low else 1)))
    return -(-stretch // (blocks * columns)) * columns, in_place


def _filter_blocks(sampling, lanes, pixel_blocks, most):
    """(per_block, tasks): tiles or panels of a block of at most about `most` filters, and how many blocks there are."""
    others = sampling.groups * pixel_blocks
    tiles = -(-sampling.filters // lanes)
    threads = get_num_threads()  # may decide here: no sum depends on how blocks are cut
    wanted = _TASKS_PER_THREAD * threads if threads > 1 else 1
    filter_blocks = max(-(-sampling.filters // most), min(tiles, -(-wanted // others)))
    per_block = -(-tiles // filter_blocks)
    return per_block, others * -(-tiles // per_block)
