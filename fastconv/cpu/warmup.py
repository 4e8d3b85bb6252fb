"""Compile every kernel ahead of its first use."""

import importlib

import numpy as np

from fastconv import cpu
from fastconv.cpu import optim
from fastconv.cpu.conv_choice import winograd
from fastconv.elementwise import FUNCTIONS, PAIRS
from fastconv.errors import DTypeError
from fastconv.window import Window

_WIDTHS = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


def warmup(dtypes=("float32",)):
    """Compile every CPU kernel now, or load it from disk, so that no later call pays for it.

    Takes about a minute a dtype where nothing is on disk yet, and about one after that.
    Kernels are kept on disk between processes: a container image that runs this once starts quickly.

    Args:
        dtypes: Names of the dtypes that will be computed in. Halves run on the float32 kernels, but for activations.

    Raises:
        DTypeError: A name is no floating dtype of fastconv.
    """
    for name in dtypes:
        if name not in _WIDTHS:
            raise DTypeError("warmup", "dtypes", repr(name), " or ".join(_WIDTHS))
    for dtype in sorted({_WIDTHS[name] for name in dtypes}):
        for channels_last in (False, True):
            for groups in (1, 4):
                _run_all(np.dtype(dtype), channels_last, groups)
        _run_depthwise(np.dtype(dtype))
        param, grad, mean, square = np.zeros((4, 8), dtype)
        optim.sgd_step(param, grad, mean, 0.1, 0.9, 1.0, 0.0, False, False)
        optim.adam_step(param, grad, mean, square, 0.1, 1.0, 0.1, (0.9, 0.999), 1e-8, 0.0, False, False)
    for name in sorted(set(dtypes)):
        if name == "bfloat16":
            importlib.import_module("ml_dtypes")  # registers the name with NumPy
        _run_activations(np.dtype(name))


def _run_activations(dtype):
    """The operators whose kernels read and write halves themselves."""
    x = np.ones((2, 4, 3), dtype)
    for name, function in FUNCTIONS.items():
        parameters = (0.5,) * function.parameters
        cpu.unary_forward(x, name, parameters)
        cpu.unary_input_grad(x, x, name, parameters)
    number = x[0, 0, 0]
    for name, pair in PAIRS.items():
        parameters = (0.5,) * pair.parameters
        cpu.binary_forward(x, x, name, parameters)
        if pair.grads is None:
            cpu.binary_forward(x, number, name, parameters)
            cpu.binary_forward(number, x, name, parameters)
            continue
        cpu.binary_sum(x, x, name, parameters)
        for operand in "ab":
            cpu.binary_grad(x, x, x, name, parameters, operand)
            cpu.binary_grad(number, x, x, name, parameters, operand)
    cpu.nll_forward(x, np.zeros((2, 3), np.int64), None, -100)
    for axis in (1, 2):
        cpu.softmax_input_grad(x, cpu.softmax_forward(x, axis, False), axis, False)
        cpu.normalize_grad(x, cpu.normalize_forward(x, axis, 1e-12), axis, 1e-12)
    for y in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        cpu.response_norm_input_grad(y, cpu.response_norm_forward(y, 3, 1.0, 0.75, 1.0), 3, 1.0, 0.75, 1.0)
    cpu.glu_input_grad(cpu.glu_forward(x, 1), x, 1)
    for y in (x, x[:, :, 0]):
        cpu.prelu_grad(y, cpu.prelu_forward(y, x[0, :, 0]), x[0, :, 0])


def _run_depthwise(dtype):
    """Channels last with as many channels as vectors have lanes, which fewer do not reach."""
    x = np.moveaxis(np.ones((1, 6, 6, 64), dtype), -1, 1)
    w, b = np.ones((64, 1, 3, 3), dtype), np.ones(64, dtype)
    window = Window.conv(x, w, b, 1, 1, 1, 64, rank=2)
    cpu.conv_weight_grad(x, cpu.conv_forward(x, w, b, window), window)


