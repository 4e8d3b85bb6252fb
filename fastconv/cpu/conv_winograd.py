"""Winograd convolution: F(4x4, 3x3) in each plane, summed over the taps along depth.

The kernels serve windows of 3x3, or of 3x3 along the last two axes and any depth, of stride and dilation 1: forward,
and the input gradient, which is the same convolution with filters flipped, and filters and channels swapped.

A result errs in proportion to what its whole tile holds, not to the products of its own sum alone. Where one is not
finite, be it by its data or because a transform overflowed, its image is convolved directly.

Where they fit the caches, the filters are transformed once and the inputs block by block. The many filters of deep
layers, and such as outnumber the tiles, are transformed in the blocks in which they are multiplied, once for each 128
tiles, and the inputs beforehand.
The workspace is four times the filters in the one case, at most 3 MB, and transformed inputs in the other, at most
32 MB or those of 16 tiles; and about 1.5 MB a thread.
"""

import math

import numpy as np

from fastconv.cpu import conv_implicit_gemm as implicit_gemm
from fastconv.cpu import conv_winograd_kernels as kernels
from fastconv.cpu.conv_activation import activate
from fastconv.cpu.conv_packing import packed
from fastconv.cpu.conv_winograd_transforms import OUTPUTS, POINTS, TAPS
from fastconv.cpu.layout import flat
from fastconv.cpu.microkernel import ROWS, panel
from fastconv.cpu.threads import get_num_threads, parallel_for

# Products of the direct algorithm, and transformed filters, in a nanosecond of one thread, roughly.
_SPEED, _FILTER_SPEED = 100, 2
# Bytes of transformed filters up to which they are transformed once, of the transformed inputs of a block, and of its
# products: filters and inputs stay in an L2 cache of 2 MB, and so do the products until they are transformed back.
_FILTER_BYTES, _INPUT_BYTES, _PRODUCT_BYTES = 3_000_000, 1_200_000, 140_000
_MOST_TILES = 28  # of such a block
_TASKS_PER_THREAD = 4  # planes are cut for these, though each cut transforms some planes twice
_FEWEST_PLANES = 4
# Where filters are transformed as they are needed: channels of a slice, and tiles that share a transformed filter.
_DEPTH, _SHARING = 64, 128
_PASS_BYTES, _FEWEST_TILES = 1 << 25, 16  # transformed inputs of a pass, at most, and its tiles, at least


