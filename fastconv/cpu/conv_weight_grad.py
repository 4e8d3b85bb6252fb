"""Weight gradient of a convolution as an implicit GEMM over pixels, reduced in two stages.

    dw[k, c, t] = sum over n, p of dy[n, k, p] * x[n, c, p * stride + offset[t]]

A task multiplies one block of patch rows (channel and tap) with one block of filters over one split of
the pixels, a slice at a time; the splits are then added in their order. How many splits there are depends
on the shape alone, so results do not depend on the thread count.
"""

import math

import numpy as np

from fastconv.cpu.conv_implicit_gemm import LINE
from fastconv.cpu.conv_patches import RUN_FIELDS, ceil_div, list_runs, pack_patches_first, pack_patches_last
from fastconv.cpu.jit import aligned_start, get, kernel, put
from fastconv.cpu.microkernel import ROWS, gemm_tile, tile_width

PIXELS = 128  # slice of the sum
ROW_TILES = 16  # patch rows of a block, in heights of a tile
FILTER_PANELS = 8  # filters of a block, in widths of a tile
_TASKS = 16  # enough for the threads of a common machine
_PARTIAL_ELEMENTS = 1 << 22  # of all partial sums together: bounds the workspace


@kernel
def weight_grad_first(first, last, x, dy, partial, sampling, offsets, splits):
    """partial[split, group, row, filter] for channels first; rows are channel-major, tap-minor."""
    panel = tile_width(x)
    rows = sampling.channels * sampling.taps
    row_blocks = ceil_div(ceil_div(rows, ROWS), ROW_TILES)
    filter_panels = ceil_div(sampling.filters, panel)
    filter_blocks = ceil_div(filter_panels, FILTER_PANELS)
    pitch = min(FILTER_PANELS, filter_panels) * panel + LINE
    per_image = sampling.count[0] * sampling.count[1] * sampling.count[2]
    pixels = sampling.batch * per_image
    slices = ceil_div(pixels, PIXELS)
    block_rows = min(ROW_TILES * ROWS, ceil_div(rows, ROWS) * ROWS)
    stride = PIXELS + LINE
    runs = np.empty(PIXELS * RUN_FIELDS, np.int64)
    patches = np.zeros(block_rows * stride + LINE, x.dtype)
    errors = np.zeros(PIXELS * pitch + LINE, x.dtype)
    sums = np.zeros(block_rows * pitch + LINE, x.dtype)
    patches_at, errors_at, sums_at = aligned_start(patches), aligned_start(errors), aligned_start(sums)
    for task in range(first, last):
        f0 = task % filter_blocks * FILTER_PANELS * panel
        f1 = min(sampling.filters, f0 + FILTER_PANELS * panel)
        row0 = task // filter_blocks % row_blocks * ROW_TILES * ROWS
        row1 = min(rows, row0 + ROW_TILES * ROWS)
        group = task // (filter_blocks * row_blocks) % sampling.groups
        split = task // (filter_blocks * row_blocks * sampling.groups)
        begin = slices * split // splits
        for piece in range(begin, slices * (split + 1) // splits):
            pixel = piece * PIXELS
            width = min(PIXELS, pixels - pixel)
            found = list_runs(runs, pixel, pixel + width, sampling.count)
            pack_patches_first(patches, patches_at, stride, x, sampling, offsets, group, row0, row1, runs, found)
            for f in range(f0, f1):
                done = 0
                while done < width:  # dy is contiguous along all pixels of an image
                    image = (pixel + done) // per_image
                    place = pixel + done - image * per_image
                    length = min(width - done, per_image - place)
                    source = (image * sampling.groups * sampling.filters + group * sampling.filters + f) * per_image
                    at = errors_at + done * pitch + f - f0
                    for i in range(length):
                        put(errors, at + i * pitch, get(dy, source + place + i))
                    done += length
            for row in range(row0, row1, ROWS):
                for f in range(f0, f1, panel):
                    gemm_tile(width, patches, patches_at + (row - row0) * stride, stride, 1,
                              errors, errors_at + f - f0, pitch,
                              sums, sums_at + (row - row0) * pitch + f - f0, pitch, piece > begin)  # fmt: skip
        write_partial(
            partial, sums, sums_at, pitch, split * sampling.groups + group, rows, row0, row1, f0, f1, sampling
        )


@kernel
def weight_grad_last(first, last, x, dy, partial, sampling, offsets, splits):
    """partial[split, group, row, filter] for channels last; rows are tap-major, channel-minor."""
    panel = tile_width(x)
    rows = sampling.channels * sampling.taps
    row_blocks = ceil_div(ceil_div(rows, ROWS), ROW_TILES)
    filter_panels = ceil_div(sampling.filters, panel)
    filter_blocks = ceil_div(filter_panels, FILTER_PANELS)
    pitch = min(FILTER_PANELS, filter_panels) * panel + LINE
    filters = sampling.groups * sampling.filters
    pixels = sampling.batch * sampling.count[0] * sampling.count[1] * sampling.count[2]
    slices = ceil_div(pixels, PIXELS)
    block_rows = min(ROW_TILES * ROWS, ceil_div(rows, ROWS) * ROWS)
    stride = block_rows + LINE
    runs = np.empty(PIXELS * RUN_FIELDS, np.int64)
    patches = np.zeros(PIXELS * stride + LINE, x.dtype)
    errors = np.zeros(PIXELS * pitch + LINE, x.dtype)
    sums = np.zeros(block_rows * pitch + LINE, x.dtype)
    patches_at, errors_at, sums_at = aligned_start(patches), aligned_start(errors), aligned_start(sums)
    for task in range(first, last):
        f0 = task % filter_blocks * FILTER_PANELS * panel
        f1 = min(sampling.filters, f0 + FILTER_PANELS * panel)
        row0 = task // filter_blocks % row_blocks * ROW_TILES * ROWS
        row1 = min(rows, row0 + ROW_TILES * ROWS)
        group = task // (filter_blocks * row_blocks) % sampling.groups
        split = task // (filter_blocks * row_blocks * sampling.groups)
        begin = slices * split // splits
        for piece in range(begin, slices * (split + 1) // splits):
            pixel = piece * PIXELS
            width = min(PIXELS, pixels - pixel)
            found = list_runs(runs, pixel, pixel + width, sampling.count)
            pack_patches_last(patches, patches_at, stride, x, sampling, offsets, group, row0, row1, runs, found)
            for i in range(width):
                source = (pixel + i) * filters + group * sampling.filters
                at = errors_at + i * pitch - f0
                for f in range(f0, f1):
                    put(errors, at + f, get(dy, source + f))
            for row in range(row0, row1, ROWS):
                for f in range(f0, f1, panel):
                    gemm_tile(width, patches, patches_at + row - row0, 1, stride,
                              errors, errors_at + f - f0, pitch,
                              sums, sums_at + (row - row0) * pitch + f - f0, pitch, piece > begin)  # fmt: skip
        write_partial(
            partial, sums, sums_at, pitch, split * sampling.groups + group, rows, row0, row1, f0, f1, sampling
        )


@kernel
def write_partial(partial, sums, sums_at, pitch, part, rows, row0, row1, f0, f1, sampling):
    """Copy the sums of one block to their place in partial[part, row, filter]."""
    for row in range(row0, row1):
        at = (part * rows + row) * sampling.filters
        source = sums_at + (row - row0) * pitch - f0
        for f in range(f0, f1):
            put(partial, at + f, get(sums, source + f))


@kernel
def add_splits(first, last, partial, dw, sampling, splits, tap_major):
    """dw[group, filter, channel, tap] from the partial sums, in the order of the splits; a task is a row of a group."""
    rows = sampling.channels * sampling.taps
    filters = sampling.filters
    for task in range(first, last):
        group = task // rows
        row = task % rows
        place = row % sampling.channels * sampling.taps + row // sampling.channels if tap_major else row
        for f in range(filters):
            total = get(partial, task * filters + f)
            for split in range(1, splits):
                total += get(partial, (split * sampling.groups * rows + task) * filters + f)
            put(dw, (group * filters + f) * rows + place, total)


def blocks(sampling, panel):
    """How many blocks of rows and filters the weights have."""
    row_tiles = -(-sampling.channels * sampling.taps // ROWS)
    filter_panels = -(-sampling.filters // panel)
    return sampling.groups * -(-row_tiles // ROW_TILES) * -(-filter_panels // FILTER_PANELS)


def splits(sampling, panel):
    """In how many parts the pixels are summed: from the shape alone."""
    slices = -(-sampling.batch * math.prod(sampling.count) // PIXELS)
    weights = sampling.groups * sampling.filters * sampling.channels * sampling.taps
    return max(1, min(-(-_TASKS // blocks(sampling, panel)), slices // 4, _PARTIAL_ELEMENTS // weights))
