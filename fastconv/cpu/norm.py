"""Batch normalisation on the CPU: bound by memory, so that what counts is how often x is read."""

import math
from typing import NamedTuple

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu import norm_kernels as kernels
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
        parallel_for(kernels.join_moments, mean.size, partial.size, partial, origin, mean, variance, splits)
    return mean, variance


def batch_norm_forward(x, mean, variance, w, b, eps):
    """y [N, C, *size]; see fastconv.backend."""
    plan = _plan(x)
    xs = dense(x, plan.last)
    y, ys = empty(x.shape, xs.dtype, plan.last)
    if y.size:
        scale = _inverse_deviation(variance, eps) if w is None else _inverse_deviation(variance, eps) * flat(w)
        shift = np.zeros(x.shape[1]) if b is None else flat(b)
        run = kernels.scale_last if plan.last else kernels.scale_first
        arguments = _lanes(plan, xs, flat(mean), scale, shift)
        parallel_for(run, plan.tasks, x.size / _SPEED, xs, ys, *arguments, plan.sizes)
    return narrowed(y, x)


def batch_norm_grad(dy, x, mean, variance, w, eps):
    """dx [N, C, *size], dw and db [C]; see fastconv.backend."""
    plan = _plan(dy)
    errors, xs = dense(dy, plan.last), dense(x, plan.last)
    dx, dxs = empty(x.shape, errors.dtype, plan.last)
    dw, db = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    if dx.size:
        inverse, count = _inverse_deviation(variance, eps), x.size // x.shape[1]
        (means,) = _lanes(plan, xs, flat(mean))
        run = kernels.products_last if plan.last else kernels.products_first
        db, dw = _partial_sums(run, plan, 2, x.shape[1], errors, xs, means).sum(axis=0)
        dw = dw * inverse
        scale = inverse if w is None else inverse * flat(w)
        run = kernels.grad_last if plan.last else kernels.grad_first
        arguments = _lanes(plan, xs, scale, db / count, dw * inverse / count)
        parallel_for(run, plan.tasks, x.size / _SPEED, errors, xs, dxs, means, *arguments, plan.sizes)
    return narrowed(dx, dy), narrowed(dw, dy), narrowed(db, dy)


def _plan(x):
    batch, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    last = is_channels_last(x) or length == 1  # a plane of one pixel makes both formats the same
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


def _partial_sums(run, plan, kinds, channels, xs, *arguments):
    """[splits, kinds, C]: the sums that a kernel takes over each split; pixels of a row are splits too."""
    partial = np.empty((plan.splits, kinds, plan.pixels, channels))
    tasks = plan.splits if plan.last else plan.splits * channels
    parallel_for(run, tasks, xs.size / _SPEED, xs, *arguments, partial.reshape(-1), plan.sizes)
    by_pixel = np.ascontiguousarray(partial.swapaxes(1, 2))
    return by_pixel.reshape(plan.splits * plan.pixels, kinds, channels)


def _lanes(plan, xs, *channels):
    """Numbers of each channel as the kernels need them: one a lane, in the dtype of xs."""
    return tuple(np.tile(c, plan.pixels).astype(xs.dtype, copy=False) for c in channels)


def _inverse_deviation(variance, eps):
    """1 / sqrt(variance + eps) of each channel, float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / np.sqrt(variance.astype(np.float64) + eps)
