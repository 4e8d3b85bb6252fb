"""Convolution on the CPU: which kernel serves a problem, and in which pieces.

    3x3 and 3x3x3, not strided, many channels   Winograd, where conv_choice says so
    every input channel a group of its own      depthwise kernels
    enough channels, filters and pixels         tiles of AMX, where the processor has them
    all else                                    implicit GEMM

A strided input gradient is split into phases: the positions of dx that share the same taps. Each phase is
a plain convolution of dy with some of the taps, so no zeros are multiplied.
"""

import functools
import itertools
import math

import numpy as np

from fastconv.cpu import conv_amx as amx
from fastconv.cpu import conv_bias_grad as bias_grad
from fastconv.cpu import conv_depthwise as depthwise
from fastconv.cpu import conv_depthwise_weight_grad as depthwise_weight_grad
from fastconv.cpu import conv_implicit_gemm as implicit_gemm
from fastconv.cpu import conv_weight_grad as weight_grad
from fastconv.cpu import conv_weight_grad_thin as weight_grad_thin
from fastconv.cpu import conv_winograd as winograd
from fastconv.cpu import conv_winograd_weight_grad as winograd_weight_grad
from fastconv.cpu.conv_activation import activate
from fastconv.cpu.conv_amx import is_amx
from fastconv.cpu.conv_choice import is_winograd, is_winograd_weight_grad
from fastconv.cpu.conv_patches import Sampling
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.microkernel import panel
from fastconv.cpu.threads import get_num_threads, parallel_for


def conv_forward(x, w, b, window, activation=None):
    """y [N, K, *output]; see fastconv.backend."""
    last = is_channels_last(x)
    xs, bs = dense(x, last), _bias(b, x)
    y, ys = empty(window.output_shape, xs.dtype, last)
    sampling, offsets, taps = samples = _forward_sampling(window)
    if y.size and is_winograd(window, xs.dtype, transposed=False):
        winograd.convolve(w, xs, bs, ys, samples, _strides(window, transposed=False), last, activation)
    elif y.size and _is_depthwise(sampling):
        depthwise.convolve(xs, flat(w), bs, ys, _depthwise_problem(window, False, last, xs.itemsize), activation)
    elif y.size:
        strides = _strides(window, transposed=False)
        _multiply(xs, w, bs, ys, sampling, offsets, taps, strides, last, activation)
    return narrowed(y, x)


def conv_input_grad(dy, w, b, window):
    """dx [N, C, *size], plus b [C]; see fastconv.backend."""
    last = is_channels_last(dy)
    errors, bs = dense(dy, last), _bias(b, dy)
    dx, dxs = empty(window.input_shape, errors.dtype, last)
    strides = _strides(window, transposed=True)
    if dx.size and is_winograd(window, errors.dtype, transposed=True):
        winograd.convolve(w, errors, bs, dxs, _phases(window)[0], strides, last)
    elif dx.size and _is_depthwise(_phases(window)[0][0]):
        depthwise.convolve(errors, flat(w), bs, dxs, _depthwise_problem(window, True, last, errors.itemsize), None)
    elif dx.size:
        phases = _phases(window)
        if any(taps.size == 0 for _, _, taps in phases):  # one pass over all of dx is faster than many that skip
            implicit_gemm.fill(dxs, bs, window.batch, window.channels, last)
            phases = [phase for phase in phases if phase[2].size]
        for sampling, offsets, taps in phases:
            _multiply(errors, w, bs, dxs, sampling, offsets, taps, strides, last)
    return narrowed(dx, dy)


def conv_weight_grad(x, dy, window):
    """dw [K, C // groups, *kernel]; see fastconv.backend."""
    last = is_channels_last(dy if x.shape[1] == 1 else x)  # one channel lies the same way in both formats
    xs, errors = dense(x, last), dense(dy, last)
    dw, dws = empty(window.weight_shape, xs.dtype, False)
    if dw.size and not errors.size:
        dw[...] = 0
    elif dw.size:
        sampling, offsets, _ = _forward_sampling(window)
        if _is_depthwise(sampling):
            depthwise_weight_grad.weight_grad(xs, errors, dws, _depthwise_sums(window, last, xs.itemsize))
        elif not is_winograd_weight_grad(window, xs.dtype) or not winograd_weight_grad.sum_tiles(
            xs, errors, dws, sampling, offsets, last
        ):
            _gemm_weight_grad(xs, errors, dws, sampling, offsets, last)
    return narrowed(dw, x)


