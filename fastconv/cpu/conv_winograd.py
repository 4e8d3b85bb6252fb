"""Winograd convolution: F(4x4, 3x3) in each plane, summed over the taps along depth.

The kernels serve windows of 3x3, or of 3x3 along the last two axes and any depth, of stride and dilation 1: forward,
and the input gradient, which is the same convolution with filters flipped, and filters and channels swapped.

A result errs in proportion to what its whole tile holds, not to the products of its own sum alone. Where one is not
finite, be it by its data or because a transform overflowed, its image is convolved directly.

The workspace is the transformed filters, four times as large as they are in 2-D, and about 2 MB a thread.
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
# Bytes of a block: at most this much of transformed inputs, and of products, so that both stay in an L2 cache of 2 MB.
_INPUT_BYTES, _PRODUCT_BYTES = 1_200_000, 550_000
_MOST_TILES = 56
_TASKS_PER_THREAD = 4  # planes are cut for these, though each cut transforms some planes twice
_FEWEST_PLANES = 4


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
    tiling = _tiling(sampling, offsets, xs.dtype)
    u = packed(
        w, ("winograd", strides, flipped, tiling.groups), lambda: _transformed(flat(w), tiling, strides, flipped)
    )
    bias = np.zeros(tiling.groups * tiling.filters + panel(xs.dtype), xs.dtype)
    bias[: bs.size] = bs
    bad = np.zeros(tiling.batch, np.uint8)
    least = xs.dtype.type(0 if activation == "relu" else -math.inf)
    blocks = -(-tiling.batch * tiling.rows * tiling.columns // tiling.block)
    tasks = tiling.groups * blocks * -(-tiling.output[0] // tiling.planes)
    work = ys.size * tiling.channels * sampling.taps / _SPEED
    parallel_for(kernels.convolve_blocks, tasks, work, xs, u, bias, least, ys, bad, tiling, channels_last)
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


def _transformed(ws, tiling, strides, flipped):
    """The transformed filters."""
    columns = panel(ws.dtype)
    tasks = tiling.groups * -(-tiling.filters // columns) * tiling.taps
    u = np.empty(tasks * POINTS * tiling.channels * columns, ws.dtype)
    parallel_for(kernels.transform_filters, tasks, u.size / _FILTER_SPEED, ws, u, strides, tiling, flipped)
    return u


def _tiling(sampling, offsets, dtype):
    taps = sampling.taps // (TAPS * TAPS)
    rows, columns = (-(-size // OUTPUTS) for size in sampling.output[1:])
    tiles = sampling.batch * rows * columns
    fitting = _INPUT_BYTES // (taps * POINTS * sampling.channels * dtype.itemsize * ROWS)
    most = ROWS * max(1, min(fitting, _MOST_TILES // ROWS))
    block = -(-tiles // (-(-tiles // most) * ROWS)) * ROWS
    width = panel(dtype)
    panels = max(1, _PRODUCT_BYTES // (POINTS * block * width * dtype.itemsize))
    planes = sampling.output[0]
    wanted = _TASKS_PER_THREAD * get_num_threads()  # may decide here: no sum depends on how planes are cut
    cuts = -(-wanted // (sampling.groups * -(-tiles // block)))
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
        planes=min(planes, max(_FEWEST_PLANES, -(-planes // cuts))),
    )