def _run_all(dtype, channels_last, groups):
    """Every operator once, on a tiny problem."""
    x = np.ones((2, 4, 6, 6), dtype)
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    w, b = np.ones((4, 4 // groups, 3, 3), dtype), np.ones(4, dtype)
    window = Window.conv(x, w, b, 2, 1, 1, groups, rank=2)
    y = cpu.conv_forward(x, w, b, window)
    cpu.conv_input_grad(y, w, None, window)
    cpu.conv_weight_grad(x, y, window)
    cpu.conv_bias_grad(y)
    for activation in ("relu", "gelu", "silu"):
        cpu.conv_forward(x, w, b, window, activation)
    if dtype.itemsize == 4:  # float64 takes it only when asked
        window = Window.conv(x, w, b, 1, 1, 1, groups, rank=2)
        with winograd("always"):
            cpu.conv_input_grad(cpu.conv_forward(x, w, b, window), w, None, window)
    wide = np.ones((2, 4, 16, 16), dtype)  # rows of which are vectors of windows
    if channels_last:
        wide = np.moveaxis(np.ascontiguousarray(np.moveaxis(wide, 1, -1)), -1, 1)
    for image in (x, wide):
        pool = Window.pool("max_pool2d", image, 2, None, 0, 1, False, rank=2)
        y, indices = cpu.max_pool_forward(image, pool)
        cpu.max_pool_input_grad(y, cpu.max_pool_forward(image, pool, True)[1], pool)
        cpu.pool_scatter(y, indices, pool.size)
        cpu.pool_gather(image, indices)
        cpu.avg_pool_input_grad(cpu.avg_pool_forward(image, pool, True, None), pool, True, None)
    cpu.adaptive_max_pool_forward(x, (1, 1))
    cpu.adaptive_avg_pool_input_grad(cpu.adaptive_avg_pool_forward(x, (1, 1)), (6, 6))
    cpu.adaptive_max_pool_forward(x, (3, 3))
    cpu.adaptive_avg_pool_input_grad(cpu.adaptive_avg_pool_forward(x, (3, 3)), (6, 6))
    mean, variance = cpu.batch_norm_statistics(x)
    y = cpu.batch_norm_forward(x, mean, variance, b, b, 1e-5, x, True)
    cpu.batch_norm_grad(x, x, mean, variance, b, 1e-5, y)
    cpu.batch_norm_weight_grad(x, x, mean, variance, 1e-5)
    row = x[0, :, :1, 0]
    y, square = cpu.rms_norm_forward(row, None, 1e-5)
    cpu.rms_norm_input_grad(row, y, square, None, 1e-5)
    cpu.rms_norm_weight_grad(row, y, square, 1e-5)
    for grouped in (x, x[:, :, 0, 0]):
        _, mean, variance = cpu.group_norm_forward(grouped, 2, b, b, 1e-5)
        cpu.group_norm_grad(grouped, grouped, mean, variance, 2, b, 1e-5)
    cpu.resize_input_grad(cpu.resize_forward(x, (9, 7), "linear", False, None), (6, 6), "linear", False, None)
    points, rule = np.zeros((2, 3, 3, 2), dtype), ("bilinear", "zeros", False, (0, 0))
    y = cpu.grid_sample_forward(x, points, *rule)
    cpu.grid_sample_input_grad(y, points, (6, 6), *rule)
    cpu.grid_sample_grid_grad(y, x, points, *rule)
    classes = np.zeros((2, 6, 6), np.int64)
    loss, logsumexp = cpu.cross_entropy_forward(x, classes, None, -100, 0.0)
    cpu.cross_entropy_grad(loss, x, logsumexp, classes, None, -100, 0.0)
    rois = np.array([[0, 0, 0, 3, 3]], dtype)
    cpu.roi_align_input_grad(cpu.roi_align_forward(x, rois, (2, 2), 1.0, -1, False), rois, 2, (6, 6), 1.0, -1, False)
    pooled, indices = cpu.roi_pool_forward(x, rois, (2, 2), 1.0)
    cpu.roi_pool_input_grad(pooled, rois, indices, 2, (6, 6), 1.0)
    cpu.nms(np.zeros((2000, 4), dtype), np.arange(2000), None, 0.5)  # more than one round
    matrix = np.ones((8, 8), dtype)
    cpu.matmul(matrix, matrix)
    cpu.matmul(np.asfortranarray(matrix), matrix)
