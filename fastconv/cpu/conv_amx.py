"""Convolution on the tile registers of AMX: float32 in, float32 out, bfloat16 pieces inside.

    y[n, k, p] = b[k] + sum over c, t of x[n, c, p * step + offset[t]] * w[k, c, t]

A task has a block of output pixels. It splits the input under them once, zeros where padding is, into planes of pieces;
a position that a tap reads then lies a fixed distance from that of the output pixel, so that each tap reads the same
planes elsewhere and nothing is repeated for it. Rows of pixels follow each other in a plane with the zeros between
them: 32 adjacent positions are multiplied together, those that no pixel stands for too, and left out when sums are
written. Strides put every phase of positions into a plane of its own.

Rows of tiles are positions, columns filters. Channels-first input is transposed while it is split, and so are finished
sums while they are written. Every result is one chain of steps whatever the blocks are.
"""

import functools
import math

import numpy as np

from fastconv import blocks
from fastconv.cpu import amx as tiles
from fastconv.cpu.amx import BLOCK, DEPTH, STEP
from fastconv.cpu.conv_amx_kernels import WRITTEN, Plan, convolve, pack_weights
from fastconv.cpu.conv_packing import packed
from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.layout import flat
from fastconv.cpu.modes import Mode
from fastconv.cpu.split import LANES, NOT_FINITE, PIECES, TINY
from fastconv.cpu.threads import get_num_threads, parallel_for

# Bytes of the planes of a block: beside one panel of filters they stay in the L2 cache.
_PLANES = 768 << 10
# Multiply-adds in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread.
_SPEED = 200
_TASKS_PER_THREAD = 2  # more would split the same input more often
# Fewer channels or filters leave tiles empty; splitting inputs and writing results has to be shared by many products.
_FEWEST, _FEWEST_PRODUCTS = 32, 128
# Splitting filters has to be shared by many pixels.
_FEWEST_PIXELS, _FEWEST_SPREAD = 256, 2048

_mode = Mode("amx", ("auto", "off"))


def get_amx():
    """When convolutions on the CPU take the tile registers of AMX.

    Returns:
        "auto" or "off"; see set_amx.

    Raises:
        ShapeError: FASTCONV_AMX, the default, is neither.
    """
    return _mode.get()


def set_amx(mode):
    """Choose when convolutions on the CPU take the tile registers of AMX, in all threads.

    Tiles multiply bfloat16. A float32 number is split into three of them exactly, and results are within the same
    bounds, element by element, as without; bits differ. Processors without AMX are not affected.

    Args:
        mode: "auto", the default, in float32 and halves where it is faster; "off", never.

    Raises:
        DTypeError: mode is no str.
        ShapeError: mode is neither.
    """
    _mode.set(mode)


def amx(mode):
    """Within the block, take the tile registers of AMX when `mode` says, in all threads.

    Args:
        mode: As for set_amx.

    Returns:
        A context manager; what was chosen before returns at its end.
    """
    return _mode.within(mode)


def is_amx(sampling, dtype, channels_last):
    """Whether tiles serve this sampling, rather than the implicit GEMM."""
    return dtype == np.float32 and get_amx() == "auto" and tiles.available() and _pays(sampling, channels_last)


@functools.lru_cache(maxsize=1024)
def _pays(sampling, channels_last):
    """Whether tiles are faster: measured on the layers of ResNet-50 and of a 3-D U-Net."""
    fewest = min(sampling.channels, sampling.filters)
    pixels = sampling.batch * math.prod(sampling.count)
    if fewest < _FEWEST or fewest * sampling.taps < _FEWEST_PRODUCTS or pixels < _FEWEST_PIXELS:
        return False
    if max(sampling.step) > 1 and sampling.taps > 1:  # planes for every phase, and in volumes eight of them
        return channels_last and sampling.count[0] == 1
    # Results that lie apart are written one by one where channels come first.
    return channels_last or max(sampling.spread) == 1 or pixels >= _FEWEST_SPREAD


