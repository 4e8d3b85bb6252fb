"""Resizing on a GPU: rows of dense images, of their channels at once where these are innermost.

Nearest and linear neighbours are computed by the kernels; those of cubics and filters are read from tables, which are
made on the host once a geometry.
"""

import functools
import math

import numpy

from fastconv import resize
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch

_COMPUTED = {"nearest": 1, "nearest-exact": 1, "linear": 2}  # taps of an axis that kernels compute


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    with launch("resize_forward", x) as gpu:
        axes = resize.axes(x.shape[2:], output, mode, align_corners, scales, x.dtype)
        return _resized(gpu, gpu.extension.resize_forward, x, output, axes, False)


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]; see fastconv.backend."""
    size = tuple(size)
    with launch("resize_input_grad", dy) as gpu:
        axes = resize.axes(size, dy.shape[2:], mode, align_corners, scales, dy.dtype)
        return _resized(gpu, gpu.extension.resize_input_grad, dy, size, axes, True)


def _resized(gpu, run, x, output, axes, back):
    last = is_channels_last(x)
    x = dense(gpu, x, last)
    y = gpu.empty((*x.shape[:2], *output), x.dtype, last)
    if y.size:
        outer, inner = (x.shape[0], x.shape[1]) if last else (math.prod(x.shape[:2]), 1)
        if axes[0].mode in _COMPUTED:
            missing = [gpu.extension.ResizeAxis(1, 1, 1.0, 0.0, 0.0, 0.0, 1)] * (3 - len(axes))
            compiled = [
                gpu.extension.ResizeAxis(a.size, a.output, a.scale, a.shift, a.offset, a.rise, _COMPUTED[a.mode])
                for a in axes
            ]
            run(gpu.dtype(x), gpu.read(x), gpu.write(y), outer, inner, missing + compiled, gpu.stream)
        else:
            shapes = ((1,) * (3 - len(axes)) + tuple(shape) for shape in (x.shape[2:], output))
            tables = [gpu.read(table) for table in _tables(gpu.namespace, _place(gpu, x), axes, back)]
            gpu.extension.resize_taps(
                gpu.dtype(x), gpu.read(x), gpu.write(y), outer, inner, *shapes, tables, gpu.stream
            )
    return y


def _place(gpu, x):
    """What tables may be shared by: calls on one stream of one device, where a copy is over before they are read."""
    return gpu.stream, None if gpu.namespace is numpy else x.device.id


@functools.lru_cache(maxsize=128)
def _tables(namespace, place, axes, back):
    """The tables of csrc/resize/taps.h, on the device."""
    *rows, columns = (None,) * (3 - len(axes)) + axes
    starts, row_positions, row_shares = resize.entries(rows, back, columns.dtype)
    counts, positions, shares = resize.padded(columns, back)
    reads = counts > 0
    first = numpy.where(reads, positions[0], columns.output if back else columns.size)
    behind = numpy.where(reads, positions[counts - 1, numpy.arange(counts.size)] + 1, 0)
    bounds = numpy.minimum.accumulate(first[::-1])[::-1], numpy.maximum.accumulate(behind)
    tables = starts, row_positions, row_shares, counts, numpy.stack(bounds), positions, shares
    return tuple(namespace.asarray(t if t.dtype.kind == "f" else t.astype(numpy.int32)) for t in tables)
