"""Batch normalisation on the CPU: statistics, forward and gradient.

    y = (x - mean) / sqrt(variance + eps) * w + b, a mean and a variance a channel

Sums over a channel are kept in float64 and taken in splits that depend on the shape alone, added in their order: the
same bits for any number of threads. The variance is summed from differences to the mean in a second pass, so that a
large mean does not drown it. Source: Ioffe & Szegedy, arXiv:1502.03167.
"""

import math

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu.jit import get, kernel, put
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.threads import parallel_for

_SPLIT = 1 << 15  # values of one split
_NANOSECONDS = 0.3  # a value


@kernel
def sums_first(first, last, a, x, mean, partial, batch, channels, length, splits):
    """partial[split, channel] of a and of a * (x - mean), channels first; a task is one split of one channel."""
    total = batch * length
    for task in range(first, last):
        channel = task // splits
        split = task % splits
        begin, end = total * split // splits, total * (split + 1) // splits
        centre = mean[channel]
        plain, product = 0.0, 0.0
        while begin < end:
            image = begin // length
            stop = min(end, (image + 1) * length)
            at = (image * channels + channel) * length - image * length
            for i in range(begin, stop):
                value = np.float64(get(a, at + i))
                plain += value
                product += value * (np.float64(get(x, at + i)) - centre)
            begin = stop
        at = (split * channels + channel) * 2
        partial[at] = plain
        partial[at + 1] = product


@kernel
def squares_first(first, last, x, mean, partial, batch, channels, length, splits):
    """partial[split, channel] of (x - mean) squared, channels first; a task is one split of one channel."""
    total = batch * length
    for task in range(first, last):
        channel = task // splits
        split = task % splits
        begin, end = total * split // splits, total * (split + 1) // splits
        centre = mean[channel]
        square = 0.0
        while begin < end:
            image = begin // length
            stop = min(end, (image + 1) * length)
            at = (image * channels + channel) * length - image * length
            for i in range(begin, stop):
                difference = np.float64(get(x, at + i)) - centre
                square += difference * difference
            begin = stop
        partial[(split * channels + channel) * 2 + 1] = square