@functools.lru_cache(maxsize=1024)
def plan(sampling, offsets):
    """(Plan, phases [n * 3], taps [taps * 2]) for offsets as bytes: the phase that each tap reads, and how far on."""
    by_tap = np.frombuffer(offsets, np.int64).reshape(-1, 3)
    step = np.array(sampling.step)
    phase, place = by_tap % step, by_tap // step
    least = place.min(axis=0)
    reach = place.max(axis=0) - least
    phases, which = np.unique(phase, axis=0, return_inverse=True)
    chunks = ceil_div(sampling.channels, DEPTH)
    room = _PLANES // (4 * LANES * PIECES * chunks * len(phases))
    block = _block((sampling.batch, *sampling.count), (0, *reach.tolist()), room)
    images, *pixels = block
    extent = tuple(p + r for p, r in zip(pixels, reach.tolist(), strict=True))
    rows, runs = pixels[1], images * pixels[0]
    if reach[1] == 0:  # rows of the next plane follow without a gap
        rows, runs = rows * pixels[0], images
        if reach[0] == 0:
            rows, runs = rows * images, 1
    shift = ((place - least) @ np.array([extent[1] * extent[2], extent[2], 1])).astype(np.int64)
    found = Plan(
        block=block,
        blocks=tuple(ceil_div(n, b) for n, b in zip((sampling.batch, *sampling.count), block, strict=True)),
        extent=extent,
        least=tuple(least.tolist()),
        rows=rows,
        runs=runs,
        positions=images * math.prod(extent) + int(shift.max()) + BLOCK,
        chunks=chunks,
        phases=len(phases),
    )
    taps = np.stack([which.reshape(-1), shift], axis=1).astype(np.int64)
    return found, phases.astype(np.int64).reshape(-1), taps.reshape(-1)


def _block(count, reach, room):
    """As many pixels of each axis as have room for what they read: whole lines first, then what repeats least."""
    block = [1, 1, 1, min(count[3], max(1, room - reach[3]))]

    def fits(axis):
        grown = [b + (i == axis) for i, b in enumerate(block)]
        return block[axis] < count[axis] and math.prod(b + r for b, r in zip(grown, reach, strict=True)) <= room

    while growing := [axis for axis in (1, 2) if fits(axis)]:
        block[max(growing, key=lambda axis: reach[axis] / block[axis])] += 1
    inner = math.prod(b + r for b, r in zip(block[1:], reach[1:], strict=True))
    block[0] = min(count[0], max(1, room // inner)) if block[1:] == list(count[1:]) else 1
    return tuple(ceil_div(n, ceil_div(n, b)) for n, b in zip(count, block, strict=True))


def multiply(xs, w, bs, ys, sampling, offsets, taps, strides, channels_last, relu=False):
    """ys = bs + the taps of w over xs; arguments as of conv_implicit_gemm.multiply, float32.

    Returns:
        Whether it is done. It is not where infinities, NaN or the smallest numbers are involved, which tiles treat in a
        way of their own: all of ys is then to be computed anew.
    """
    p, phases, reads = plan(sampling, offsets.tobytes())
    filters, met = _packed_filters(w, sampling, taps, strides)
    if met & NOT_FINITE:
        return False
    positions = p.positions * PIECES * LANES
    reads = reads.reshape(-1, 2)
    chunk_starts = np.arange(p.chunks)[:, None] * positions
    table = (reads[:, 0] * p.chunks * positions + reads[:, 1] * LANES + chunk_starts).reshape(-1)
    panels = ceil_div(sampling.filters, BLOCK)
    pieces = sampling.groups * math.prod(p.blocks)
    threads = get_num_threads()  # may decide here: no sum depends on how filters are shared out
    shares = min(panels, ceil_div(_TASKS_PER_THREAD * threads, pieces)) if threads > 1 else 1
    per_task = ceil_div(panels, shares)
    tasks = pieces * ceil_div(panels, per_task)
    flags = np.zeros(tasks, np.int64)
    if bs.size == 0:
        bs = np.zeros(sampling.groups * sampling.filters, np.float32)
    work = sampling.groups * sampling.filters * sampling.channels * sampling.taps
    work *= sampling.batch * math.prod(sampling.count) / _SPEED
    parallel_for(
        convolve, tasks, work,
        xs, filters, bs, ys, sampling, p, phases, table, per_task, channels_last, relu, flags, tiles.available(),
    )  # fmt: skip
    flags |= met
    lost = (flags & (NOT_FINITE | NOT_FINITE * WRITTEN) > 0) | (flags & TINY > 0) & (flags & TINY * WRITTEN > 0)
    return not lost.any()


def _packed_filters(w, sampling, taps, strides):
    """(filters, flags of what is among them)."""
    panels = sampling.groups * ceil_div(sampling.filters, BLOCK)
    steps = ceil_div(sampling.channels, DEPTH) * sampling.taps

    def make():
        result = blocks.empty((panels * steps * STEP,), np.dtype(np.int32))
        flags = np.zeros(panels, np.int64)
        parallel_for(pack_weights, panels, result.size / 2, flat(w), result, sampling, taps, strides, flags)
        return result, int(np.bitwise_or.reduce(flags))

    return packed(w, ("amx", sampling.groups, sampling.filters, sampling.channels, taps.tobytes(), strides), make)
