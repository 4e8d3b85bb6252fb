"""Convolution with one input channel a group, directly: a GEMM would have nothing to reuse.

Filter f reads channel f // multiplier. Channels first walks the pixels of a plane, channels last walks
channels of a pixel (multiplier 1 only); both are the vector lanes. The weight gradient sums a fixed number of
splits of the rows, then adds the splits in their order.
"""

import math
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_patches import inside
from fastconv.cpu.jit import get, kernel, put

SPLITS = 16  # of the rows of a channels-last weight gradient
CHUNK = 1024  # pixels whose sums stay in the L1 cache over all taps
_COPY = 1 << 14  # elements of the copy of a block, about


class Block(NamedTuple):
    """How depthwise_first cuts a plane."""

    size: tuple  # pixels along the first two axes; the third is never cut
    count: tuple  # blocks along them
    reach: tuple  # positions beyond the last pixel that taps read, in steps
    least: tuple  # offset of the tap that reads furthest ahead of the pixel


@kernel
def depthwise_first(first, last, x, w, bias, y, sampling, block, taps):
    """y for channels first; a task is one block of pixels of one plane of y.

    The block's part of x is copied with its padding, one sub-plane for each remainder that positions leave by
    the stride. Then every tap reads at a constant distance from the pixel, whichever row it is in, and a block is
    one long vector: a few sums beyond the ends of rows are computed and dropped.

    taps: Where each tap reads in the copy, from the pixel.
    """
    filters = sampling.groups * sampling.filters
    bo, bp = block.size
    blocks_o, blocks_p = block.count
    rows_d, rows_h, pitch = bo + block.reach[0], bp + block.reach[1], sampling.count[2] + block.reach[2]
    size = rows_d * rows_h * pitch
    copy = np.empty(size * sampling.step[0] * sampling.step[1] * sampling.step[2], x.dtype)
    sums = np.empty(bo * rows_h * pitch, x.dtype)
    for task in range(first, last):
        plane = task // (blocks_o * blocks_p)
        o0 = task // blocks_p % blocks_o * bo
        p0 = task % blocks_p * bp
        o1, p1 = min(sampling.count[0], o0 + bo), min(sampling.count[1], p0 + bp)
        f = plane % filters
        source = (plane // filters * sampling.groups + f // sampling.filters) * sampling.size[0]
        copy_padded(copy, x, source, sampling, block, o0, p0, rows_d, rows_h, pitch)
        length = ((o1 - o0 - 1) * rows_h + p1 - p0 - 1) * pitch + sampling.count[2]
        start = bias[f] if bias.size > 0 else x.dtype.type(0)
        for i in range(length):
            put(sums, i, start)
        for chunk in range(0, length, CHUNK):
            end = min(length, chunk + CHUNK)
            t = 0
            while t + 4 <= sampling.taps:  # four at a time, so that sums are loaded and stored less often
                at = f * sampling.taps + t
                w0, w1, w2, w3 = w[at], w[at + 1], w[at + 2], w[at + 3]
                t0, t1, t2, t3 = taps[t], taps[t + 1], taps[t + 2], taps[t + 3]
                for i in range(chunk, end):
                    pair = w0 * get(copy, t0 + i) + w1 * get(copy, t1 + i)
                    put(sums, i, get(sums, i) + pair + w2 * get(copy, t2 + i) + w3 * get(copy, t3 + i))
                t += 4
            while t < sampling.taps:
                w0, t0 = w[f * sampling.taps + t], taps[t]
                for i in range(chunk, end):
                    put(sums, i, get(sums, i) + w0 * get(copy, t0 + i))
                t += 1
        spread = sampling.spread[2]
        for o in range(o0, o1):
            d = sampling.start[0] + o * sampling.spread[0]
            for p in range(p0, p1):
                h = sampling.start[1] + p * sampling.spread[1]
                row = (plane * sampling.output[0] + d) * sampling.output[1] + h
                at = row * sampling.output[2] + sampling.start[2]
                place = ((o - o0) * rows_h + p - p0) * pitch
                if spread == 1:
                    for i in range(sampling.count[2]):
                        put(y, at + i, get(sums, place + i))
                else:
                    for i in range(sampling.count[2]):
                        put(y, at + i * spread, get(sums, place + i))


@kernel
def copy_padded(copy, x, source, sampling, block, o0, p0, rows_d, rows_h, pitch):
    """The part of one plane of x that a block of pixels reads, zeros for padding, a sub-plane a remainder."""
    least_d, least_h, least_w = block.least
    depth_size, height, width = sampling.size
    step = sampling.step[2]
    at = 0
    for phase_d in range(sampling.step[0]):
        for phase_h in range(sampling.step[1]):
            for phase_w in range(step):
                for k in range(rows_d):
                    d = (o0 + k) * sampling.step[0] + phase_d + least_d
                    for m in range(rows_h):
                        h = (p0 + m) * sampling.step[1] + phase_h + least_h
                        low, high = pitch, pitch
                        if d >= 0 and d < depth_size and h >= 0 and h < height:
                            low, high = inside(0, pitch, step, phase_w + least_w, width)
                        row = ((source + d) * height + h) * width + phase_w + least_w
                        for i in range(low):
                            put(copy, at + i, 0)
                        if step == 1:
                            for i in range(low, high):
                                put(copy, at + i, get(x, row + i))
                        else:
                            for i in range(low, high):
                                put(copy, at + i, get(x, row + i * step))
                        for i in range(high, pitch):
                            put(copy, at + i, 0)
                        at += pitch


@kernel
def depthwise_last(first, last, x, w, bias, y, sampling, offsets):
    """y for channels last, w stored [tap, channel]; a task is one row of pixels."""
    channels = sampling.groups
    length = sampling.count[2]
    sums = np.empty(length * channels, x.dtype)
    for task in range(first, last):
        image = task // (sampling.count[0] * sampling.count[1])
        o = task // sampling.count[1] % sampling.count[0]
        p = task % sampling.count[1]
        for q in range(length):
            for c in range(channels):
                put(sums, q * channels + c, get(bias, c) if bias.size > 0 else x.dtype.type(0))
        for t in range(sampling.taps):
            d = o * sampling.step[0] + offsets[3 * t]
            h = p * sampling.step[1] + offsets[3 * t + 1]
            if d < 0 or d >= sampling.size[0] or h < 0 or h >= sampling.size[1]:
                continue
            low, high = inside(0, length, sampling.step[2], offsets[3 * t + 2], sampling.size[2])
            row = ((image * sampling.size[0] + d) * sampling.size[1] + h) * sampling.size[2] + offsets[3 * t + 2]
            for q in range(low, high):
                source = (row + q * sampling.step[2]) * channels
                for c in range(channels):
                    product = get(x, source + c) * get(w, t * channels + c)
                    put(sums, q * channels + c, get(sums, q * channels + c) + product)
        d = sampling.start[0] + o * sampling.spread[0]
        h = sampling.start[1] + p * sampling.spread[1]
        row = ((image * sampling.output[0] + d) * sampling.output[1] + h) * sampling.output[2] + sampling.start[2]
        for q in range(length):
            at = (row + q * sampling.spread[2]) * channels
            for c in range(channels):
                put(y, at + c, get(sums, q * channels + c))


@kernel
def depthwise_weight_grad_first(first, last, x, dy, dw, sampling, offsets):
    """dw[filter, tap] for channels first; a task is one filter."""
    filters = sampling.groups * sampling.filters
    length = sampling.count[2]
    step = sampling.step[2]
    for f in range(first, last):
        for t in range(sampling.taps):
            put(dw, f * sampling.taps + t, 0)
        for image in range(sampling.batch):
            plane = (image * sampling.groups + f // sampling.filters) * sampling.size[0]
            for t in range(sampling.taps):
                total = x.dtype.type(0)
                low, high = inside(0, length, step, offsets[3 * t + 2], sampling.size[2])
                for o in range(sampling.count[0]):
                    d = o * sampling.step[0] + offsets[3 * t]
                    if d < 0 or d >= sampling.size[0]:
                        continue
                    for p in range(sampling.count[1]):
                        h = p * sampling.step[1] + offsets[3 * t + 1]
                        if h < 0 or h >= sampling.size[1]:
                            continue
                        source = ((plane + d) * sampling.size[1] + h) * sampling.size[2] + offsets[3 * t + 2]
                        error = (((image * filters + f) * sampling.count[0] + o) * sampling.count[1] + p) * length
                        row = x.dtype.type(0)
                        if step == 1:
                            for i in range(low, high):
                                row += get(dy, error + i) * get(x, source + i)
                        else:
                            for i in range(low, high):
                                row += get(dy, error + i) * get(x, source + step * i)
                        total += row
                put(dw, f * sampling.taps + t, get(dw, f * sampling.taps + t) + total)


@kernel
def depthwise_weight_grad_last(first, last, x, dy, partial, sampling, offsets):
    """partial[split, tap, channel] for channels last; a task is one split of the rows of pixels."""
    channels = sampling.groups
    rows = sampling.batch * sampling.count[0] * sampling.count[1]
    for split in range(first, last):
        base = split * sampling.taps * channels
        for i in range(sampling.taps * channels):
            put(partial, base + i, 0)
        for row in range(rows * split // SPLITS, rows * (split + 1) // SPLITS):
            image = row // (sampling.count[0] * sampling.count[1])
            o = row // sampling.count[1] % sampling.count[0]
            p = row % sampling.count[1]
            for t in range(sampling.taps):
                d = o * sampling.step[0] + offsets[3 * t]
                h = p * sampling.step[1] + offsets[3 * t + 1]
                if d < 0 or d >= sampling.size[0] or h < 0 or h >= sampling.size[1]:
                    continue
                low, high = inside(0, sampling.count[2], sampling.step[2], offsets[3 * t + 2], sampling.size[2])
                line = ((image * sampling.size[0] + d) * sampling.size[1] + h) * sampling.size[2] + offsets[3 * t + 2]
                for q in range(low, high):
                    source = (line + q * sampling.step[2]) * channels
                    error = (row * sampling.count[2] + q) * channels
                    at = base + t * channels
                    for c in range(channels):
                        put(partial, at + c, get(partial, at + c) + get(dy, error + c) * get(x, source + c))


@kernel
def add_depthwise_splits(first, last, partial, dw, taps, channels):
    """dw[channel, tap] from the splits, in their order; a task is one tap."""
    for t in range(first, last):
        for c in range(channels):
            total = get(partial, t * channels + c)
            for split in range(1, SPLITS):
                total += get(partial, (split * taps + t) * channels + c)
            put(dw, c * taps + t, total)


def blocks(sampling, offsets):
    """(tasks, block, taps) of depthwise_first: blocks whose copy stays in the L2 cache, and where their taps read."""
    by_tap = offsets.reshape(-1, 3)
    least = by_tap.min(axis=0) if len(by_tap) else np.zeros(3, np.int64)
    step = np.array(sampling.step)
    reach = ((by_tap - least) // step).max(axis=0, initial=0)
    pitch = (sampling.count[2] + int(reach[2])) * math.prod(sampling.step)
    bp = min(sampling.count[1], max(8, _COPY // pitch))
    bo = min(sampling.count[0], max(1, _COPY // (pitch * (bp + int(reach[1])))))
    count_o, count_p = -(-sampling.count[0] // bo), -(-sampling.count[1] // bp)
    rows_d, rows_h, row = bo + int(reach[0]), bp + int(reach[1]), sampling.count[2] + int(reach[2])
    phase, place = (by_tap - least) % step, (by_tap - least) // step
    plane = (phase[:, 0] * step[1] + phase[:, 1]) * step[2] + phase[:, 2]
    taps = ((plane * rows_d + place[:, 0]) * rows_h + place[:, 1]) * row + place[:, 2]
    tasks = sampling.batch * sampling.groups * sampling.filters * count_o * count_p
    block = Block((bo, bp), (count_o, count_p), tuple(map(int, reach)), tuple(map(int, least)))
    return tasks, block, taps


def rows(sampling):
    """How many rows of pixels the result has."""
    return sampling.batch * sampling.count[0] * sampling.count[1]
