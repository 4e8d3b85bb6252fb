"""Weight gradient of a convolution of few channels: slabs whose vector lanes are filters.

As conv_weight_grad, but a slab holds all channels of a position side by side, and rows of a tile are the channels
of the taps that read adjacent positions, 21 for a window of 7 across 3 channels: they lie one after the other in the
slab, so that a tile reads it in place, and nothing is packed but the slab itself and the errors.
"""

import functools
import math

import numpy as np

from fastconv.cpu.conv_implicit_gemm import LINE
from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.conv_weight_grad import add_up, bounds, boxes, fits, list_pieces, runs_of
from fastconv.cpu.conv_weight_grad_tile import PIECE_FIELDS, gemm_pieces, transpose_block
from fastconv.cpu.conv_winograd_transforms import copy_lanes, vector_lanes
from fastconv.cpu.jit import aligned_start, get, get_apart, inline, kernel, put, put_apart
from fastconv.cpu.microkernel import ROWS, panel, tile_width
from fastconv.cpu.threads import parallel_for

_SUMS = 64 * 1024  # elements of a block of dw
_TASKS = 8  # enough for the threads of a common machine
_PARTIAL_ELEMENTS = 1 << 22  # of all partial sums together: bounds the workspace


@kernel
def weight_grad_thin(first, last, x, dy, dw, sampling, offsets, slabs, channels_last):
    """dw[split, group, filter, channel, tap]; a task is a block of filters of one split of the slabs."""
    lanes, columns = vector_lanes(x), tile_width(x)
    channels, taps = sampling.channels, sampling.taps
    rows = sampling.line * channels  # of dw that one reading of the slab gives
    height = ceil_div(rows, ROWS) * ROWS
    lines = taps // sampling.line
    filter_panels = ceil_div(sampling.filters, columns)
    filter_blocks = ceil_div(filter_panels, slabs.panels)
    count = slabs.batch_cuts * slabs.cuts[0] * slabs.cuts[1] * slabs.cuts[2]
    positions = slabs.images * slabs.length[0] * slabs.length[1] * slabs.length[2]
    shifts = np.empty(lines, np.int64)
    for line in range(lines):
        shift = 0
        for axis in range(3):
            away = (offsets[3 * line * sampling.line + axis] - offsets[axis]) // slabs.skip[axis]
            shift = shift * slabs.length[axis] + away
        shifts[line] = shift * channels
    pieces = np.empty(slabs.pixels * PIECE_FIELDS, np.int64)
    inputs = np.zeros(positions * channels + height + LINE, x.dtype)  # a tile reads rows beyond the last
    errors = np.zeros(slabs.panels * slabs.pixels * columns + LINE, x.dtype)
    sums = np.empty(slabs.panels * lines * height * columns + LINE, x.dtype)
    inputs_at, errors_at, sums_at = aligned_start(inputs), aligned_start(errors), aligned_start(sums)
    for task in range(first, last):
        panel0 = task % filter_blocks * slabs.panels
        panels = min(filter_panels, panel0 + slabs.panels) - panel0
        group = task // filter_blocks % sampling.groups
        split = task // (filter_blocks * sampling.groups)
        filters = panel0 * columns, min(sampling.filters, (panel0 + panels) * columns)
        begin = count * split // slabs.splits
        for slab in range(begin, count * (split + 1) // slabs.splits):
            box = bounds(slab, sampling, slabs)
            found = list_pieces(pieces, box, slabs, channels, columns, True)
            pack_inputs(inputs, inputs_at, x, sampling, slabs, box, group, channels_last)
            if channels_last:
                pack_panels_last(errors, errors_at, slabs.pixels, dy, sampling, box, group, filters)
            else:
                pack_panels_first(errors, errors_at, slabs.pixels, dy, sampling, box, group, filters)
            for p in range(panels):
                for line in range(lines):
                    for row in range(0, rows, ROWS):
                        at = sums_at + ((p * lines + line) * height + row) * columns
                        gemm_pieces(rows - row, pieces, found, inputs, inputs_at + shifts[line] + row,
                                    slabs.step[2] * channels, errors, errors_at + p * slabs.pixels * columns, columns,
                                    sums, at, columns, slab > begin)  # fmt: skip
        for f in range(filters[0], filters[1], lanes):
            lane = f - filters[0]
            source = sums_at + lane // columns * lines * height * columns + lane % columns
            target = ((split * sampling.groups + group) * sampling.filters + f) * channels * taps
            some = min(lanes, filters[1] - f)
            for line in range(lines):
                for c in range(channels):
                    for tap in range(0, sampling.line, lanes):
                        row = line * height + tap * channels + c
                        transpose_block(sums, source + row * columns, channels * columns,
                                        min(lanes, sampling.line - tap), some, dw,
                                        target + c * taps + line * sampling.line + tap, channels * taps)  # fmt: skip


@kernel
def pack_inputs(inputs, base, x, sampling, slabs, box, group, channels_last):
    """inputs[position, channel]."""
    lanes = vector_lanes(x)
    size, length, channels = sampling.size, slabs.length, sampling.channels
    plane = size[0] * size[1] * size[2]
    pitch = sampling.groups * channels
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    column, skip = slabs.origin[2] + q0 * sampling.step[2], slabs.skip[2]
    used = length[2] - (ceil_div(sampling.count[2], slabs.cuts[2]) - (q1 - q0)) * slabs.step[2]
    low = min(used, max(0, ceil_div(-column, skip)))
    high = max(low, min(used, ceil_div(size[2] - column, skip)))
    for n in range(n1 - n0):
        for z in range(length[0] - (ceil_div(sampling.count[0], slabs.cuts[0]) - (d1 - d0)) * slabs.step[0]):
            d = slabs.origin[0] + d0 * sampling.step[0] + z * slabs.skip[0]
            for y in range(length[1] - (ceil_div(sampling.count[1], slabs.cuts[1]) - (p1 - p0)) * slabs.step[1]):
                h = slabs.origin[1] + p0 * sampling.step[1] + y * slabs.skip[1]
                row = base + ((n * length[0] + z) * length[1] + y) * length[2] * channels
                within = d >= 0 and d < size[0] and h >= 0 and h < size[1]
                left, right = (low, high) if within else (used, used)
                for i in range(left * channels):
                    put(inputs, row + i, 0)
                for i in range(right * channels, used * channels):
                    put(inputs, row + i, 0)
                position = (d * size[1] + h) * size[2] + column
                if channels_last:
                    source = ((n0 + n) * plane + position) * pitch + group * channels
                    if skip == 1 and sampling.groups == 1:
                        copy(inputs, row + left * channels, x, source + left * channels, (right - left) * channels)
                    else:
                        for w in range(left, right):
                            for c in range(0, channels, lanes):
                                copy_lanes(x, source + w * skip * pitch + c, inputs, row + w * channels + c,
                                           min(lanes, channels - c), False)  # fmt: skip
                else:
                    source = ((n0 + n) * pitch + group * channels) * plane + position
                    if skip == 1 and channels == 1:
                        copy(inputs, row + left, x, source + left, right - left)
                    elif skip == 1:
                        for c in range(0, channels, lanes):
                            for w in range(left, right, lanes):
                                transpose_block(x, source + c * plane + w, plane,
                                                min(lanes, channels - c), min(lanes, right - w),
                                                inputs, row + w * channels + c, channels)  # fmt: skip
                    else:
                        for c in range(channels):
                            for w in range(left, right):
                                put(inputs, row + w * channels + c, get(x, source + c * plane + w * skip))


@inline
def copy(target, target_at, source, source_at, count):
    """Copy `count` elements."""
    for i in range(count):
        put_apart(target, target_at + i, get_apart(source, source_at + i))


@kernel
def pack_panels_first(errors, base, pixels, dy, sampling, box, group, filters):
    """errors[panel, pixel, lane] for dy channels first; lanes without a filter keep what they hold."""
    lanes, columns = vector_lanes(dy), tile_width(dy)
    n0, n1, d0, _, p0, _, q0, _ = box
    planes, rows, width = runs_of(box, sampling)
    plane = sampling.count[0] * sampling.count[1] * sampling.count[2]
    f0, f1 = filters
    for n in range(n0, n1):
        for d in range(planes):
            for p in range(rows):
                line = ((d0 + d) * sampling.count[1] + p0 + p) * sampling.count[2] + q0
                pixel = (((n - n0) * planes + d) * rows + p) * width
                for f in range(f0, f1, lanes):
                    source = ((n * sampling.groups + group) * sampling.filters + f) * plane + line
                    at = base + ((f - f0) // columns * pixels + pixel) * columns + (f - f0) % columns
                    for q in range(0, width, lanes):
                        transpose_block(dy, source + q, plane, min(lanes, f1 - f), min(lanes, width - q),
                                        errors, at + q * columns, columns)  # fmt: skip


@kernel
def pack_panels_last(errors, base, pixels, dy, sampling, box, group, filters):
    """errors[panel, pixel, lane] for dy channels last; lanes without a filter keep what they hold."""
    lanes, columns = vector_lanes(dy), tile_width(dy)
    n0, n1, d0, d1, p0, p1, q0, q1 = box
    every = sampling.groups * sampling.filters
    f0, f1 = filters
    at = base
    for n in range(n0, n1):
        for d in range(d0, d1):
            for p in range(p0, p1):
                line = ((n * sampling.count[0] + d) * sampling.count[1] + p) * sampling.count[2]
                for q in range(q0, q1):
                    source = (line + q) * every + group * sampling.filters
                    for f in range(f0, f1, lanes):
                        target = at + (f - f0) // columns * pixels * columns + (f - f0) % columns
                        copy_lanes(dy, source + f, errors, target, min(lanes, f1 - f), False)
                    at += columns


def groups_at_once(sampling, columns):
    """How many groups to sum as one, of which only the products within a group count: where groups have so few
    channels and filters that the others fit into vector lanes that would be empty."""
    channels, filters = sampling.channels, sampling.filters
    alone = -(-channels // ROWS) * ROWS * -(-filters // columns) * columns
    fitting = [m for m in range(1, columns // channels + 1) if sampling.groups % m == 0]
    return max(m for m in fitting if m == 1 or columns * filters <= alone)


def with_lines(sampling, offsets):
    """The sampling with as many taps in a line as read adjacent positions, whatever else lies between channels."""
    line = 1
    while line < sampling.taps and np.array_equal(offsets[3 * line : 3 * line + 3] - offsets[:3], (0, 0, line)):
        line += 1
    return sampling._replace(line=line)


@functools.lru_cache(maxsize=1024)
def cut_thin(sampling, extent, origin, columns, channels_last):
    """Slabs for a problem, whose panels are of filters, or None where taps have to be taken one by one."""
    slabs = boxes(sampling, extent, origin, sampling.channels, channels_last)
    if sampling.taps > 1 and not fits(sampling, slabs, sampling.channels):
        return None
    panels = -(-sampling.filters // columns)
    weights = sampling.groups * sampling.filters * sampling.channels * sampling.taps
    rows = sampling.taps // sampling.line * -(-sampling.line * sampling.channels // ROWS) * ROWS
    wide = max(1, min(panels, _SUMS // (rows * columns)))
    wide = -(-panels // -(-panels // wide))
    blocks = sampling.groups * -(-panels // wide)
    count = slabs.batch_cuts * math.prod(slabs.cuts)
    splits = max(1, min(-(-_TASKS // blocks), count, _PARTIAL_ELEMENTS // weights))
    return slabs._replace(panels=wide, splits=splits)


def run(xs, errors, dw, sampling, offsets, slabs, channels_last, nanoseconds):
    """Write dw, all arrays flat."""
    columns = panel(xs.dtype)
    panels = -(-sampling.filters // columns)
    tasks = slabs.splits * sampling.groups * -(-panels // slabs.panels)
    partial = dw if slabs.splits == 1 else np.empty(slabs.splits * dw.size, dw.dtype)
    parallel_for(weight_grad_thin, tasks, nanoseconds, xs, errors, partial, sampling, offsets, slabs, channels_last)
    add_up(partial, dw, slabs.splits)