def conv_bias_grad(dy):
    """db [K]; see fastconv.backend."""
    db = np.zeros(dy.shape[1])
    if dy.size:
        last = is_channels_last(dy)
        images, channels, positions = dy.shape[0], dy.shape[1], math.prod(dy.shape[2:])
        splits = bias_grad.splits(images, channels, positions, last)
        partial = np.empty(splits * channels)
        if last:
            run, tasks, sizes = bias_grad.sums_last, splits, (images * positions, channels, splits)
        else:
            run, tasks, sizes = bias_grad.sums_first, splits * channels, (images, channels, positions, splits)
        parallel_for(run, tasks, dy.size / bias_grad.SPEED, dense(dy, last), partial, sizes)
        db = partial.reshape(splits, channels).sum(axis=0)
    return db.astype(dy.dtype.newbyteorder("="))


def _multiply(xs, w, bs, ys, sampling, offsets, taps, strides, last, activation=None):
    """conv_implicit_gemm.multiply, on tiles of AMX where they serve."""
    if is_amx(sampling, xs.dtype, last):
        relu = activation == "relu"
        if amx.multiply(xs, w, bs, ys, sampling, offsets, taps, strides, last, relu):
            activate(ys, None if relu else activation)
            return
    implicit_gemm.multiply(xs, w, bs, ys, sampling, offsets, taps, strides, last, activation)


