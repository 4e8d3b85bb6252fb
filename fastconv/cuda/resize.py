"""Resizing on a GPU: rows of dense images, of their channels at once where these are innermost."""

import math

from fastconv import resize
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    with launch("resize_forward", x) as gpu:
        axes = resize.axes(x.shape[2:], output, mode, align_corners, scales, x.dtype)
        return _resized(gpu, gpu.extension.resize_forward, x, output, axes)


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]; see fastconv.backend."""
    size = tuple(size)
    with launch("resize_input_grad", dy) as gpu:
        axes = resize.axes(size, dy.shape[2:], mode, align_corners, scales, dy.dtype)
        return _resized(gpu, gpu.extension.resize_input_grad, dy, size, axes)


def _resized(gpu, run, x, output, axes):
    last = is_channels_last(x)
    x = dense(gpu, x, last)
    y = gpu.empty((*x.shape[:2], *output), x.dtype, last)
    if y.size:
        outer, inner = (x.shape[0], x.shape[1]) if last else (math.prod(x.shape[:2]), 1)
        missing = [gpu.extension.ResizeAxis(1, 1, 1.0, 0.0, 0.0, 0.0, 1)] * (3 - len(axes))
        compiled = [
            gpu.extension.ResizeAxis(a.size, a.output, a.scale, a.shift, a.offset, a.rise, 2 if a.linear else 1)
            for a in axes
        ]
        run(gpu.dtype(x), gpu.read(x), gpu.write(y), outer, inner, missing + compiled, gpu.stream)
    return y
