"""Convolution on the GPU: which kernel serves a problem, and in which pieces.

    depthwise             every filter sees one channel: see conv_depthwise.py
    implicit_gemm         a tile of 64 x 64 results a block
    implicit_gemm_large   128 x 128, twice the arithmetic for each element read; only where it fills a GPU

Filters are read channels last whatever the format of the images: taps are then the outer loop, and padding and
offsets change once a tap. Those stored otherwise are copied, as are images that are not dense.
"""

import math

from fastconv.arrays import accumulator
from fastconv.cuda import conv_depthwise as depthwise
from fastconv.cuda.choice import Problem, anything, choose, is_depthwise, register
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace

_TILE = 64
_LARGE_TILE = 128
_FULL = 132  # blocks that occupy every multiprocessor of an H100 SXM; other GPUs have fewer or not many more
_SPLIT_PIXELS = 128  # a split sums at least so many pixels: fewer would not be worth its part of the workspace
_PART_ELEMENTS = 4096  # and a part of a bias gradient at least so many: 16 a thread


def conv_forward(x, w, b, window, activation=None):
    """y [N, K, *output]; see fastconv.backend."""
    with launch("conv_forward", x, w, b) as gpu:
        last = is_channels_last(x)
        algorithm = choose("conv_forward", _problem(gpu, x, window, last))
        if algorithm == "depthwise":
            return depthwise.forward(x, w, b, window, activation)
        y = gpu.empty(window.output_shape, x.dtype, last)
        if y.size:
            xs, ws, bs = dense(gpu, x, last), dense(gpu, w, last=True), dense(gpu, b)
            gpu.extension.conv_forward_implicit_gemm(
                gpu.dtype(xs),
                gpu.format(last),
                algorithm == "implicit_gemm_large",
                gpu.read(xs),
                gpu.read(ws),
                gpu.read(bs),
                gpu.write(y),
                gpu.window(window),
                gpu.activation(activation),
                gpu.stream,
            )
        return y


def conv_input_grad(dy, w, b, window):
    """dx [N, C, *size], plus b [C]; see fastconv.backend."""
    with launch("conv_input_grad", dy, w, b) as gpu:
        last = is_channels_last(dy)
        algorithm = choose("conv_input_grad", _problem(gpu, dy, window, last))
        if algorithm == "depthwise":
            return depthwise.input_grad(dy, w, b, window)
        dx = gpu.empty(window.input_shape, dy.dtype, last)
        if dx.size:
            errors, ws, bs = dense(gpu, dy, last), dense(gpu, w, last=True), dense(gpu, b)
            gpu.extension.conv_input_grad_implicit_gemm(
                gpu.dtype(errors),
                gpu.format(last),
                algorithm == "implicit_gemm_large",
                gpu.read(errors),
                gpu.read(ws),
                gpu.read(bs),
                gpu.write(dx),
                gpu.window(window),
                gpu.stream,
            )
        return dx


def conv_weight_grad(x, dy, window):
    """dw [K, C // groups, *kernel], in the format of x; see fastconv.backend."""
    with launch("conv_weight_grad", x, dy) as gpu:
        last = is_channels_last(x)
        dtype = x.dtype.newbyteorder("=")
        if not math.prod(window.weight_shape) or not dy.size or not x.size:
            return gpu.namespace.zeros(window.weight_shape, dtype)
        algorithm = choose("conv_weight_grad", _problem(gpu, x, window, last))
        if algorithm == "depthwise":
            return depthwise.weight_grad(x, dy, window)
        large = algorithm == "implicit_gemm_large"
        xs, errors = dense(gpu, x, last), dense(gpu, dy, last)
        dw = gpu.empty(window.weight_shape, dtype, last)
        splits = _splits(window, large, accumulator(dtype).itemsize)
        partial = gpu.workspace((splits, dw.size), accumulator(dtype)) if splits > 1 else None
        gpu.extension.conv_weight_grad_implicit_gemm(
            gpu.dtype(xs),
            gpu.format(last),
            large,
            gpu.read(xs),
            gpu.read(errors),
            gpu.write(dw),
            gpu.write(partial),
            splits,
            gpu.window(window),
            gpu.stream,
        )
        return dw


def conv_bias_grad(dy):
    """db [K]; see fastconv.backend."""
    with launch("conv_bias_grad", dy) as gpu:
        batch, channels, *size = dy.shape
        dtype = dy.dtype.newbyteorder("=")
        if not dy.size:
            return gpu.namespace.zeros((channels,), dtype)
        positions = math.prod(size)
        last = is_channels_last(dy)
        errors = dense(gpu, dy, last)
        db = gpu.empty((channels,), dtype)
        parts = _parts(batch * positions, channels, accumulator(dtype).itemsize)
        partial = gpu.workspace((parts, channels), accumulator(dtype)) if parts > 1 else None
        gpu.extension.conv_bias_grad(
            gpu.dtype(errors),
            gpu.format(last or positions == 1),
            gpu.read(errors),
            gpu.write(db),
            gpu.write(partial),
            parts,
            batch,
            channels,
            positions,
            gpu.stream,
        )
        return db


def _problem(gpu, array, window, last):
    return Problem(window, array.dtype.name, last, gpu.architecture, array.shape)


def _blocks(rows, columns, tile):
    return -(-rows // tile) * -(-columns // tile)


def _fits_large(problem, rows, columns):
    """Whether large tiles of these rows and columns, those of one group, fill a GPU."""
    large_enough = min(rows, columns) > _TILE
    blocks = problem.geometry.groups * _blocks(rows, columns, _LARGE_TILE)
    return _has_large(problem) and large_enough and blocks >= _FULL


def _has_large(problem):
    """Whether there is a large tile: of float64 it would need more registers than a thread has."""
    return problem.dtype != "float64"


def _forward_fits_large(problem):
    w = problem.geometry
    return _fits_large(problem, w.filters // w.groups, w.batch * math.prod(w.output))


def _input_grad_fits_large(problem):
    w = problem.geometry
    pixels = w.batch * math.prod(-(-size // stride) for stride, size in zip(w.stride, w.size, strict=True))
    return _fits_large(problem, w.channels // w.groups, pixels)  # of one phase


def _weight_grad_fits_large(problem):
    """Rows and columns are few, but splits fill the GPU."""
    w = problem.geometry
    rows, columns = w.filters // w.groups, w.channels // w.groups * math.prod(w.kernel)
    return _has_large(problem) and min(rows, columns) > _TILE


def _splits(window, large, itemsize):
    """Among how many blocks the pixels of one tile of dw are split."""
    tile = _LARGE_TILE if large else _TILE
    rows, columns = window.filters // window.groups, window.channels // window.groups * math.prod(window.kernel)
    blocks = window.groups * _blocks(rows, columns, tile)
    pixels = window.batch * math.prod(window.output)
    wanted = min(2 * _FULL // blocks, pixels // _SPLIT_PIXELS)
    return max(1, min(wanted, get_max_workspace() // (math.prod(window.weight_shape) * itemsize)))


def _parts(elements, channels, itemsize):
    """Among how many blocks the elements of one channel are split for their sum."""
    wanted = min(8 * _FULL // channels, elements // _PART_ELEMENTS)
    return max(1, min(wanted, get_max_workspace() // (channels * itemsize)))


for _operator, _fits in (
    ("conv_forward", _forward_fits_large),
    ("conv_input_grad", _input_grad_fits_large),
    ("conv_weight_grad", _weight_grad_fits_large),
):
    register(
        _operator,
        ("depthwise", is_depthwise),
        ("implicit_gemm_large", _fits, _has_large),
        ("implicit_gemm", anything),
    )