def convolve(w, xs, bs, ys, samples, strides, channels_last, activation=None):
    """ys = activation(bs + w over xs), where conv_choice.is_winograd says so.

    Args:
        w: Filters, an array of any format.
        xs, bs, ys: Flat arrays; bs may be empty.
        samples: (Sampling, offsets, taps) of the forward pass, or of the one phase of the input gradient.
        strides: Elements of w, in C order, from one group, filter, channel to the next.
        activation: What follows, or None.
    """
    sampling, offsets, taps = samples
    flipped = bool(offsets[0] > offsets[-3] or offsets[2] > offsets[-1])
    bias = np.zeros(sampling.groups * sampling.filters + panel(xs.dtype), xs.dtype)
    bias[: bs.size] = bs
    bad = np.zeros(sampling.batch, np.uint8)
    least = xs.dtype.type(0 if activation == "relu" else -math.inf)
    tiling = _tiling(sampling, offsets, xs.dtype)
    work = ys.size * tiling.channels * sampling.taps / _SPEED
    if tiling.depth:
        ws, every = flat(w), tiling.batch * tiling.rows * tiling.columns
        for first in range(0, every, tiling.tiles):
            some = tiling._replace(first=first, tiles=min(tiling.tiles, every - first))
            v = _transformed_inputs(xs, some, channels_last)
            tasks = _parts(some) * -(-tiling.filters // (tiling.panels * panel(xs.dtype)))
            parallel_for(
                kernels.convolve_filters, tasks, work * some.tiles / every,
                v, ws, strides, flipped, bias, least, ys, bad, some, channels_last,
            )  # fmt: skip
    else:
        key = ("winograd", strides, flipped, tiling.groups)
        u = packed(w, key, lambda: _transformed_filters(flat(w), tiling, strides, flipped))
        parallel_for(kernels.convolve_blocks, _parts(tiling), work, xs, u, bias, least, ys, bad, tiling, channels_last)
    image, result = xs.size // tiling.batch, ys.size // tiling.batch
    for n in np.flatnonzero(bad):
        again = ys[n * result : (n + 1) * result]
        one = sampling._replace(batch=1)
        source = xs[n * image : (n + 1) * image]
        implicit_gemm.multiply(source, flat(w), bs, again, one, offsets, taps, strides, channels_last)
        if activation == "relu":
            activate(again, activation)
    if activation != "relu":
        activate(ys, activation)


def _transformed_filters(ws, tiling, strides, flipped):
    """The transformed filters."""
    columns = panel(ws.dtype)
    tasks = tiling.groups * -(-tiling.filters // columns) * tiling.taps
    u = np.empty(tasks * POINTS * (tiling.channels + 1) * columns, ws.dtype)
    parallel_for(kernels.transform_filters, tasks, u.size / _FILTER_SPEED, ws, u, strides, tiling, flipped)
    return u


def _transformed_inputs(xs, tiling, channels_last):
    """The transformed inputs of a pass."""
    slices = tiling.groups * -(-tiling.channels // tiling.depth)
    rows = tiling.size[0] * tiling.tiles + ROWS
    _, step = kernels.row_and_step.py_func(rows, tiling.depth, panel(xs.dtype) // 2)
    v = np.empty(slices * POINTS * step, xs.dtype)
    tasks = slices * tiling.size[0] * -(-tiling.tiles // (2 * kernels.RUN))
    parallel_for(kernels.transform_all_inputs, tasks, v.size / _FILTER_SPEED, xs, v, tiling, channels_last)
    return v


def _parts(tiling):
    """How many blocks of tiles and planes there are, in all groups."""
    return tiling.groups * -(-tiling.tiles // tiling.block) * -(-tiling.output[0] // tiling.planes)


def _is_deep(sampling, tiles, dtype):
    """Whether filters are transformed as they are needed."""
    taps = sampling.taps // (TAPS * TAPS)
    size = POINTS * taps * sampling.channels * sampling.filters * dtype.itemsize
    return size > _FILTER_BYTES or tiles < taps * sampling.filters


def _tiling(sampling, offsets, dtype):
    taps = sampling.taps // (TAPS * TAPS)
    rows, columns = (-(-size // OUTPUTS) for size in sampling.output[1:])
    tiles = sampling.batch * rows * columns
    width = panel(dtype)
    planes = sampling.output[0]
    if _is_deep(sampling, tiles * planes, dtype):
        depth = min(-(-sampling.channels // width) * width, _DEPTH)
        one = POINTS * sampling.groups * sampling.channels * sampling.size[0] * dtype.itemsize
        tiles = min(tiles, max(_FEWEST_TILES, _PASS_BYTES // one))
        panels = sampling.groups * -(-sampling.filters // width)
        sharing = min(_SHARING, max(_FEWEST_TILES, tiles * planes * panels // get_num_threads()))  # may decide here too
        blocks = -(-tiles // sharing)
        block = -(-tiles // blocks)
        planes = min(planes, max(1, sharing // block)) if blocks == 1 else 1
        panels = 1
    else:
        depth = 0
        fitting = _INPUT_BYTES // (taps * POINTS * sampling.channels * dtype.itemsize * ROWS)
        most = ROWS * max(1, min(fitting, _MOST_TILES // ROWS))
        block = -(-tiles // (-(-tiles // most) * ROWS)) * ROWS
        panels = max(1, _PRODUCT_BYTES // (POINTS * block * width * dtype.itemsize))
        wanted = _TASKS_PER_THREAD * get_num_threads()  # may decide here: no sum depends on how planes are cut
        cuts = -(-wanted // (sampling.groups * -(-tiles // block)))
        planes = min(planes, max(_FEWEST_PLANES, -(-planes // cuts)))
    return kernels.Tiling(
        batch=sampling.batch,
        groups=sampling.groups,
        channels=sampling.channels,
        filters=sampling.filters,
        size=sampling.size,
        output=sampling.output,
        before=tuple(-int(axis) for axis in offsets.reshape(-1, 3).min(axis=0)),
        taps=taps,
        rows=rows,
        columns=columns,
        first=0,
        tiles=tiles,
        block=block,
        panels=min(panels, -(-sampling.filters // width)),
        planes=planes,
        depth=depth,
    )