def _gemm_weight_grad(xs, errors, dw, sampling, offsets, last):
    columns = panel(xs.dtype)
    work = dw.size * _pixels(sampling) / implicit_gemm.GEMM_SPEED
    reach = weight_grad.reach(offsets)
    merged = weight_grad_thin.groups_at_once(sampling, columns) if sampling.channels < columns else 1
    if merged > 1:
        _merged_weight_grad(xs, errors, dw, sampling, offsets, last, merged)
        return
    # Few channels would leave vector lanes empty.
    thin = sampling.channels < columns
    if thin:
        sampling = weight_grad_thin.with_lines(sampling, offsets)
        slabs = weight_grad_thin.cut_thin(sampling, *reach, columns, last)
    else:
        slabs = weight_grad.cut(sampling, *reach, columns, last, get_num_threads())
    if slabs is not None:
        (weight_grad_thin if thin else weight_grad).run(xs, errors, dw, sampling, offsets, slabs, last, work)
        return
    one = np.empty(dw.size // sampling.taps, dw.dtype)
    for tap in range(sampling.taps):
        offset = offsets[3 * tap : 3 * tap + 3]
        _gemm_weight_grad(xs, errors, one, sampling._replace(taps=1, line=1), offset, last)
        dw[tap :: sampling.taps] = one


def _is_depthwise(sampling):
    """Whether the depthwise kernels serve this problem."""
    return sampling.channels == 1 and sampling.groups > 1


@functools.lru_cache(maxsize=1024)
def _depthwise_problem(window, transposed, last, itemsize):
    """What the depthwise kernels are told of a forward pass or of an input gradient."""
    return depthwise.problem_of(_phases(window) if transposed else [_forward_sampling(window)], last, itemsize)


def _merged_weight_grad(xs, errors, dw, sampling, offsets, last, merged):
    """dw from that of wider groups, each `merged` of these, on whose diagonal it lies."""
    groups, channels, filters = sampling.groups // merged, sampling.channels, sampling.filters
    wide = np.empty(merged * dw.size, dw.dtype)
    wider = sampling._replace(groups=groups, channels=merged * channels, filters=merged * filters, line=1)
    _gemm_weight_grad(xs, errors, wide, wider, offsets, last)
    blocks = wide.reshape(groups, merged, filters, merged, channels * sampling.taps)
    ours = dw.reshape(groups, merged, filters, channels * sampling.taps)
    for i in range(merged):
        ours[:, i] = blocks[:, i, :, i]


@functools.lru_cache(maxsize=1024)
def _depthwise_sums(window, last, itemsize):
    """The same of a weight gradient."""
    return depthwise_weight_grad.problem_of(*_forward_sampling(window), last, itemsize)


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def _forward_sampling(window):
    """(Sampling, offsets [taps * 3], taps) of the forward pass, and of the weight gradient."""
    window = _flattened(window.three_axes())
    offsets = [
        [r * dilation - before for r in range(kernel)]
        for kernel, dilation, (before, _) in zip(window.kernel, window.dilation, window.padding, strict=True)
    ]
    sampling = Sampling(
        batch=window.batch,
        groups=window.groups,
        channels=window.channels // window.groups,
        filters=window.filters // window.groups,
        taps=math.prod(window.kernel),
        line=window.kernel[2] if window.dilation[2] == 1 and window.groups == 1 else 1,
        size=window.size,
        output=window.output,
        count=window.output,
        start=(0, 0, 0),
        spread=(1, 1, 1),
        step=window.stride,
    )
    return sampling, _grid(offsets), np.arange(sampling.taps, dtype=np.int64)


@functools.lru_cache(maxsize=1024)
def _phases(window):
    """(Sampling, offsets, taps) of every phase of an input gradient; together they write all of dx."""
    window = _flattened(window.three_axes())
    axes = [_axis_phases(window, axis) for axis in range(3)]
    _, rows, columns = window.kernel
    phases = []
    for phase in itertools.product(*axes):
        starts, taps, offsets = zip(*phase, strict=True)
        count = tuple(
            -(-(size - start) // stride) for size, start, stride in zip(window.size, starts, window.stride, strict=True)
        )
        sampling = Sampling(
            batch=window.batch,
            groups=window.groups,
            channels=window.filters // window.groups,
            filters=window.channels // window.groups,
            taps=math.prod(len(t) for t in taps),
            line=1,
            size=window.output,
            output=window.size,
            count=count,
            start=starts,
            spread=window.stride,
            step=(1, 1, 1),
        )
        places = _grid(taps).reshape(-1, 3) @ np.array([rows * columns, columns, 1])
        phases.append((sampling, _grid(offsets), places))
    return phases


def _axis_phases(window, axis):
    """(start, taps, offsets) of each phase of one axis: position i of dx meets tap r at dy position
    (i + before - r * dilation) / stride, where that is whole."""
    stride, dilation, before = window.stride[axis], window.dilation[axis], window.padding[axis][0]
    for start in range(min(stride, window.size[axis])):
        taps = [r for r in range(window.kernel[axis]) if (start + before - r * dilation) % stride == 0]
        yield start, taps, [(start + before - r * dilation) // stride for r in taps]


def _flattened(window):
    """The same window with its three axes laid out as one, where taps and strides leave them independent."""
    plain = (1, 1, 1)
    if window.kernel != plain or window.stride != plain or window.padding != ((0, 0),) * 3:
        return window
    if window.size != window.output:  # a transposed convolution whose output_padding, below dilation, adds positions
        return window
    length = (1, 1, math.prod(window.size))
    return window._replace(size=length, output=length)


def _grid(axes):
    """Every combination of one number from each axis, last axis fastest, as a flat array."""
    return np.array(list(itertools.product(*axes)), dtype=np.int64).reshape(-1)


def _strides(window, transposed):
    """Elements of w from one group, filter and channel to the next; the gradient swaps the last two."""
    taps = math.prod(window.kernel)
    inner = window.channels // window.groups
    group = window.filters // window.groups * inner * taps
    return (group, taps, inner * taps) if transposed else (group, inner * taps, taps)


def _bias(b, like):
    """The bias as a flat array, empty for None."""
    return flat(like[:0]) if b is None else flat(b)


def _pixels(sampling):
    return sampling.batch * math.prod(sampling.count)
