"""Kernels of convolution on the tile registers of AMX; the algorithm: fastconv.cpu.conv_amx."""

from typing import NamedTuple

import numpy as np

from fastconv.cpu.amx import BLOCK, DEPTH, STEP, close_tiles, emulate, multiply_tiles, open_tiles, store_sums
from fastconv.cpu.conv_patches import ceil_div, inside
from fastconv.cpu.jit import aligned_start, get, inline, kernel, put
from fastconv.cpu.split import LANES, PIECES, split_full_pairs, split_pairs, transpose, write_sums

# The flags of results stand above those of the input.
WRITTEN = 4


class Plan(NamedTuple):
    """How a convolution is cut; tuples of three are axes, of four images and axes."""

    block: tuple  # output pixels of a block
    blocks: tuple  # how many there are
    extent: tuple  # positions of a plane in one image
    least: tuple  # what tap reads furthest before its pixel
    rows: int  # adjacent rows of positions that are multiplied in one run
    runs: int
    positions: int  # of a plane, with room behind the last
    chunks: int  # of channels
    phases: int


@inline
def split(x, low_at, low_count, high_at, high_count, stride, pairs, at, piece):
    """Split up to 16 numbers of each half and write 16 pairs of every piece."""
    if low_count == LANES and high_count == LANES and stride == 1:
        return split_full_pairs(x, low_at, high_at, pairs, at, piece)
    return split_pairs(x, low_at, low_count, high_at, high_count, stride, pairs, at, piece, LANES)


@kernel
def pack_weights(first, last, w, packed, sampling, taps, strides, flags):
    """packed[panel, chunk, tap, piece, half, 16, 16]: rows are pairs of channels; a task is a panel of 32 filters."""
    panels = ceil_div(sampling.filters, BLOCK)
    chunks = ceil_div(sampling.channels, DEPTH)
    square = np.empty(PIECES * LANES * LANES, np.int32)
    for task in range(first, last):
        group, f0 = task // panels, task % panels * BLOCK
        found = 0
        for number in range(2 * chunks):
            chunk, half = number // 2, number % 2
            c = chunk * DEPTH
            filters = clamp(sampling.filters - f0 - half * LANES)
            start = group * strides[0] + (f0 + half * LANES) * strides[1] + c * strides[2]
            for t in range(sampling.taps):
                at = ((task * chunks + chunk) * sampling.taps + t) * STEP + half * LANES * LANES
                if strides[2] == 1:  # adjacent channels: whole lines are read, then transposed
                    for i in range(LANES):
                        low = start + taps[t] + i * strides[1]
                        low_count = clamp(sampling.channels - c) if i < filters else 0
                        high_count = clamp(sampling.channels - c - LANES) if i < filters else 0
                        found |= split(w, low, low_count, low + LANES, high_count, 1, square, i * LANES, LANES * LANES)
                    for piece in range(PIECES):
                        transpose(square, piece * LANES * LANES, LANES, packed, at + 2 * piece * LANES * LANES, LANES)
                else:
                    for i in range(LANES):
                        low = start + taps[t] + i * strides[2]
                        low_count = filters if c + i < sampling.channels else 0
                        high_count = filters if c + LANES + i < sampling.channels else 0
                        found |= split(
                            w, low, low_count, low + LANES * strides[2], high_count, strides[1],
                            packed, at + i * LANES, 2 * LANES * LANES,
                        )  # fmt: skip
        flags[task] = found


@inline
def clamp(count):
    """count, but 0 to 16."""
    return min(max(count, 0), LANES)


