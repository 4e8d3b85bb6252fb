"""Patches of an input, packed block by block: what an implicit GEMM multiplies, never a whole im2col matrix.

A Sampling says which input position each output pixel and tap meet; it serves the forward pass, each phase
of a strided input gradient and the weight gradient alike. Pixels are numbered through the batch and all
three axes; a block of them is a list of runs, each along the innermost axis of one image.
"""

from typing import NamedTuple

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.microkernel_parts import copy_run


class Sampling(NamedTuple):
    """Output pixel o and tap t of an axis meet at input position o * step + offset[t].

    Pixel o of `count` is written at output position start + o * spread. All tuples have three axes.
    """

    batch: int
    groups: int
    channels: int  # read, in one group
    filters: int  # written, in one group
    taps: int
    line: int  # taps in a row that read adjacent pixels of all channels: contiguous memory, channels last
    size: tuple  # input positions
    output: tuple  # output positions
    count: tuple  # pixels computed
    start: tuple
    spread: tuple
    step: tuple


# Fields of a run: image, pixel along each axis, place in the block, length.
RUN_FIELDS = 6


@inline
def ceil_div(a, b):
    """a / b rounded up."""
    return -(-a // b)


@kernel
def list_runs(runs, first, last, count):
    """Write the runs of pixels first to last; give their number. `runs` holds one for every pixel."""
    found = 0
    pixel = first
    while pixel < last:
        q = pixel % count[2]
        row = pixel // count[2]
        at = found * RUN_FIELDS
        length = min(count[2] - q, last - pixel)
        runs[at] = row // (count[1] * count[0])
        runs[at + 1] = row // count[1] % count[0]
        runs[at + 2] = row % count[1]
        runs[at + 3] = q
        runs[at + 4] = pixel - first
        runs[at + 5] = length
        pixel += length
        found += 1
    return found


@inline
def inside(q, length, step, offset, size):
    """(low, high): which of `length` pixels from q on read inside an axis of `size` positions."""
    position = q * step + offset
    low = 0
    if position < 0:
        low = min(length, (step - 1 - position) // step)
    high = low
    if size > position:
        high = max(low, min(length, (size - 1 - position) // step + 1))
    return low, high


@kernel
def pack_patches_first(patches, base, stride, x, sampling, offsets, group, depth_first, depth_last, runs, found):
    """patches[base + (k - depth_first) * stride + pixel] for x channels first; depth is channel-major, tap-minor."""
    depth_size, height, width = sampling.size
    taps, step = sampling.taps, sampling.step[2]
    plane = depth_size * height * width
    for r in range(found):
        run = r * RUN_FIELDS
        q, length = runs[run + 3], runs[run + 5]
        image = (runs[run] * sampling.groups + group) * sampling.channels * plane
        for t in range(taps):
            d = runs[run + 1] * sampling.step[0] + offsets[3 * t]
            h = runs[run + 2] * sampling.step[1] + offsets[3 * t + 1]
            low, high = length, length
            if d >= 0 and d < depth_size and h >= 0 and h < height:
                low, high = inside(q, length, step, offsets[3 * t + 2], width)
            place = image + (d * height + h) * width + q * step + offsets[3 * t + 2]
            # Channels are the innermost of the three loops: all of the above is the same for them.
            for c in range(ceil_div(depth_first - t, taps), ceil_div(depth_last - t, taps)):
                at = base + (c * taps + t - depth_first) * stride + runs[run + 4]
                source = place + c * plane
                for i in range(low):
                    put(patches, at + i, 0)
                # Loops of a constant step become vector loads and shuffles.
                if step == 1:
                    copy_run(patches, at + low, x, source + low, high - low)
                elif step == 2:
                    for i in range(low, high):
                        put(patches, at + i, get(x, source + 2 * i))
                else:
                    for i in range(low, high):
                        put(patches, at + i, get(x, source + step * i))
                for i in range(high, length):
                    put(patches, at + i, 0)


@kernel
def pack_patches_last(patches, base, stride, x, sampling, offsets, group, depth_first, depth_last, runs, found):
    """patches[base + pixel * stride + k - depth_first] for x channels last; depth is tap-major, channel-minor."""
    depth_size, height, width = sampling.size
    channels = sampling.channels
    pitch = sampling.groups * channels
    segment = sampling.line * channels
    step = sampling.step[2]
    for r in range(found):
        run = r * RUN_FIELDS
        length = runs[run + 5]
        # Pixels are the inner loop: what a segment means is found once for all pixels of a run.
        for begin in range(depth_first // segment * segment, depth_last, segment):
            k, end = max(begin, depth_first), min(depth_last, begin + segment)
            tap = begin // channels * 3
            d = runs[run + 1] * sampling.step[0] + offsets[tap]
            h = runs[run + 2] * sampling.step[1] + offsets[tap + 1]
            w = runs[run + 3] * step + offsets[tap + 2]
            row = base + runs[run + 4] * stride - depth_first
            source = (((runs[run] * depth_size + d) * height + h) * width + w) * pitch + group * channels - begin
            low, high = length, length  # pixels that see the whole segment
            outside = d < 0 or d >= depth_size or h < 0 or h >= height
            if not outside:
                low, high = inside(runs[run + 3], length, step, offsets[tap + 2], width - sampling.line + 1)
            i = 0
            while i < length:
                if i < low or i >= high:
                    first, last = k, k
                    if not outside:
                        column = w + i * step
                        first = min(end, max(k, begin - column * channels))
                        last = max(first, min(end, begin + (width - column) * channels))
                    at, place = row + i * stride, source + i * step * pitch
                    for m in range(k, first):
                        put(patches, at + m, 0)
                    copy_run(patches, at + first, x, place + first, last - first)
                    for m in range(last, end):
                        put(patches, at + m, 0)
                    i += 1
                else:
                    at, place = row + k, source + k
                    for j in range(i, high):
                        copy_run(patches, at + j * stride, x, place + j * step * pitch, end - k)
                    i = high
