"""Winograd convolution: F(4x4, 3x3) in each plane, summed over the taps along depth.

The kernels serve windows of 3x3, or of 3x3 along the last two axes and any depth, of stride and dilation 1: forward,
and the input gradient, which is the same convolution with filters flipped, and filters and channels swapped.

A result errs in proportion to what its whole tile holds, not to the products of its own sum alone. Where one is not
finite, be it by its data or because a transform overflowed, its image is convolved directly.

Where they fit the caches, the filters are transformed once and the inputs block by block. The many filters of deep
layers are transformed in the blocks in which they are multiplied, once for each 256 tiles, and the inputs beforehand.
The workspace is four times the filters in the one case, at most 3 MB, and 2.25 times the inputs, with what their tiles
go beyond them, in the other; and about 1.5 MB a thread.
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
_DEPTH, _SHARING = 64, 256


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
    parts = tiling.groups * -(-tiling.batch * tiling.rows * tiling.columns // tiling.block)
    parts *= -(-tiling.output[0] // tiling.planes)
    work = ys.size * tiling.channels * sampling.taps / _SPEED
    if tiling.depth:
        v = _transformed_inputs(xs, tiling, channels_last)
        tasks = parts * -(-tiling.filters // (tiling.panels * panel(xs.dtype)))
        parallel_for(
            kernels.convolve_filters, tasks, work,
            v, flat(w), strides, flipped, bias, least, ys, bad, tiling, channels_last,
        )  # fmt: skip
    else:
        key = ("winograd", strides, flipped, tiling.groups)
        u = packed(w, key, lambda: _transformed_filters(flat(w), tiling, strides, flipped))
        parallel_for(kernels.convolve_blocks, parts, work, xs, u, bias, least, ys, bad, tiling, channels_last)
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
    """The transformed inputs, all of them."""
    tiles = tiling.batch * tiling.rows * tiling.columns
    slices = tiling.groups * -(-tiling.channels // tiling.depth)
    lanes = panel(xs.dtype) // 2
    _, step = kernels.row_and_step.py_func(tiling.size[0] * tiles + ROWS, tiling.depth, lanes)
    v = np.empty(slices * POINTS * step, xs.dtype)
    work = v.size / _FILTER_SPEED
    parallel_for(kernels.transform_all_inputs, slices * tiling.size[0], work, xs, v, tiling, channels_last)
    return v


def _tiling(sampling, offsets, dtype):
    taps = sampling.taps // (TAPS * TAPS)
    rows, columns = (-(-size // OUTPUTS) for size in sampling.output[1:])
    tiles = sampling.batch * rows * columns
    width = panel(dtype)
    filters_bytes = POINTS * taps * sampling.channels * sampling.filters * dtype.itemsize
    planes = sampling.output[0]
    if filters_bytes > _FILTER_BYTES:
        depth = min(-(-sampling.channels // width) * width, _DEPTH)
        blocks = -(-tiles // _SHARING)
        block = -(-tiles // blocks)
        planes = min(planes, _SHARING // block) if blocks == 1 else 1
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
        block=block,
        panels=min(panels, -(-sampling.filters // width)),
        planes=planes,
        depth=depth,
    )