@kernel
def split_block_last(x, planes, sampling, p, phases, group, origin, size):
    """planes[phase, chunk, piece, position, 16] of one block for x channels last; gives the flags."""
    found = 0
    channels = sampling.groups * sampling.channels
    for phase in range(p.phases):
        for row in range(size[0] * p.extent[0] * p.extent[1]):
            image = row // (p.extent[0] * p.extent[1])
            d = (origin[1] + row // p.extent[1] % p.extent[0] + p.least[0]) * sampling.step[0] + phases[3 * phase]
            h = (origin[2] + row % p.extent[1] + p.least[1]) * sampling.step[1] + phases[3 * phase + 1]
            low, high = 0, 0
            if d >= 0 and d < sampling.size[0] and h >= 0 and h < sampling.size[1]:
                offset = (origin[3] + p.least[2]) * sampling.step[2] + phases[3 * phase + 2]
                low, high = inside(0, p.extent[2], sampling.step[2], offset, sampling.size[2])
            line = (((origin[0] + image) * sampling.size[0] + d) * sampling.size[1] + h) * sampling.size[2]
            for i in range(p.extent[2]):
                position = line + (origin[3] + i + p.least[2]) * sampling.step[2] + phases[3 * phase + 2]
                there = i >= low and i < high
                for chunk in range(p.chunks):
                    c = chunk * DEPTH
                    at = position * channels + group * sampling.channels + c
                    low_count = clamp(sampling.channels - c) if there else 0
                    high_count = clamp(sampling.channels - c - LANES) if there else 0
                    place = (phase * p.chunks + chunk) * PIECES * p.positions + row * p.extent[2] + i
                    found |= split(
                        x, at, low_count, at + LANES, high_count, 1, planes, place * LANES, p.positions * LANES
                    )
    return found


@kernel
def split_block_first(x, planes, square, sampling, p, phases, group, origin, size):
    """The same planes of one block for x channels first: squares of 16 positions and pairs are transposed."""
    found = 0
    plane = sampling.size[0] * sampling.size[1] * sampling.size[2]
    rows = size[0] * p.extent[0] * p.extent[1]
    for number in range(p.phases * rows):
        phase, row = number // rows, number % rows
        image = origin[0] + row // (p.extent[0] * p.extent[1])
        d = (origin[1] + row // p.extent[1] % p.extent[0] + p.least[0]) * sampling.step[0] + phases[3 * phase]
        h = (origin[2] + row % p.extent[1] + p.least[1]) * sampling.step[1] + phases[3 * phase + 1]
        offset = (origin[3] + p.least[2]) * sampling.step[2] + phases[3 * phase + 2]
        low, high = 0, 0
        if d >= 0 and d < sampling.size[0] and h >= 0 and h < sampling.size[1]:
            low, high = inside(0, p.extent[2], sampling.step[2], offset, sampling.size[2])
        line = ((image * sampling.groups + group) * sampling.channels * sampling.size[0] + d) * sampling.size[1] + h
        line = line * sampling.size[2] + offset
        for chunk in range(p.chunks):
            place = (phase * p.chunks + chunk) * PIECES * p.positions + row * p.extent[2]
            for j in range(0, low):
                clear(planes, (place + j) * LANES, p.positions * LANES)
            for j in range(low, high, LANES):
                count = clamp(high - j)
                for i in range(LANES):
                    c = chunk * DEPTH + i
                    at = line + c * plane + j * sampling.step[2]
                    found |= split(
                        x, at, count if c < sampling.channels else 0,
                        at + LANES * plane, count if c + LANES < sampling.channels else 0,
                        sampling.step[2], square, i * LANES, LANES * LANES,
                    )  # fmt: skip
                # What stands behind the last position is overwritten by the next row, or nobody's.
                for piece in range(PIECES):
                    at = (place + piece * p.positions + j) * LANES
                    transpose(square, piece * LANES * LANES, LANES, planes, at, LANES)
            for j in range(high, p.extent[2]):
                clear(planes, (place + j) * LANES, p.positions * LANES)
    return found


@inline
def clear(planes, at, piece):
    """Zeros for all pieces of one position."""
    for part in range(PIECES):
        for i in range(LANES):
            put(planes, at + part * piece + i, np.int32(0))


@inline
def block_of(number, sampling, p):
    """(origin, size) of a block: images and axes."""
    w = number % p.blocks[3] * p.block[3]
    h = number // p.blocks[3] % p.blocks[2] * p.block[2]
    d = number // (p.blocks[3] * p.blocks[2]) % p.blocks[1] * p.block[1]
    n = number // (p.blocks[3] * p.blocks[2] * p.blocks[1]) * p.block[0]
    size = (
        min(p.block[0], sampling.batch - n), min(p.block[1], sampling.count[0] - d),
        min(p.block[2], sampling.count[1] - h), min(p.block[3], sampling.count[2] - w),
    )  # fmt: skip
    return (n, d, h, w), size


@kernel
def convolve(
    first, last, x, packed, bias, y, sampling, p, phases, table, per_task, channels_last, relu, flags, hardware
):
    """y = packed filters over x; a task is a block of pixels and per_task panels of filters."""
    panels = ceil_div(sampling.filters, BLOCK)
    shares = ceil_div(panels, per_task)
    blocks = p.blocks[0] * p.blocks[1] * p.blocks[2] * p.blocks[3]
    steps = table.size
    length = (p.rows - 1) * p.extent[2] + p.block[3]
    memory = np.empty(p.phases * p.chunks * PIECES * LANES * p.positions + LANES, np.int32)
    planes = memory[aligned_start(memory) :]
    square = np.empty(PIECES * LANES * LANES, np.int32)
    more = np.empty(2 * BLOCK * BLOCK + LANES, np.float32)
    sums = more[aligned_start(more) :]
    if hardware:
        open_tiles()
    for task in range(first, last):
        group = task // (shares * blocks)
        origin, size = block_of(task // shares % blocks, sampling, p)
        if channels_last:
            found = split_block_last(x, planes, sampling, p, phases, group, origin, size)
        else:
            found = split_block_first(x, planes, square, sampling, p, phases, group, origin, size)
        first_panel = task % shares * per_task
        tiles_of_panel = p.runs * ceil_div(length, BLOCK)
        tiles = (min(panels, first_panel + per_task) - first_panel) * tiles_of_panel
        # The sums of a tile are written while the products of the next are under way.
        for tile in range(tiles + 1):
            if tile < tiles:
                w_at = (group * panels + first_panel + tile // tiles_of_panel) * steps * STEP
                run, t = place_in_panel(tile % tiles_of_panel, length)
                x_at = (run_start(run, p) + t) * LANES
                if hardware:
                    multiply_tiles(steps, table, planes, x_at, p.positions * LANES, packed, w_at)
            if tile > 0:
                panel = first_panel + (tile - 1) // tiles_of_panel
                run, t = place_in_panel((tile - 1) % tiles_of_panel, length)
                if channels_last:
                    written = write_last(y, sums, bias, group, panel, run, t, origin, size, sampling, p, relu)
                    found |= written * WRITTEN
                else:
                    written = write_first(y, sums, bias, group, panel, run, t, origin, size, sampling, p, relu)
                    found |= written * WRITTEN
            if tile < tiles:
                if hardware:
                    store_sums(sums)
                else:
                    emulate(steps, table, planes, x_at, p.positions * LANES, packed, w_at, sums)
        flags[task] = found
    if hardware:
        close_tiles()


@inline
def place_in_panel(tile, length):
    """(run, position in it) of a tile of 32 positions."""
    tiles = ceil_div(length, BLOCK)
    return tile // tiles, tile % tiles * BLOCK


@kernel
def write_last(y, sums, bias, group, panel, run, t, origin, size, sampling, p, relu):
    """Write the sums [position, filter] of a tile to the pixels that are there; gives the flags."""
    f0 = panel * BLOCK
    filters = min(BLOCK, sampling.filters - f0)
    channels = sampling.groups * sampling.filters
    b0 = group * sampling.filters + f0
    found, i = 0, 0
    while i < BLOCK:
        row, column = (t + i) // p.extent[2], (t + i) % p.extent[2]
        if row >= p.rows:
            break
        n, d, h, there = pixel_of(run * p.rows + row, size, p)
        count = min(size[3] - column, BLOCK - i) if there else 0
        at = place_of(n, d, h, column, origin, sampling) * channels + b0
        for j in range(i, i + count):
            for f in range(0, filters, LANES):
                count_f = clamp(filters - f)
                found |= write_sums(sums, j * BLOCK + f, bias, b0 + f, 1, y, at + f, count_f, relu)
            at += sampling.spread[2] * channels
        i += p.extent[2] - column
    return found


@inline
def run_start(run, p):
    """Where the first position of a run lies in a plane."""
    row = run * p.rows
    h = row % p.block[2]
    d = row // p.block[2] % p.block[1]
    n = row // (p.block[2] * p.block[1])
    return ((n * p.extent[0] + d) * p.extent[1] + h) * p.extent[2]


@inline
def pixel_of(row, size, p):
    """(image, d, h, whether it is there) of a row of pixels of a block."""
    h = row % p.block[2]
    d = row // p.block[2] % p.block[1]
    n = row // (p.block[2] * p.block[1])
    return n, d, h, n < size[0] and d < size[1] and h < size[2]


@inline
def place_of(n, d, h, w, origin, sampling):
    """The number of an output position, through images and axes."""
    od = sampling.start[0] + (origin[1] + d) * sampling.spread[0]
    oh = sampling.start[1] + (origin[2] + h) * sampling.spread[1]
    ow = sampling.start[2] + (origin[3] + w) * sampling.spread[2]
    return (((origin[0] + n) * sampling.output[0] + od) * sampling.output[1] + oh) * sampling.output[2] + ow


@kernel
def write_first(y, sums, bias, group, panel, run, t, origin, size, sampling, p, relu):
    """Write the sums [position, filter] of a tile, transposed behind them, to the pixels that are there."""
    turned = BLOCK * BLOCK
    for half in range(4):
        i, f = half // 2 * LANES, half % 2 * LANES
        transpose(sums, i * BLOCK + f, BLOCK, sums, turned + f * BLOCK + i, BLOCK)
    f0 = panel * BLOCK
    filters = min(BLOCK, sampling.filters - f0)
    b0 = group * sampling.filters + f0
    plane = sampling.output[0] * sampling.output[1] * sampling.output[2]
    spread = sampling.spread[2]
    found, i = 0, 0
    while i < BLOCK:
        row, column = (t + i) // p.extent[2], (t + i) % p.extent[2]
        if row >= p.rows:
            break
        n, d, h, there = pixel_of(run * p.rows + row, size, p)
        count = min(size[3] - column, LANES, BLOCK - i) if there else 0
        if count <= 0:
            i += p.extent[2] - column
            continue
        image = (origin[0] + n) * sampling.groups * sampling.filters + b0
        at = place_of(0, d, h, column, (0, origin[1], origin[2], origin[3]), sampling) + image * plane
        for f in range(filters):
            source = turned + f * BLOCK + i
            if spread == 1:
                found |= write_sums(sums, source, bias, b0 + f, 0, y, at, count, relu)
            else:
                found |= write_sums(sums, source, bias, b0 + f, 0, sums, source, count, relu)
                for j in range(count):
                    put(y, at + j * spread, get(sums, source + j))
            at += plane
        i += count
    return found
