"""Weight gradient of a convolution with no patches: all taps read the same packed slab of the input.

    dw[k, c, t] = sum over n, p of dy[n, k, p] * x[n, c, p * stride + offset[t]]

A slab is a few hundred pixels of dy and the positions of x that they meet, padding included, with channels in the
vector lanes. A tap is a tile of the product over the pixels of the slab, whose x starts elsewhere; so x is packed
once for all taps and all filters of a block. Tiles have filters for rows: dw lies so, and is written in place where
one task sums all pixels. Where weights are too few to occupy the threads, pixels are split, and the splits added in
their order. The cuts depend on the shape alone, so results do not depend on the thread count.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_implicit_gemm import LINE
from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.conv_weight_grad_tile import PIECE_FIELDS, gemm_pieces, transpose_block
from fastconv.cpu.conv_winograd_transforms import copy_lanes, vector_lanes
from fastconv.cpu.jit import aligned_start, get_apart, inline, kernel, put, put_apart
from fastconv.cpu.microkernel import ROWS, panel, tile_width
from fastconv.cpu.threads import parallel_for

_PIXELS = 256  # of a slab, about: a panel of x and a tile of dy stay in the L1 cache
_PIXELS_ACROSS = 64  # of one line, where taps lie above each other: wide slabs would be mostly border
_PIXELS_IN_A_ROW = 512  # of one line of channels first: a longer run of memory for each channel
_PIXELS_AT_A_TIME = 16  # of channels last
_SUMS = 96 * 1024  # elements of a block of dw, which stays in the L2 cache
_PACKED = 256 * 1024  # elements of a packed slab of x, and of dy, at most: bounds the workspace
_TASKS = 8  # for which pixels are split where blocks are fewer
_TASKS_PER_THREAD = 2  # for which blocks are cut smaller, though each part packs its pixels anew
_SPLIT_PIXELS = 1024  # at least: a split costs a pass over its partial sums
_PARTIAL_ELEMENTS = 1 << 22  # of all partial sums together: bounds the workspace
_ADDED = 4096  # elements of dw that a task adds


class Slabs(NamedTuple):
    """How a problem is cut; all tuples have three axes."""

    origin: tuple  # input position that pixel 0 meets at the first tap
    skip: tuple  # input positions from one of the slab to the next: the stride, where an axis has one tap
    step: tuple  # positions of the slab from one pixel to the next
    cuts: tuple  # groups of pixels along each axis
    length: tuple  # positions of a slab along each axis
    batch_cuts: int  # groups of images
    images: int  # at most, of a slab
    pixels: int  # at most, of a slab
    panels: int  # of channels in a block
    tiles: int  # of filters in a block
    splits: int  # of the pixels


@kernel
def weight_grad_wide(first, last, x, dy, dw, sampling, offsets, slabs, channels_last):
    """dw[split, group, filter, channel, tap]; a task is a block of channels and filters of one split of the slabs."""
    panel = tile_width(x)
    taps = sampling.taps
    panels, tiles = ceil_div(sampling.channels, panel), ceil_div(sampling.filters, ROWS)
    channel_blocks, filter_blocks = ceil_div(panels, slabs.panels), ceil_div(tiles, slabs.tiles)
    count = slabs.batch_cuts * slabs.cuts[0] * slabs.cuts[1] * slabs.cuts[2]
    positions = slabs.images * slabs.length[0] * slabs.length[1] * slabs.length[2]
    shifts = np.empty(taps, np.int64)
    for t in range(taps):
        shift = 0
        for axis in range(3):
            away = (offsets[3 * t + axis] - offsets[axis]) // slabs.skip[axis]
            shift = shift * slabs.length[axis] + away
        shifts[t] = shift * panel
    pieces = np.empty(slabs.pixels * PIECE_FIELDS, np.int64)
    inputs = np.zeros(slabs.panels * positions * panel + LINE, x.dtype)
    errors = np.zeros(slabs.tiles * ROWS * slabs.pixels + LINE, x.dtype)
    sums = np.empty(slabs.tiles * ROWS * slabs.panels * taps * panel + LINE, x.dtype)
    inputs_at, errors_at, sums_at = aligned_start(inputs), aligned_start(errors), aligned_start(sums)
    for task in range(first, last):
        tile0 = task % filter_blocks * slabs.tiles
        tile1 = min(tiles, tile0 + slabs.tiles)
        panel0 = task // filter_blocks % channel_blocks * slabs.panels
        panel1 = min(panels, panel0 + slabs.panels)
        group = task // (filter_blocks * channel_blocks) % sampling.groups
        split = task // (filter_blocks * channel_blocks * sampling.groups)
        begin = count * split // slabs.splits
        for slab in range(begin, count * (split + 1) // slabs.splits):
            box = bounds(slab, sampling, slabs)
            found = list_pieces(pieces, box, slabs, panel, ROWS, False)
            channels = panel0 * panel, min(sampling.channels, panel1 * panel)
            filters = tile0 * ROWS, min(sampling.filters, tile1 * ROWS)
            if channels_last:
                pack_inputs_last(inputs, inputs_at, positions, x, sampling, slabs, box, group, channels)
                pack_errors_last(errors, errors_at, slabs.pixels, dy, sampling, box, group, filters)
            else:
                pack_inputs_first(inputs, inputs_at, positions, x, sampling, slabs, box, group, channels)
                pack_errors_first(errors, errors_at, slabs.pixels, dy, sampling, box, group, filters)
            for p in range(panel1 - panel0):
                for tile in range(tile1 - tile0):
                    at = sums_at + ((p * slabs.tiles + tile) * ROWS * taps) * panel
                    rows = min(ROWS, sampling.filters - (tile0 + tile) * ROWS)
                    for t in range(taps):
                        gemm_pieces(rows, pieces, found, errors, errors_at + tile * ROWS * slabs.pixels, ROWS,
                                    inputs, inputs_at + p * positions * panel + shifts[t], panel * slabs.step[2],
                                    sums, at + t * panel, taps * panel, slab > begin)  # fmt: skip
        for p in range(panel0, panel1):
            for f in range(tile0 * ROWS, min(sampling.filters, tile1 * ROWS)):
                source = sums_at + ((p - panel0) * slabs.tiles * ROWS + f - tile0 * ROWS) * taps * panel
                row = (split * sampling.groups + group) * sampling.filters + f
                target = (row * sampling.channels + p * panel) * taps
                write_weights(dw, target, sums, source, min(panel, sampling.channels - p * panel), taps)


@inline
def bounds(slab, sampling, slabs):
    """(first image, last image, first pixel and last pixel of each axis) of a slab."""
    q = slab % slabs.cuts[2]
    p = slab // slabs.cuts[2] % slabs.cuts[1]
    d = slab // (slabs.cuts[2] * slabs.cuts[1]) % slabs.cuts[0]
    n = slab // (slabs.cuts[2] * slabs.cuts[1] * slabs.cuts[0])
    return (
        sampling.batch * n // slabs.batch_cuts, sampling.batch * (n + 1) // slabs.batch_cuts,
        sampling.count[0] * d // slabs.cuts[0], sampling.count[0] * (d + 1) // slabs.cuts[0],
        sampling.count[1] * p // slabs.cuts[1], sampling.count[1] * (p + 1) // slabs.cuts[1],
        sampling.count[2] * q // slabs.cuts[2], sampling.count[2] * (q + 1) // slabs.cuts[2],
    )  # fmt: skip


@kernel
def list_pieces(pieces, box, slabs, input_pitch, error_pitch, inputs_are_rows):
    """Write the pieces of the sum over a slab, lines that meet joined; give their number.

    input_pitch, error_pitch: Elements from one position of x, or pixel of dy, to the next.
    inputs_are_rows: Whether the rows of a tile come from x, and its columns from dy, or the other way round.
    """
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    width = q1 - q0
    ours, theirs = (0, 1) if inputs_are_rows else (1, 0)
    found, pixel, expected = 0, 0, -1
    for n in range(n1 - n0):
        for d in range(d1 - d0):
            for p in range(p1 - p0):
                row = (n * slabs.length[0] + d * slabs.step[0]) * slabs.length[1] + p * slabs.step[1]
                place = row * slabs.length[2]
                if place == expected:
                    pieces[(found - 1) * PIECE_FIELDS + 2] += width
                else:
                    at = found * PIECE_FIELDS
                    pieces[at + ours] = place * input_pitch
                    pieces[at + theirs] = pixel * error_pitch
                    pieces[at + 2] = width
                    found += 1
                pixel += width
                expected = place + width * slabs.step[2]
    return found


@kernel
def pack_inputs_first(inputs, base, positions, x, sampling, slabs, box, group, channels):
    """inputs[panel, position, lane] for x channels first; lanes without a channel keep what they hold."""
    panel, lanes = tile_width(x), vector_lanes(x)
    size, length = sampling.size, slabs.length
    plane = size[0] * size[1] * size[2]
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    column = slabs.origin[2] + q0 * sampling.step[2]
    used = length[2] - (ceil_div(sampling.count[2], slabs.cuts[2]) - (q1 - q0)) * slabs.step[2]
    low = min(used, max(0, -column))
    high = max(low, min(used, size[2] - column))
    c0, c1 = channels
    for n in range(n1 - n0):
        image = ((n0 + n) * sampling.groups + group) * sampling.channels * plane
        for z in range(length[0] - (ceil_div(sampling.count[0], slabs.cuts[0]) - (d1 - d0)) * slabs.step[0]):
            d = slabs.origin[0] + d0 * sampling.step[0] + z * slabs.skip[0]
            for y in range(length[1] - (ceil_div(sampling.count[1], slabs.cuts[1]) - (p1 - p0)) * slabs.step[1]):
                h = slabs.origin[1] + p0 * sampling.step[1] + y * slabs.skip[1]
                row = base + ((n * length[0] + z) * length[1] + y) * length[2] * panel
                within = d >= 0 and d < size[0] and h >= 0 and h < size[1]
                left, right = (low, high) if within else (used, used)
                source = image + (d * size[1] + h) * size[2] + column
                for c in range(c0, c1, lanes):
                    at = row + (c - c0) // panel * positions * panel + (c - c0) % panel
                    if (c - c0) % panel == 0:
                        for i in range(left * panel):
                            put(inputs, at + i, 0)
                        for i in range(right * panel, used * panel):
                            put(inputs, at + i, 0)
                    for w in range(left, right, lanes):
                        transpose_block(x, source + c * plane + w, plane, min(lanes, c1 - c), min(lanes, right - w),
                                        inputs, at + w * panel, panel)  # fmt: skip


@kernel
def pack_inputs_last(inputs, base, positions, x, sampling, slabs, box, group, channels):
    """inputs[panel, position, lane] for x channels last; lanes without a channel keep what they hold."""
    panel, lanes = tile_width(x), vector_lanes(x)
    size, length = sampling.size, slabs.length
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    column = slabs.origin[2] + q0 * sampling.step[2]
    used = length[2] - (ceil_div(sampling.count[2], slabs.cuts[2]) - (q1 - q0)) * slabs.step[2]
    skip = slabs.skip[2]
    low = min(used, max(0, ceil_div(-column, skip)))
    high = max(low, min(used, ceil_div(size[2] - column, skip)))
    c0, c1 = channels
    pitch = sampling.groups * sampling.channels
    for n in range(n1 - n0):
        for z in range(length[0] - (ceil_div(sampling.count[0], slabs.cuts[0]) - (d1 - d0)) * slabs.step[0]):
            d = slabs.origin[0] + d0 * sampling.step[0] + z * slabs.skip[0]
            for y in range(length[1] - (ceil_div(sampling.count[1], slabs.cuts[1]) - (p1 - p0)) * slabs.step[1]):
                h = slabs.origin[1] + p0 * sampling.step[1] + y * slabs.skip[1]
                row = base + ((n * length[0] + z) * length[1] + y) * length[2] * panel
                within = d >= 0 and d < size[0] and h >= 0 and h < size[1]
                left, right = (low, high) if within else (used, used)
                position = (((n0 + n) * size[0] + d) * size[1] + h) * size[2] + column
                for c in range(c0, c1, panel):
                    at = row + (c - c0) // panel * positions * panel
                    for i in range(left * panel):
                        put(inputs, at + i, 0)
                    for i in range(right * panel, used * panel):
                        put(inputs, at + i, 0)
                # A few pixels at a time: memory is read about as it lies, and the loop over them is short of branches.
                for w0 in range(left, right, _PIXELS_AT_A_TIME):
                    w1 = min(right, w0 + _PIXELS_AT_A_TIME)
                    for c in range(c0, c1, lanes):
                        at = row + (c - c0) // panel * positions * panel + (c - c0) % panel
                        source = position * pitch + group * sampling.channels + c
                        if c + lanes <= c1:
                            for w in range(w0, w1):
                                copy_lanes(x, source + w * skip * pitch, inputs, at + w * panel, lanes, False)
                        else:
                            for w in range(w0, w1):
                                copy_lanes(x, source + w * skip * pitch, inputs, at + w * panel, c1 - c, False)


@inline
def runs_of(box, sampling):
    """(planes, rows, width) of adjacent pixels of a box, channels first: whole lines and planes follow each other."""
    _, _, d0, d1, p0, p1, q0, q1 = box
    planes, rows, width = d1 - d0, p1 - p0, q1 - q0
    if width == sampling.count[2]:
        rows, width = 1, rows * width
        if p1 - p0 == sampling.count[1]:
            planes, width = 1, planes * width
    return planes, rows, width


@kernel
def pack_errors_first(errors, base, pixels, dy, sampling, box, group, filters):
    """errors[tile, pixel, row] for dy channels first."""
    lanes = vector_lanes(dy)
    n0, n1, d0, _, p0, _, q0, _ = box
    planes, rows, width = runs_of(box, sampling)
    plane = sampling.count[0] * sampling.count[1] * sampling.count[2]
    f0, f1 = filters
    for n in range(n0, n1):
        for d in range(planes):
            for p in range(rows):
                line = ((d0 + d) * sampling.count[1] + p0 + p) * sampling.count[2] + q0
                pixel = (((n - n0) * planes + d) * rows + p) * width
                for f in range(f0, f1, ROWS):
                    source = ((n * sampling.groups + group) * sampling.filters + f) * plane + line
                    at = base + ((f - f0) * pixels + pixel * ROWS)
                    for row in range(0, min(ROWS, f1 - f), lanes):
                        for q in range(0, width, lanes):
                            transpose_block(dy, source + row * plane + q, plane,
                                            min(lanes, ROWS - row, f1 - f - row), min(lanes, width - q),
                                            errors, at + q * ROWS + row, ROWS)  # fmt: skip


@kernel
def pack_errors_last(errors, base, pixels, dy, sampling, box, group, filters):
    """errors[tile, pixel, row] for dy channels last."""
    lanes = vector_lanes(dy)
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    every = sampling.groups * sampling.filters
    f0, f1 = filters
    first = base
    for n in range(n0, n1):
        for d in range(d0, d1):
            for p in range(p0, p1):
                line = ((n * sampling.count[0] + d) * sampling.count[1] + p) * sampling.count[2]
                for begin in range(q0, q1, _PIXELS_AT_A_TIME):
                    end = min(q1, begin + _PIXELS_AT_A_TIME)
                    for f in range(f0, f1, ROWS):
                        for row in range(0, min(ROWS, f1 - f), lanes):
                            source = line * every + group * sampling.filters + f + row
                            at = first + (f - f0) * pixels + row - q0 * ROWS
                            if f + ROWS <= f1:
                                for q in range(begin, end):
                                    copy_lanes(
                                        dy, source + q * every, errors, at + q * ROWS, min(lanes, ROWS - row), False
                                    )
                            else:
                                for q in range(begin, end):
                                    copy_lanes(
                                        dy,
                                        source + q * every,
                                        errors,
                                        at + q * ROWS,
                                        min(lanes, ROWS - row, f1 - f - row),
                                        False,
                                    )
                first += (q1 - q0) * ROWS


@inline
def write_weights(dw, target, sums, source, channels, taps):
    """dw[channel, tap] of one filter from sums[tap, lane]."""
    panel, lanes = tile_width(dw), vector_lanes(dw)
    if taps == 1:
        for i in range(channels):
            put_apart(dw, target + i, get_apart(sums, source + i))
    else:
        for c in range(0, channels, lanes):
            for t in range(0, taps, lanes):
                transpose_block(sums, source + t * panel + c, panel, min(lanes, taps - t), min(lanes, channels - c),
                                dw, target + c * taps + t, taps)  # fmt: skip


@kernel
def add_parts(first, last, partial, dw, parts, length):
    """dw as the sum of its parts in their order; a task is `length` elements of it."""
    for task in range(first, last):
        begin = task * length
        end = min(dw.size, begin + length)
        for i in range(begin, end):
            total = get_apart(partial, i)
            for part in range(1, parts):
                total += get_apart(partial, part * dw.size + i)
            put_apart(dw, i, total)


def reach(offsets):
    """(extent, origin) of the taps on each axis: input positions from first to last, inclusive, and the first."""
    first, last = offsets[:3].tolist(), offsets[-3:].tolist()
    return tuple(b - a + 1 for a, b in zip(first, last, strict=True)), tuple(first)


def boxes(sampling, extent, origin, width, channels_last):
    """Slabs for a problem, all but its blocks; extent and origin as reach gives them.

    width: Elements of a position in a slab, of one panel.
    """
    count = sampling.count
    skips = [step if reach == 1 else 1 for step, reach in zip(sampling.step, extent, strict=True)]
    if not channels_last:
        skips[2] = 1  # lines are transposed whole
    steps = [step // skip for step, skip in zip(sampling.step, skips, strict=True)]
    pixels, positions = _PIXELS, max(1, _PACKED // width)
    cuts, counts, lengths = [1, 1, 1], [1, 1, 1], [1, 1, 1]
    for axis in (2, 1, 0):
        outer = math.prod(extent[:axis])
        most = (max(1, positions // outer) - extent[axis]) // steps[axis] + 1
        if axis == 2:
            most = min(most, _PIXELS_ACROSS if outer > 1 else _PIXELS if channels_last else _PIXELS_IN_A_ROW)
        else:
            most = min(most, pixels)
        cuts[axis] = -(-count[axis] // max(1, most))
        counts[axis] = -(-count[axis] // cuts[axis])
        lengths[axis] = (counts[axis] - 1) * steps[axis] + extent[axis]
        pixels //= counts[axis]
        positions //= lengths[axis]
    batch_cuts = -(-sampling.batch // max(1, min(pixels, positions)))
    images = -(-sampling.batch // batch_cuts)
    return Slabs(
        origin=origin,
        skip=tuple(skips),
        step=tuple(steps),
        cuts=tuple(cuts),
        length=tuple(lengths),
        batch_cuts=batch_cuts,
        images=images,
        pixels=images * math.prod(counts),
        panels=1,
        tiles=1,
        splits=1,
    )


def fits(sampling, slabs, width):
    """Whether slabs serve all taps at once: where dilation is large they may be too large, or mostly border."""
    positions = slabs.images * math.prod(slabs.length)
    return positions * width <= _PACKED and positions <= 4 * sampling.taps * slabs.pixels


@functools.lru_cache(maxsize=1024)
def cut(sampling, extent, origin, columns, channels_last, threads):
    """Slabs for a problem, or None where taps have to be taken one by one; extent and origin as reach gives them.

    Threads decide about blocks of channels and filters alone, on which no sum depends.
    """
    slabs = boxes(sampling, extent, origin, columns, channels_last)
    if sampling.taps > 1 and not fits(sampling, slabs, columns):
        return None
    weights = sampling.groups * sampling.filters * sampling.channels * sampling.taps
    pixels = sampling.batch * math.prod(sampling.count)
    count = slabs.batch_cuts * math.prod(slabs.cuts)
    most = max(1, min(count, pixels // _SPLIT_PIXELS, _PARTIAL_ELEMENTS // weights))
    choices = list(_blocks(sampling, columns, slabs))
    _, fewest, *_ = min(choices)
    splits = min(most, -(-_TASKS // fewest))
    wanted = _TASKS_PER_THREAD * threads if threads > 1 else 1
    *_, panels, tiles = min((max(0, wanted - blocks * splits), *rest) for rest in choices for blocks in rest[1:2])
    return slabs._replace(panels=panels, tiles=tiles, splits=splits)


def run(xs, errors, dw, sampling, offsets, slabs, channels_last, nanoseconds):
    """Write dw, all arrays flat."""
    columns = panel(xs.dtype)
    panels, tiles = -(-sampling.channels // columns), -(-sampling.filters // ROWS)
    channel_blocks, filter_blocks = -(-panels // slabs.panels), -(-tiles // slabs.tiles)
    tasks = slabs.splits * sampling.groups * channel_blocks * filter_blocks
    partial = dw if slabs.splits == 1 else np.empty(slabs.splits * dw.size, dw.dtype)
    parallel_for(weight_grad_wide, tasks, nanoseconds, xs, errors, partial, sampling, offsets, slabs, channels_last)
    add_up(partial, dw, slabs.splits)


def add_up(partial, dw, splits):
    """dw as the sum of its partial sums, unless it is the only one."""
    if splits > 1:
        parallel_for(add_parts, -(-dw.size // _ADDED), partial.size / 4, partial, dw, splits, _ADDED)


def _blocks(sampling, columns, slabs):
    """(elements packed for a pixel, number of blocks, panels of channels, tiles of filters) of ways to cut dw."""
    panels, tiles = -(-sampling.channels // columns), -(-sampling.filters // ROWS)
    positions = slabs.images * math.prod(slabs.length)
    for across in {-(-panels // n) for n in range(1, panels + 1)}:
        if across > 1 and across * columns * positions > _PACKED:
            continue
        most = max(1, min(_SUMS // (sampling.taps * across * columns * ROWS), _PACKED // (slabs.pixels * ROWS)))
        for down in {-(-tiles // n) for n in range(1, tiles + 1)}:
            if down <= most:
                channel_blocks, filter_blocks = -(-panels // across), -(-tiles // down)
                packed = filter_blocks * sampling.channels + channel_blocks * sampling.filters
                yield packed, sampling.groups * channel_blocks * filter_blocks, across, down
