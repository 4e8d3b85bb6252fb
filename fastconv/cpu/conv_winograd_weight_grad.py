"""Weight gradient by Winograd's algorithm, the adjoint of F(4x4, 3x3), for the windows that conv_winograd serves.

    dw[k, c] = G' (sum over tiles of (A dy[k] A') * (B' x[c] B)) G

A task holds the sums of some channels and filters at one depth tap; it transforms a few dozen tiles of both sides,
multiplies them at each of the 36 points, and goes on to the next tiles. All of that stays in the L2 cache. Where
weights are too few to occupy the threads, tiles are split, and the splits added in their order. The cuts depend on the
shape alone, so results do not depend on the thread count.

Where a result is not finite, be it by its data or because a transform overflowed, everything is computed directly.
"""

import functools
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_choice import weight_grad_blocks
from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.conv_weight_grad import add_up
from fastconv.cpu.conv_weight_grad_tile import PIECE_FIELDS, gemm_pieces, transpose_block
from fastconv.cpu.conv_winograd_kernels import RUN, row_and_step, transform_inputs
from fastconv.cpu.conv_winograd_transforms import (
    INPUTS,
    OUTPUTS,
    POINTS,
    TAPS,
    clear_lanes,
    copy_lanes,
    pixels_from_planes,
    vector_lanes,
)
from fastconv.cpu.conv_winograd_weight_grad_transforms import error_tile, weight_tile
from fastconv.cpu.jit import aligned_start, kernel
from fastconv.cpu.microkernel import ROWS, panel, tile_width
from fastconv.cpu.threads import parallel_for

_SPEED = 100  # products of the direct algorithm in a nanosecond of one thread, roughly
_FILTERS = 8  # of a block, a multiple of so many: the height of a lower tile
_TILES = 40  # transformed at a time, at most: 800 KB in float32
_TASKS = 8  # enough for the threads of a common machine
_SPLIT_TILES = 96  # at least: a split costs a transform of its sums
_PARTIAL_ELEMENTS = 1 << 22  # of all partial sums together: bounds the workspace


class Cut(NamedTuple):
    """A problem and how it is cut; the first fields are what transform_inputs reads."""

    batch: int
    groups: int
    channels: int  # of a group
    filters: int  # of a group
    size: tuple  # input positions
    output: tuple  # output positions
    before: tuple  # padding before the first position of each axis
    rows: int  # tiles down a plane
    columns: int  # tiles across a plane
    taps: int  # along depth
    channel_block: int
    filter_block: int
    tiles: int  # transformed at a time
    splits: int


@kernel
def transform_errors(dy, strip, strip_at, d, d_at, row, step, cut, group, f_first, f_last, plane, tile, tiles,
                     channels_last):  # fmt: skip
    """d[d_at + point * step + i * row + f - f_first] for `tiles` tiles from `tile` on of one plane of dy."""
    lanes = vector_lanes(dy)
    depth, height, width = cut.output
    per_image = cut.rows * cut.columns
    positions = depth * height * width
    every = cut.groups * cut.filters
    pitch = (OUTPUTS * RUN + lanes) * lanes
    pixel, channel = (every, 1) if channels_last else (1, positions)
    i = 0
    while i < tiles:
        image, place = (tile + i) // per_image, (tile + i) % per_image
        count = min(RUN, cut.columns - place % cut.columns, tiles - i)
        top = place // cut.columns * OUTPUTS
        left = place % cut.columns * OUTPUTS
        across = OUTPUTS * count
        high = min(across, width - left)
        image_at = image * every * positions + group * cut.filters * channel
        for f in range(f_first, f_last, lanes):
            used = min(lanes, f_last - f)
            target = d_at + i * row + f - f_first
            for r in range(OUTPUTS):
                at = strip_at + r * pitch
                if top + r >= height:
                    for p in range(across):
                        clear_lanes(strip, at + p * lanes)
                    continue
                source = image_at + f * channel + ((plane * height + top + r) * width + left) * pixel
                if channels_last:
                    for p in range(high):
                        copy_lanes(dy, source + p * pixel, strip, at + p * lanes, used, True)
                else:
                    for p in range(0, high, lanes):
                        pixels_from_planes(dy, source + p, channel, used, min(lanes, high - p), strip, at + p * lanes)
                for p in range(high, across):
                    clear_lanes(strip, at + p * lanes)
            for k in range(count):
                error_tile(strip, strip_at + k * OUTPUTS * lanes, pitch, lanes, d, target + k * row, step)
        i += count


@kernel
def multiply_tiles(pieces, d, d_at, d_row, d_step, filters, v, v_at, v_row, v_step, channels, m, m_at, m_row, m_step,
                   add):  # fmt: skip
    """m[point, filter, channel] (+)= the sum over tiles of d[point, tile, filter] * v[point, tile, channel]."""
    for e in range(POINTS):
        for c in range(0, channels, tile_width(v)):
            for f in range(0, filters, ROWS):
                gemm_pieces(min(ROWS, filters - f), pieces, 1, d, d_at + e * d_step + f, d_row,
                            v, v_at + e * v_step + c, v_row,
                            m, m_at + e * m_step + f * m_row + c, m_row, add)  # fmt: skip


