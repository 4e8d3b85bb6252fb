"""Convolution with a group for every input channel, by kernels of its own: a GEMM would have nothing to reuse."""

import math

from fastconv.arrays import accumulator
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace


def forward(x, w, b, window, activation=None):
    """y [N, K, *output] of x [N, C, *size], w [K, 1, *kernel] and b [K] or None; see fastconv.backend."""
    with launch("conv_forward", x, w, b) as gpu:
        last = is_channels_last(x)
        xs, ws, bs = dense(gpu, x, last), dense(gpu, w), dense(gpu, b)
        y = gpu.empty(window.output_shape, x.dtype, last)
        gpu.extension.depthwise_forward(
            gpu.dtype(x),
            gpu.format(last),
            gpu.read(xs),
            gpu.read(ws),
            gpu.read(bs),
            gpu.write(y),
            gpu.window(window),
            gpu.activation(activation),
            gpu.stream,
        )
    return y


def input_grad(dy, w, b, window):
    """dx [N, C, *size] of dy [N, K, *output], w [K, 1, *kernel] and b [C] or None; see fastconv.backend."""
    with launch("conv_input_grad", dy, w, b) as gpu:
        last = is_channels_last(dy)
        errors, ws, bs = dense(gpu, dy, last), dense(gpu, w), dense(gpu, b)
        dx = gpu.empty(window.input_shape, dy.dtype, last)
        gpu.extension.depthwise_input_grad(
            gpu.dtype(dy),
            gpu.format(last),
            gpu.read(errors),
            gpu.read(ws),
            gpu.read(bs),
            gpu.write(dx),
            gpu.window(window),
            gpu.stream,
        )
    return dx


def weight_grad(x, dy, window):
    """dw [K, 1, *kernel] of x [N, C, *size] and dy [N, K, *output]; see fastconv.backend."""
    with launch("conv_weight_grad", x, dy) as gpu:
        last = is_channels_last(x)
        xs, errors = dense(gpu, x, last), dense(gpu, dy, last)
        dw = gpu.empty(window.weight_shape, x.dtype)
        geometry, dtype, form = gpu.window(window), gpu.dtype(x), gpu.format(last)
        splits = gpu.extension.depthwise_weight_grad_splits(dtype, form, geometry)
        sums = accumulator(dw.dtype)
        splits = max(1, min(splits, get_max_workspace() // max(1, dw.size * sums.itemsize)))
        partial = gpu.workspace((splits, math.prod(window.weight_shape)), sums) if splits > 1 else None
        gpu.extension.depthwise_weight_grad(
            dtype,
            form,
            gpu.read(xs),
            gpu.read(errors),
            gpu.write(dw),
            gpu.write(partial),
            splits,
            geometry,
            gpu.stream,
        )
    return dw
