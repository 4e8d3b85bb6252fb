"""Batch, group and RMS normalisation on the CPU: bound by memory, so that what counts is how often x is read."""

import functools
import math
from typing import NamedTuple

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu import norm_kernels as kernels
from fastconv.cpu import norm_row_kernels as row_kernels
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.threads import parallel_for

# Elements in a nanosecond of one thread, roughly: they only decide whether a call is worth a second thread.
_SPEED = 2
# Tasks of a reduction: enough for all threads, each with a good number of elements.
_TASKS, _TASK_ELEMENTS = 64, 8192
# With fewer channels than this, channels last, several pixels make a row together, to fill vectors.
_FEWEST_LANES = 16


class _Plan(NamedTuple):
    """How x is stored and its sums are split; all of it follows from the shape and the format."""

    last: bool  # [rows, pixels * C], otherwise [N, C, S]
    pixels: int
    splits: int
    tasks: int  # of an elementwise kernel
    sizes: np.ndarray
    flat: bool = False  # of group norm: an image is [groups, members]


def batch_norm_statistics(x):
    """mean and biased variance [C]; see fastconv.backend."""
    mean, variance = (np.full(x.shape[1], np.nan, accumulator(x.dtype)) for _ in range(2))
    if x.size:
        plan = _plan(x)
        xs = dense(x, plan.last)
        run = kernels.moments_last if plan.last else kernels.moments_first
        origin = flat(x[(0, slice(None), *(0,) * (x.ndim - 2))])
        partial = _partial_sums(run, plan, 3, x.shape[1], xs, *_lanes(plan, xs, origin)).reshape(-1)
        splits = plan.splits * plan.pixels
        blocks = -(-mean.size // kernels.JOINED)
        parallel_for(kernels.join_moments, blocks, partial.size, partial, origin, mean, variance, splits)
        spoilt = np.isnan(mean)
        if spoilt.any():  # the moments of infinities are NaN, their sum is not
            mean[spoilt] = x[:, spoilt].astype(np.float64).sum(axis=(0, *range(2, x.ndim))) / (x.size // x.shape[1])
    return mean, variance


def batch_norm_forward(x, mean, variance, w, b, eps, residual=None, relu=False):
    """y [N, C, *size]; see fastconv.backend."""
    plan = _plan(x)
    xs = dense(x, plan.last)
    y, ys = empty(x.shape, xs.dtype, plan.last)
    if y.size:
        scale = _inverse_deviation(variance, eps) if w is None else _inverse_deviation(variance, eps) * flat(w)
        shift = np.zeros(x.shape[1]) if b is None else flat(b)
        _scale(plan, xs, ys, residual, flat(mean), scale, shift, relu)
    return narrowed(y, x)


def batch_norm_grad(dy, x, mean, variance, w, eps, y=None):
    """dx [N, C, *size], dw and db [C], with y dresidual too; see fastconv.backend."""
    plan = _plan(dy)
    errors, xs = dense(dy, plan.last), dense(x, plan.last)
    dx, dxs = empty(x.shape, errors.dtype, plan.last)
    dw, db = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    dresidual = None
    if y is not None:
        dresidual, masked = empty(x.shape, errors.dtype, plan.last)
        tasks = -(-masked.size // kernels.CHUNK)
        parallel_for(kernels.mask, tasks, masked.size / _SPEED, errors, dense(y, plan.last), masked)
        errors = masked
    if dx.size:
        inverse, count = _inverse_deviation(variance, eps), x.size // x.shape[1]
        means = flat(mean)
        run = kernels.products_last if plan.last else kernels.products_first
        db, dw = _partial_sums(run, plan, 2, x.shape[1], errors, xs, *_lanes(plan, xs, means)).sum(axis=0)
        dw = dw * inverse
        scale = inverse if w is None else inverse * flat(w)
        _grad(plan, errors, xs, dxs, means, scale, scale * db / count, scale * inverse * dw / count)
    results = (dx, dw, db) if y is None else (dx, dw, db, dresidual)
    return tuple(narrowed(a, dy) for a in results)


def batch_norm_weight_grad(dy, x, mean, variance, eps):
    """dw and db [C]; see fastconv.backend."""
    plan = _plan(dy)
    dw, db = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    if dy.size:
        errors, xs = dense(dy, plan.last), dense(x, plan.last)
        run = kernels.products_last if plan.last else kernels.products_first
        db, dw = _partial_sums(run, plan, 2, x.shape[1], errors, xs, *_lanes(plan, xs, flat(mean))).sum(axis=0)
        dw = dw * _inverse_deviation(variance, eps)
    return narrowed(dw, dy), narrowed(db, dy)


def group_norm_forward(x, groups, w, b, eps):
    """y [N, C, *size], mean and biased variance [N, groups]; see fastconv.backend."""
    plan = _group_plan(x)
    xs = dense(x, plan.last)
    y, ys = empty(x.shape, xs.dtype, plan.last)
    shape = (x.shape[0], groups)
    if not y.size:
        return narrowed(y, x), *(np.full(shape, np.nan, accumulator(x.dtype)) for _ in range(2))
    if plan.last and not plan.flat:
        mean, variance = _group_statistics(plan, x, xs, groups)
    else:
        mean, variance = (a.reshape(shape) for a in batch_norm_statistics(xs.reshape(1, math.prod(shape), -1)))
    inverse = _inverse_deviation(variance, eps)
    if plan.flat:
        numbers = (a.reshape(-1).astype(xs.dtype, copy=False) for a in (mean, inverse))
        numbers = *numbers, _or_nothing(w, x), _or_nothing(b, x)
        sizes = np.array((groups, x.shape[1] // groups), np.int64)
        parallel_for(row_kernels.scale_members, mean.size, x.size / _SPEED, xs, ys, *numbers, sizes)
    else:
        scale, shift = _of_channels(inverse, x) * _or_constant(w, x, 1), _or_constant(b, x, 0)
        _scale(plan, xs, ys, None, _of_channels(mean, x), scale, np.broadcast_to(shift, scale.shape), False)
    return narrowed(y, x), mean.astype(accumulator(x.dtype)), variance.astype(accumulator(x.dtype))


def group_norm_grad(dy, x, mean, variance, groups, w, eps, sums=True):
    """dx [N, C, *size], dw and db [C]; see fastconv.backend."""
    plan = _group_plan(dy)
    errors, xs = dense(dy, plan.last), dense(x, plan.last)
    dx, dxs = empty(x.shape, errors.dtype, plan.last)
    if not dx.size:
        dw, db = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    else:
        inverse = _inverse_deviation(variance, eps)
        if plan.flat:
            means, scales = (a.reshape(-1).astype(xs.dtype) for a in (mean, inverse))
            sizes = np.array((groups, x.shape[1] // groups, x.shape[0], plan.splits), np.int64)
            arguments = (errors, xs, dxs, means, scales, _or_nothing(w, x), sizes)
            parallel_for(row_kernels.grad_members, mean.size, x.size / _SPEED, *arguments)
            if not sums:
                return narrowed(dx, dy), None, None
            db, dw = _member_sums(errors, xs, means, scales, sizes)
        else:
            weight, means, inverses = _or_constant(w, x, 1), _of_channels(mean, x), _of_channels(inverse, x)
            run = kernels.products_last if plan.last else kernels.products_first
            images, channels = x.shape[:2]
            numbers = channels if plan.last else images * channels
            partial = _partial_sums(run, plan, 2, numbers, errors, xs, *_lanes(plan, xs, means.reshape(-1)))
            if plan.last:
                partial = partial.reshape(images, -1, 2, channels).swapaxes(0, 1)
            else:
                partial = partial.reshape(-1, 2, images, channels).swapaxes(1, 2)
            errors_summed, products = partial.sum(axis=0).swapaxes(0, 1)
            products = products * inverses
            db, dw = errors_summed.sum(axis=0), products.sum(axis=0)
            members, count = channels // groups, x[0].size // groups
            offset, slope = (
                _of_channels((a * weight).reshape(images, groups, members).sum(axis=2), x) * inverses / count
                for a in (errors_summed, products)
            )
            _grad(plan, errors, xs, dxs, means, inverses * weight, offset, slope * inverses)
    return narrowed(dx, dy), narrowed(dw, dy), narrowed(db, dy)


def rms_norm_forward(x, w, eps):
    """y [rows, length] and mean of squares [rows]; see fastconv.backend."""
    xs, ws = flat(x), _or_nothing(w, x)
    y, square = np.empty(x.shape, xs.dtype), np.full(x.shape[0], np.nan, xs.dtype)
    if y.size:
        parallel_for(
            row_kernels.scale_rows, x.shape[0], x.size / _SPEED, xs, ws, y.reshape(-1), square, x.shape[1], float(eps)
        )
    return narrowed(y, x), square


def rms_norm_input_grad(dy, x, square, w, eps):
    """dx [rows, length]; see fastconv.backend."""
    errors, xs, ws = flat(dy), flat(x), _or_nothing(w, x)
    dx = np.empty(x.shape, xs.dtype)
    if dx.size:
        arguments = (errors, xs, ws, dx.reshape(-1), flat(square), x.shape[1], float(eps))
        parallel_for(row_kernels.grad_rows, x.shape[0], x.size / _SPEED, *arguments)
    return narrowed(dx, dy)


def rms_norm_weight_grad(dy, x, square, eps):
    """dw [length]; see fastconv.backend."""
    rows, length = x.shape
    if not x.size:
        return np.zeros(length, dy.dtype.newbyteorder("="))
    errors, xs = flat(dy), flat(x)
    inverse = _inverse_deviation(square, eps).astype(xs.dtype)
    sizes = np.array((1, length, rows, _member_splits(rows, length)), np.int64)
    return narrowed(_member_sums(errors, xs, np.zeros(rows, xs.dtype), inverse, sizes)[1], dy)


def _or_nothing(w, x):
    """w as kernels need it, an empty array for None."""
    return np.empty(0, accumulator(x.dtype)) if w is None else flat(w)


def _member_sums(errors, xs, means, scales, sizes):
    """Sums of dy and dy * h over images for each channel, of x [images, groups, members], float64."""
    groups, members, _, splits = sizes.tolist()
    channels = groups * members
    partial = np.empty((splits, 2, channels))
    tasks = splits * row_kernels.blocks_of(channels)
    arguments = (errors, xs, means, scales, partial.reshape(-1), sizes)
    parallel_for(row_kernels.products_members, tasks, xs.size / _SPEED, *arguments)
    return partial[0] if splits == 1 else partial.sum(axis=0)


def _member_splits(images, channels):
    """Into how many parts the images are split, so that there are tasks enough."""
    wanted = -(-_TASKS // max(row_kernels.blocks_of(channels), 1))
    return max(1, min(wanted, images * channels // _TASK_ELEMENTS, images))


def _scale(plan, xs, ys, residual, mean, scale, shift, relu):
    """y = (x - mean) * scale + shift + residual, then ReLU."""
    run = kernels.scale_last if plan.last else kernels.scale_first
    added = np.empty(0, xs.dtype) if residual is None else dense(residual, plan.last)
    arguments = _lanes(plan, xs, mean.reshape(-1), scale.reshape(-1), shift.reshape(-1))
    parallel_for(run, plan.tasks, xs.size / _SPEED, xs, ys, added, *arguments, bool(relu), plan.sizes)


def _grad(plan, errors, xs, dxs, mean, scale, offset, slope):
    """dx = dy * scale - (x - mean) * slope - offset."""
    run = kernels.grad_last if plan.last else kernels.grad_first
    arguments = _lanes(plan, xs, *(a.reshape(-1) for a in (mean, scale, offset, slope)))
    parallel_for(run, plan.tasks, xs.size / _SPEED, errors, xs, dxs, *arguments, plan.sizes)


def _group_statistics(plan, x, xs, groups):
    """mean and biased variance [N, groups], float64, of the moments of each channel; channels last."""
    images, channels = x.shape[:2]
    origin = flat(x[(0, slice(None), *(0,) * (x.ndim - 2))])
    origin = np.where(np.isfinite(origin), origin, 0).astype(xs.dtype, copy=False)
    partial = _partial_sums(kernels.moments_last, plan, 3, channels, xs, origin)
    parts = partial.reshape(images, -1, 3, groups, channels // groups)
    with np.errstate(invalid="ignore"):
        # Counted from the first channel of their group: origins differ by little, and exactly.
        origin = origin.astype(np.float64).reshape(groups, -1)
        counts, means, squares = parts[:, :, 0], parts[:, :, 1] + (origin - origin[:, :1]), parts[:, :, 2]
        count = counts.sum(axis=(1, 3))
        mean = (counts * means).sum(axis=(1, 3)) / count
        apart = means - mean[:, None, :, None]
        variance = (squares + counts * apart * apart).sum(axis=(1, 3)) / count
        mean = origin[:, 0] + mean
        for n, group in np.argwhere(np.isnan(mean)):  # the moments of infinities are NaN, their sum is not
            members = slice(group * channels // groups, (group + 1) * channels // groups)
            mean[n, group] = x[n, members].astype(np.float64).sum() / count[n, group]
    return mean, variance


def _or_constant(channels, x, constant):
    """[C] as it is given, or so many times a constant."""
    return np.full(x.shape[1], constant, np.float64) if channels is None else flat(channels)


def _of_channels(statistics, x):
    """[N, groups] as [N, C]."""
    return np.repeat(statistics, x.shape[1] // statistics.shape[1], axis=1)


def _plan(x):
    batch, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    return _planned(batch, channels, length, is_channels_last(x) or length == 1)


@functools.lru_cache(1024)
def _planned(batch, channels, length, last):
    """The plan for a shape and a format; a plane of one pixel makes both formats the same."""
    if not last:
        chunks = batch * kernels.chunks_of(length)
        wanted = min(-(-_TASKS // max(channels, 1)), batch * length // _TASK_ELEMENTS)
        splits = max(1, min(wanted, chunks))
        sizes = (batch, channels, length, splits)
        return _Plan(last, 1, splits, chunks * channels, np.array(sizes, np.int64))
    rows, pixels = batch * length, 1
    if channels < _FEWEST_LANES:
        pixels = math.gcd(rows, 4 * _FEWEST_LANES) or 1
    rows, lanes = rows // pixels, channels * pixels
    splits = max(1, min(_TASKS, rows * lanes // _TASK_ELEMENTS, rows))
    return _Plan(last, pixels, splits, rows, np.array((rows, lanes, 1, splits), np.int64))


def _group_plan(x):
    """The plan for group norm: every image has sums of its own."""
    batch, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if length == 1:
        return _Plan(True, 1, _member_splits(batch, channels), batch, np.zeros(4, np.int64), flat=True)
    if is_channels_last(x):
        wanted = min(-(-_TASKS // max(batch, 1)), length * channels // _TASK_ELEMENTS, length)
        splits = batch * max(1, wanted)
        return _Plan(True, 1, splits, batch * length, np.array((batch * length, channels, batch, splits), np.int64))
    chunks = kernels.chunks_of(length)
    splits = max(1, min(-(-_TASKS // max(batch * channels, 1)), length // _TASK_ELEMENTS, chunks))
    sizes = (1, batch * channels, length, splits)
    return _Plan(False, 1, splits, chunks * batch * channels, np.array(sizes, np.int64))


def _partial_sums(run, plan, kinds, channels, xs, *arguments):
    """[splits, kinds, C]: the sums that a kernel takes over each split; pixels of a row are splits too."""
    partial = np.empty((plan.splits, kinds, plan.pixels, channels))
    tasks = plan.splits if plan.last else plan.splits * channels
    parallel_for(run, tasks, xs.size / _SPEED, xs, *arguments, partial.reshape(-1), plan.sizes)
    by_pixel = np.ascontiguousarray(partial.swapaxes(1, 2))
    return by_pixel.reshape(plan.splits * plan.pixels, kinds, channels)


def _lanes(plan, xs, *channels):
    """Numbers of each channel as the kernels need them: one a lane, in the dtype of xs."""
    repeated = channels if plan.pixels == 1 else [np.tile(c, plan.pixels) for c in channels]
    return tuple(c.astype(xs.dtype, copy=False) for c in repeated)


def _inverse_deviation(variance, eps):
    """1 / sqrt(variance + eps) of each channel, float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / np.sqrt(variance.astype(np.float64) + eps)
