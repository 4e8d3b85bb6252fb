"""Kernels of batch normalisation for x [N, C, S] (channels first) and x [N * S, C] (channels last).

Sums are taken in two stages: over chunks that stay in the cache, in the dtype of x, and over the chunks of a
split, in float64. Splits are fixed by the shape, and whoever reads their partial sums adds them in their order.
The moments of a chunk are those about its own mean, so that a large mean costs no digits.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put

CHUNK = 4096  # elements that are read twice while they are in the cache


@kernel
def moments_first(first, last, x, partial, sizes):
    """partial[split, (mean, squares), channel] of the images of a split; a task is a channel of a split."""
    images, channels, length, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    for task in range(first, last):
        split, channel = task // channels, task % channels
        count, mean, squares = 0.0, 0.0, 0.0
        for image in range(images * split // splits, images * (split + 1) // splits):
            begin = (image * channels + channel) * length
            end = begin + length
            for low in range(begin, end, CHUNK):
                high = min(low + CHUNK, end)
                total = x.dtype.type(0)
                for i in range(low, high):
                    total += get(x, i)
                pivot = total / x.dtype.type(high - low)
                rest, square = x.dtype.type(0), x.dtype.type(0)
                for i in range(low, high):
                    d = get(x, i) - pivot
                    rest += d
                    square += d * d
                count, mean, squares = _merge(count, mean, squares, high - low, pivot, rest, square)
        partial[(split * 2) * channels + channel] = mean
        partial[(split * 2 + 1) * channels + channel] = squares


@kernel
def moments_last(first, last, x, partial, sizes):
    """As moments_first, of the rows of a split; a task is a split."""
    rows, channels, splits = sizes[0], sizes[1], sizes[3]
    pivots, rests, squares = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    step = min(max(CHUNK // channels, 1), _MOST_ROWS)
    for split in range(first, last):
        base = split * 2 * channels
        for i in range(2 * channels):
            put(partial, base + i, 0)
        begin, end = rows * split // splits, rows * (split + 1) // splits
        for low in range(begin, end, step):
            high = min(low + step, end)
            for c in range(channels):
                put(pivots, c, 0)
                put(rests, c, 0)
                put(squares, c, 0)
            for row in range(low, high):
                for c in range(channels):
                    put(pivots, c, get(pivots, c) + get(x, row * channels + c))
            inverse = x.dtype.type(1) / x.dtype.type(high - low)
            for c in range(channels):
                put(pivots, c, get(pivots, c) * inverse)
            for row in range(low, high):
                for c in range(channels):
                    d = get(x, row * channels + c) - get(pivots, c)
                    put(rests, c, get(rests, c) + d)
                    put(squares, c, get(squares, c) + d * d)
            for c in range(channels):
                mean, square = get(partial, base + c), get(partial, base + channels + c)
                _, mean, square = _merge(
                    low - begin, mean, square, high - low, get(pivots, c), get(rests, c), get(squares, c)
                )
                put(partial, base + c, mean)
                put(partial, base + channels + c, square)


# Rows that one sum in the dtype of x runs over, channels last.
_MOST_ROWS = 256


@inline
def _merge(count, mean, squares, more, pivot, rest, square):
    """Count, mean and sum of squares about the mean, once `more` elements have joined.

    These have the sums `rest` and `square` about a pivot near their mean. Source: Chan, Golub & LeVeque,
    Algorithms for computing the sample variance, The American Statistician 37(3), 1983.
    """
    count, more, rest = np.float64(count), np.float64(more), np.float64(rest)
    other = np.float64(pivot) + rest / more
    square = np.float64(square) - rest * rest / more
    total = count + more
    apart = other - mean
    return total, mean + apart * (more / total), squares + square + apart * apart * (count * more / total)


@kernel
def merge_splits(first, last, partial, mean, variance, sizes):
    """mean and variance of each channel from the splits, in their order; a task is a channel."""
    images, channels, length, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    for channel in range(first, last):
        count, average, squares = 0.0, 0.0, 0.0
        for split in range(splits):
            more = (images * (split + 1) // splits - images * split // splits) * length
            other, square = partial[(split * 2) * channels + channel], partial[(split * 2 + 1) * channels + channel]
            count, average, squares = _merge(count, average, squares, more, other, 0.0, square)
        mean[channel] = average
        variance[channel] = squares / count


@kernel
def scale_first(first, last, x, y, mean, scale, shift, sizes):
    """y = (x - mean) * scale + shift; a task is a plane."""
    channels, length = sizes[1], sizes[2]
    for plane in range(first, last):
        m, w, b = mean[plane % channels], scale[plane % channels], shift[plane % channels]
        for i in range(plane * length, (plane + 1) * length):
            put(y, i, (get(x, i) - m) * w + b)


@kernel
def scale_last(first, last, x, y, mean, scale, shift, sizes):
    """As scale_first; a task is a row."""
    channels = sizes[1]
    for row in range(first, last):
        for c in range(channels):
            i = row * channels + c
            put(y, i, (get(x, i) - get(mean, c)) * get(scale, c) + get(shift, c))


@kernel
def products_first(first, last, dy, x, mean, partial, sizes):
    """partial[split, (sum of dy, sum of dy * (x - mean)), channel]; a task is a channel of a split."""
    images, channels, length, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    for task in range(first, last):
        split, channel = task // channels, task % channels
        m = mean[channel]
        total, product = 0.0, 0.0
        for image in range(images * split // splits, images * (split + 1) // splits):
            begin = (image * channels + channel) * length
            end = begin + length
            for low in range(begin, end, CHUNK):
                chunk_total, chunk_product = x.dtype.type(0), x.dtype.type(0)
                for i in range(low, min(low + CHUNK, end)):
                    chunk_total += get(dy, i)
                    chunk_product += get(dy, i) * (get(x, i) - m)
                total += chunk_total
                product += chunk_product
        partial[(split * 2) * channels + channel] = total
        partial[(split * 2 + 1) * channels + channel] = product


@kernel
def products_last(first, last, dy, x, mean, partial, sizes):
    """As products_first; a task is a split."""
    rows, channels, splits = sizes[0], sizes[1], sizes[3]
    totals, products = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    step = min(max(CHUNK // channels, 1), _MOST_ROWS)
    for split in range(first, last):
        base = split * 2 * channels
        for i in range(2 * channels):
            put(partial, base + i, 0)
        begin, end = rows * split // splits, rows * (split + 1) // splits
        for low in range(begin, end, step):
            for c in range(channels):
                put(totals, c, 0)
                put(products, c, 0)
            for row in range(low, min(low + step, end)):
                for c in range(channels):
                    i = row * channels + c
                    put(totals, c, get(totals, c) + get(dy, i))
                    put(products, c, get(products, c) + get(dy, i) * (get(x, i) - get(mean, c)))
            for c in range(channels):
                put(partial, base + c, get(partial, base + c) + get(totals, c))
                put(partial, base + channels + c, get(partial, base + channels + c) + get(products, c))


@kernel
def grad_first(first, last, dy, x, dx, mean, scale, offset, slope, sizes):
    """dx = scale * (dy - offset - (x - mean) * slope); a task is a plane."""
    channels, length = sizes[1], sizes[2]
    for plane in range(first, last):
        channel = plane % channels
        m, w, b, k = mean[channel], scale[channel], offset[channel], slope[channel]
        for i in range(plane * length, (plane + 1) * length):
            put(dx, i, w * (get(dy, i) - b - (get(x, i) - m) * k))


@kernel
def grad_last(first, last, dy, x, dx, mean, scale, offset, slope, sizes):
    """As grad_first; a task is a row."""
    channels = sizes[1]
    for row in range(first, last):
        for c in range(channels):
            i = row * channels + c
            d = get(dy, i) - get(offset, c) - (get(x, i) - get(mean, c)) * get(slope, c)
            put(dx, i, get(scale, c) * d)