@kernel
def sum_blocks(first, last, x, dy, dw, bad, cut, channels_last):
    """dw[split, filter, channel, tap]; a task is a block of channels and filters at a depth tap of one split.

    bad: Set for each task with a result that is not finite.
    """
    lanes, columns = vector_lanes(x), tile_width(x)
    taps = cut.taps
    per_plane = cut.batch * cut.rows * cut.columns
    channel_blocks = ceil_div(cut.channels, cut.channel_block)
    filter_blocks = ceil_div(cut.filters, cut.filter_block)
    v_row, v_step = row_and_step(cut.tiles, ceil_div(cut.channel_block, columns) * columns, lanes)
    d_row, d_step = row_and_step(cut.tiles, ceil_div(cut.filter_block + ROWS, lanes) * lanes, lanes)
    m_row, m_step = row_and_step(cut.filter_block + ROWS, ceil_div(cut.channel_block, columns) * columns, lanes)
    strip = np.zeros(INPUTS * (OUTPUTS * RUN + INPUTS - OUTPUTS + lanes) * lanes + 64, x.dtype)
    v = np.zeros(POINTS * v_step + 64, x.dtype)
    d = np.zeros(POINTS * d_step + 64, x.dtype)
    m = np.zeros(POINTS * m_step + 64, x.dtype)
    square = np.zeros(TAPS * TAPS * lanes + 64, x.dtype)
    strip_at, v_at, d_at = aligned_start(strip), aligned_start(v), aligned_start(d)
    m_at, square_at = aligned_start(m), aligned_start(square)
    pieces = np.zeros(PIECE_FIELDS, np.int64)
    for task in range(first, last):
        f_first = task % filter_blocks * cut.filter_block
        f_last = min(cut.filters, f_first + cut.filter_block)
        c_first = task // filter_blocks % channel_blocks * cut.channel_block
        c_last = min(cut.channels, c_first + cut.channel_block)
        group = task // (filter_blocks * channel_blocks) % cut.groups
        tap = task // (filter_blocks * channel_blocks * cut.groups) % taps
        split = task // (filter_blocks * channel_blocks * cut.groups * taps)
        ahead = tap - cut.before[0]
        front = max(0, -ahead)  # the first plane of dy that meets one of x at this tap
        tiles = max(0, min(cut.output[0], cut.size[0] - ahead) - front) * per_plane
        begin, end = tiles * split // cut.splits, tiles * (split + 1) // cut.splits
        rounds = ceil_div(end - begin, cut.tiles)
        if rounds == 0:
            m[:] = 0
        for turn in range(rounds):
            start = begin + (end - begin) * turn // rounds
            count = begin + (end - begin) * (turn + 1) // rounds - start
            done = 0
            while done < count:
                plane, tile = front + (start + done) // per_plane, (start + done) % per_plane
                some = min(count - done, per_plane - tile)
                transform_inputs(x, strip, strip_at, v, v_at + done * v_row, v_row, v_step, cut, group, c_first, c_last,
                                 plane + ahead, tile, some, channels_last)  # fmt: skip
                transform_errors(dy, strip, strip_at, d, d_at + done * d_row, d_row, d_step, cut, group, f_first,
                                 f_last, plane, tile, some, channels_last)  # fmt: skip
                done += some
            pieces[2] = count
            multiply_tiles(pieces, d, d_at, d_row, d_step, f_last - f_first, v, v_at, v_row, v_step, c_last - c_first,
                           m, m_at, m_row, m_step, turn > 0)  # fmt: skip
        length = taps * TAPS * TAPS
        finite = True
        for f in range(f_last - f_first):
            row = (split * cut.groups + group) * cut.filters + f_first + f
            target = (row * cut.channels + c_first) * length + tap * TAPS * TAPS
            for c in range(0, c_last - c_first, lanes):
                finite &= weight_tile(m, m_at + f * m_row + c, m_step, square, square_at)
                for t in range(0, TAPS * TAPS, lanes):
                    transpose_block(square, square_at + t * lanes, lanes, min(lanes, TAPS * TAPS - t),
                                    min(lanes, c_last - c_first - c), dw, target + c * length + t, length)  # fmt: skip
        if not finite:
            bad[task] = 1


def sum_tiles(xs, errors, dw, sampling, offsets, channels_last):
    """Write dw where all of it is finite, all arrays flat; otherwise it holds nothing of use.

    Returns:
        Whether it is finite.
    """
    cut = _cut(sampling, tuple(offsets[:3].tolist()), panel(xs.dtype))
    blocks = -(-cut.channels // cut.channel_block) * -(-cut.filters // cut.filter_block)
    tasks = cut.splits * cut.taps * cut.groups * blocks
    partial = dw if cut.splits == 1 else np.empty(cut.splits * dw.size, dw.dtype)
    bad = np.zeros(tasks, np.uint8)
    work = errors.size * sampling.channels * sampling.taps / _SPEED
    parallel_for(sum_blocks, tasks, work, xs, errors, partial, bad, cut, channels_last)
    if bad.any():
        return False
    add_up(partial, dw, cut.splits)
    return True


@functools.lru_cache(maxsize=1024)
def _cut(sampling, origin, columns):
    taps = sampling.taps // (TAPS * TAPS)
    rows, across = (-(-size // OUTPUTS) for size in sampling.output[1:])
    tiles = sampling.batch * sampling.output[0] * rows * across
    channel_blocks, filter_blocks = weight_grad_blocks(sampling.channels), weight_grad_blocks(sampling.filters)
    tasks = sampling.groups * channel_blocks * filter_blocks * taps
    weights = sampling.groups * sampling.filters * sampling.channels * sampling.taps
    return Cut(
        batch=sampling.batch,
        groups=sampling.groups,
        channels=sampling.channels,
        filters=sampling.filters,
        size=sampling.size,
        output=sampling.output,
        before=tuple(-first for first in origin),
        rows=rows,
        columns=across,
        taps=taps,
        channel_block=-(-sampling.channels // (channel_blocks * columns)) * columns,
        filter_block=-(-sampling.filters // (filter_blocks * _FILTERS)) * _FILTERS,
        tiles=min(tiles, _TILES),
        splits=max(1, min(-(-_TASKS // tasks), tiles // _SPLIT_TILES, _PARTIAL_ELEMENTS // weights)),
    )