@kernel
def sums_last(first, last, a, x, mean, partial, rows, channels, splits):
    """partial[split, channel] of a and of a * (x - mean), channels last; a task is one split of the rows."""
    plain = np.empty(channels, np.float64)
    product = np.empty(channels, np.float64)
    for split in range(first, last):
        plain[:] = 0
        product[:] = 0
        for row in range(rows * split // splits, rows * (split + 1) // splits):
            at = row * channels
            for c in range(channels):
                value = np.float64(get(a, at + c))
                put(plain, c, get(plain, c) + value)
                put(product, c, get(product, c) + value * (np.float64(get(x, at + c)) - get(mean, c)))
        for c in range(channels):
            partial[(split * channels + c) * 2] = plain[c]
            partial[(split * channels + c) * 2 + 1] = product[c]


@kernel
def squares_last(first, last, x, mean, partial, rows, channels, splits):
    """partial[split, channel] of (x - mean) squared, channels last; a task is one split of the rows."""
    square = np.empty(channels, np.float64)
    for split in range(first, last):
        square[:] = 0
        for row in range(rows * split // splits, rows * (split + 1) // splits):
            at = row * channels
            for c in range(channels):
                difference = np.float64(get(x, at + c)) - get(mean, c)
                put(square, c, get(square, c) + difference * difference)
        for c in range(channels):
            partial[(split * channels + c) * 2 + 1] = square[c]


@kernel
def scale_first(first, last, x, mean, scale, shift, y, channels, length):
    """y = (x - mean) * scale + shift, channels first; a task is one plane."""
    for plane in range(first, last):
        c = plane % channels
        centre, factor, added = mean[c], scale[c], shift[c]
        for i in range(plane * length, (plane + 1) * length):
            put(y, i, (get(x, i) - centre) * factor + added)


@kernel
def scale_last(first, last, x, mean, scale, shift, y, channels):
    """y = (x - mean) * scale + shift, channels last; a task is one row of channels."""
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            put(y, at + c, (get(x, at + c) - get(mean, c)) * get(scale, c) + get(shift, c))


@kernel
def input_grad_first(first, last, dy, x, mean, scale, steady, slope, dx, channels, length):
    """dx = (dy - steady - (x - mean) * slope) * scale, channels first; a task is one plane."""
    for plane in range(first, last):
        c = plane % channels
        centre, factor, constant, tilt = mean[c], scale[c], steady[c], slope[c]
        for i in range(plane * length, (plane + 1) * length):
            put(dx, i, (get(dy, i) - constant - (get(x, i) - centre) * tilt) * factor)


@kernel
def input_grad_last(first, last, dy, x, mean, scale, steady, slope, dx, channels):
    """dx = (dy - steady - (x - mean) * slope) * scale, channels last; a task is one row of channels."""
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            tilted = (get(x, at + c) - get(mean, c)) * get(slope, c)
            put(dx, at + c, (get(dy, at + c) - get(steady, c) - tilted) * get(scale, c))


def batch_norm_statistics(x):
    """(mean, variance) [C], biased, in the accumulator dtype; see fastconv.backend."""
    last = is_channels_last(x)
    xs = dense(x, last)
    batch, channels, length = _form(x)
    with np.errstate(invalid="ignore"):  # no values at all: NaN
        mean = _sums(xs, xs, np.zeros(channels), x, last)[0] / np.float64(batch * length)
        splits = _splits(x, last)
        partial = np.zeros(splits * channels * 2)
        work = xs.size * _NANOSECONDS
        if last:
            parallel_for(squares_last, splits, work, xs, mean, partial, batch * length, channels, splits)
        else:
            tasks = splits * channels
            parallel_for(squares_first, tasks, work, xs, mean, partial, batch, channels, length, splits)
        variance = _total(partial, channels)[1] / np.float64(batch * length)
    dtype = accumulator(x.dtype)
    return mean.astype(dtype), variance.astype(dtype)


def batch_norm_forward(x, mean, variance, w, b, eps):
    """y, the shape of x; see fastconv.backend."""
    last = is_channels_last(x)
    xs = dense(x, last)
    batch, channels, length = _form(x)
    scale = _scale(variance, w, eps).astype(xs.dtype)
    shift = np.zeros(channels, xs.dtype) if b is None else flat(b).astype(xs.dtype, copy=False)
    centre = flat(mean).astype(xs.dtype, copy=False)
    y, ys = empty(x.shape, xs.dtype, last)
    work = xs.size * _NANOSECONDS
    if y.size and last:
        parallel_for(scale_last, batch * length, work, xs, centre, scale, shift, ys, channels)
    elif y.size:
        parallel_for(scale_first, batch * channels, work, xs, centre, scale, shift, ys, channels, length)
    return narrowed(y, x)


def batch_norm_grad(dy, x, mean, variance, w, eps):
    """(dx, dw, db) through the statistics of x; see fastconv.backend."""
    last = is_channels_last(dy)
    errors, xs = dense(dy, last), dense(x, last)
    batch, channels, length = _form(x)
    centre = flat(mean).astype(np.float64)
    db, moment = _sums(errors, xs, centre, x, last)
    inverse = _scale(variance, None, eps)
    count = max(batch * length, 1)
    scale, steady, slope = (
        a.astype(xs.dtype) for a in (_scale(variance, w, eps), db / count, moment * inverse * inverse / count)
    )
    dx, dxs = empty(dy.shape, errors.dtype, last)
    work = xs.size * _NANOSECONDS
    rest = (errors, xs, centre.astype(xs.dtype), scale, steady, slope, dxs, channels)
    if dx.size and last:
        parallel_for(input_grad_last, batch * length, work, *rest)
    elif dx.size:
        parallel_for(input_grad_first, batch * channels, work, *rest, length)
    return narrowed(dx, dy), narrowed(moment * inverse, dy), narrowed(db, dy)


def _sums(a, x, mean, like, last):
    """(sum of a, sum of a * (x - mean)) a channel, float64, for flat arrays in the form of `like`."""
    batch, channels, length = _form(like)
    splits = _splits(like, last)
    partial = np.zeros(splits * channels * 2)
    work = 2 * a.size * _NANOSECONDS
    if last:
        parallel_for(sums_last, splits, work, a, x, mean, partial, batch * length, channels, splits)
    else:
        parallel_for(sums_first, splits * channels, work, a, x, mean, partial, batch, channels, length, splits)
    return _total(partial, channels)


def _total(partial, channels):
    """The two sums of every channel, splits added in their order."""
    parts = partial.reshape(-1, channels, 2)
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total[:, 0], total[:, 1]


def _splits(x, last):
    """In how many parts a channel, or with channels last all of them, is summed: from the shape alone."""
    values = x.size if last else x.size // max(x.shape[1], 1)
    return max(1, min(64, values // _SPLIT))


def _scale(variance, w, eps):
    """w / sqrt(variance + eps) in float64."""
    inverse = 1 / np.sqrt(variance.astype(np.float64) + eps)
    return inverse if w is None else inverse * w.astype(np.float64)


def _form(x):
    """(N, C, positions)."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])
