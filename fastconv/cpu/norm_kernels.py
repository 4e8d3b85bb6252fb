"""Kernels of normalisation for x [images, channels, length] (channels first) and [rows, lanes] (channels last).

Channels last, rows may belong to images with numbers of their own, [images, lanes].

Sums are taken in two stages: over chunks that stay in the cache, in the dtype of x, and over the chunks of a
split, in float64. Splits are fixed by the shape, and whoever reads their partial sums adds them in their order.
The moments of a chunk are those about its own mean, and all means are counted from the first element of
their channel, its origin: so a mean that is large beside the deviation costs no digits.
"""

import numpy as np

from fastconv.cpu.jit import exact, get, inline, kernel, put

CHUNK = 4096  # elements that are read twice while they are in the cache
_ROWS_CHUNK = 32768  # of rows of channels: these are long, and what is done between chunks is done for each channel
JOINED = 256  # channels whose moments are joined together
MOST_ROWS = 256  # that one sum in the dtype of x runs over, channels last


@inline
def chunks_of(length):
    """How many chunks a plane has."""
    return (length + CHUNK - 1) // CHUNK


@inline
def _chunk(task, planes_apart, offset, length):
    """(low, high): where chunk `task` lies, counted through every planes_apart-th plane from `offset` on."""
    chunks = chunks_of(length)
    begin = (task // chunks * planes_apart + offset) * length
    low = begin + task % chunks * CHUNK
    return low, min(low + CHUNK, begin + length)


@exact
def _joined(count, mean, squares, more, pivot, origin, rest, square):
    """Count, mean less origin, and sum of squares about the mean, once `more` elements have joined.

    These have the sums `rest` and `square` about a pivot near their mean. Source: Chan, Golub & LeVeque,
    Algorithms for computing the sample variance, The American Statistician 37(3), 1983.
    """
    more, rest = np.float64(more), np.float64(rest)
    apart = (np.float64(pivot) - np.float64(origin)) + rest / more - mean
    total = count + more
    squares += np.float64(square) - rest * rest / more + apart * apart * (count * more / total)
    return total, mean + apart * (more / total), squares


@exact
def _shares(count, more):
    """What _joined_evenly multiplies by, the same for all channels: divisions are slow."""
    count, more = np.float64(count), np.float64(more)
    return 1.0 / more, more / (count + more), count * (more / (count + more))


@exact
def _joined_evenly(mean, squares, shares, pivot, origin, rest, square):
    """As _joined, without the count, for channels that have all counted as many."""
    rest = np.float64(rest)
    apart = (np.float64(pivot) - np.float64(origin)) + rest * shares[0] - mean
    squares += np.float64(square) - rest * (rest * shares[0]) + apart * apart * shares[2]
    return mean + apart * shares[1], squares


@exact
def _quotient(total, count):
    """A division that is rounded before anything is subtracted from it, so that all see the same pivot."""
    return total / count


@kernel
def moments_first(first, last, x, origin, partial, sizes):
    """partial[split, (count, mean - origin, squares about the mean), channel]; a task is a channel of a split."""
    images, channels, length, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    chunks = images * chunks_of(length)
    for task in range(first, last):
        split, channel = task // channels, task % channels
        count, mean, squares = 0.0, 0.0, 0.0
        for chunk in range(chunks * split // splits, chunks * (split + 1) // splits):
            low, high = _chunk(chunk, channels, channel, length)
            total = x.dtype.type(0)
            for i in range(low, high):
                total += get(x, i)
            pivot = _quotient(total, x.dtype.type(high - low))
            rest, square = x.dtype.type(0), x.dtype.type(0)
            for i in range(low, high):
                d = get(x, i) - pivot
                rest += d
                square += d * d
            count, mean, squares = _joined(count, mean, squares, high - low, pivot, origin[channel], rest, square)
        at = split * 3 * channels + channel
        partial[at], partial[at + channels], partial[at + 2 * channels] = count, mean, squares


@kernel
def moments_last(first, last, x, origin, partial, sizes):
    """As moments_first, with lanes for channels; a task is a split."""
    rows, lanes, splits = sizes[0], sizes[1], sizes[3]
    pivots, rests, squares = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    step = min(max(_ROWS_CHUNK // lanes, 1), MOST_ROWS)
    for split in range(first, last):
        counts = split * 3 * lanes
        means, sums = counts + lanes, counts + 2 * lanes
        for c in range(2 * lanes):
            put(partial, means + c, 0)
        begin, end = rows * split // splits, rows * (split + 1) // splits
        for c in range(lanes):
            put(partial, counts + c, np.float64(end - begin))
        for low in range(begin, end, step):
            high = min(low + step, end)
            fours = low + (high - low) // 4 * 4
            for c in range(lanes):
                put(pivots, c, 0)
                put(rests, c, 0)
                put(squares, c, 0)
            for row in range(low, fours, 4):
                at = row * lanes
                for c in range(lanes):
                    pair = get(x, at + c) + get(x, at + lanes + c)
                    other = get(x, at + 2 * lanes + c) + get(x, at + 3 * lanes + c)
                    put(pivots, c, get(pivots, c) + (pair + other))
            for row in range(fours, high):
                for c in range(lanes):
                    put(pivots, c, get(pivots, c) + get(x, row * lanes + c))
            share = x.dtype.type(1) / x.dtype.type(high - low)
            for c in range(lanes):
                put(pivots, c, get(pivots, c) * share)
            for row in range(low, fours, 4):
                at = row * lanes
                for c in range(lanes):
                    pivot = get(pivots, c)
                    d, e = get(x, at + c) - pivot, get(x, at + lanes + c) - pivot
                    f, g = get(x, at + 2 * lanes + c) - pivot, get(x, at + 3 * lanes + c) - pivot
                    put(rests, c, get(rests, c) + ((d + e) + (f + g)))
                    put(squares, c, get(squares, c) + ((d * d + e * e) + (f * f + g * g)))
            for row in range(fours, high):
                for c in range(lanes):
                    d = get(x, row * lanes + c) - get(pivots, c)
                    put(rests, c, get(rests, c) + d)
                    put(squares, c, get(squares, c) + d * d)
            shares = _shares(low - begin, high - low)
            for c in range(lanes):
                mean, square = _joined_evenly(
                    get(partial, means + c), get(partial, sums + c), shares,
                    get(pivots, c), get(origin, c), get(rests, c), get(squares, c),
                )  # fmt: skip
                put(partial, means + c, mean)
                put(partial, sums + c, square)


@kernel
def join_moments(first, last, partial, origin, mean, variance, splits):
    """mean and variance of each channel from the partial moments, in their order; a task is a block of channels."""
    channels = mean.size
    means, squares = np.empty(JOINED, np.float64), np.empty(JOINED, np.float64)
    for task in range(first, last):
        left = task * JOINED
        lanes = min(JOINED, channels - left)
        count = 0.0
        for c in range(lanes):
            put(means, c, 0)
            put(squares, c, 0)
        for split in range(splits):
            at = split * 3 * channels + left
            more = get(partial, at)  # that of all channels
            shares = _shares(count, more)
            count += more
            for c in range(lanes):
                average, square = _joined_evenly(
                    get(means, c), get(squares, c), shares, get(partial, at + channels + c), 0.0, 0.0,
                    get(partial, at + 2 * channels + c),
                )  # fmt: skip
                put(means, c, average)
                put(squares, c, square)
        for c in range(lanes):
            put(mean, left + c, mean.dtype.type(np.float64(get(origin, left + c)) + get(means, c)))
            put(variance, left + c, variance.dtype.type(get(squares, c) / count))


@kernel
def scale_first(first, last, x, y, residual, mean, scale, shift, relu, sizes):
    """y = (x - mean) * scale + shift, plus residual if it has elements, then ReLU; a task is a chunk."""
    channels, length = sizes[1], sizes[2]
    for chunk in range(first, last):
        low, high = _chunk(chunk, 1, 0, length)
        channel = low // length % channels
        m, w, b = mean[channel], scale[channel], shift[channel]
        if residual.size == 0 and not relu:
            for i in range(low, high):
                put(y, i, (get(x, i) - m) * w + b)
        elif residual.size == 0:
            for i in range(low, high):
                put(y, i, _above_zero((get(x, i) - m) * w + b, True))
        else:
            for i in range(low, high):
                put(y, i, _above_zero((get(x, i) - m) * w + b + get(residual, i), relu))


@kernel
def scale_last(first, last, x, y, residual, mean, scale, shift, relu, sizes):
    """As scale_first; a task is a row."""
    rows, lanes, images = sizes[0], sizes[1], sizes[2]
    for row in range(first, last):
        at = row * images // rows * lanes
        if residual.size == 0 and not relu:
            for c in range(lanes):
                i = row * lanes + c
                put(y, i, (get(x, i) - get(mean, at + c)) * get(scale, at + c) + get(shift, at + c))
        else:
            for c in range(lanes):
                i = row * lanes + c
                value = (get(x, i) - get(mean, at + c)) * get(scale, at + c) + get(shift, at + c)
                if residual.size > 0:
                    value += get(residual, i)
                put(y, i, _above_zero(value, relu))


@inline
def _above_zero(value, relu):
    """ReLU, which lets NaN through."""
    return value * 0 if relu and value <= 0 else value


@kernel
def mask(first, last, dy, y, masked):
    """masked = dy where a ReLU with result y lets it through, otherwise 0; a task is a chunk."""
    for chunk in range(first, last):
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, dy.size)):
            put(masked, i, dy.dtype.type(0) if get(y, i) <= 0 else get(dy, i))


@kernel
def products_first(first, last, dy, x, mean, partial, sizes):
    """partial[split, (sum of dy, sum of dy * (x - mean)), channel]; a task is a channel of a split."""
    images, channels, length, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    chunks = images * chunks_of(length)
    for task in range(first, last):
        split, channel = task // channels, task % channels
        m = mean[channel]
        total, product = 0.0, 0.0
        for chunk in range(chunks * split // splits, chunks * (split + 1) // splits):
            low, high = _chunk(chunk, channels, channel, length)
            chunk_total, chunk_product = x.dtype.type(0), x.dtype.type(0)
            for i in range(low, high):
                chunk_total += get(dy, i)
                chunk_product += get(dy, i) * (get(x, i) - m)
            total += chunk_total
            product += chunk_product
        at = split * 2 * channels + channel
        partial[at], partial[at + channels] = total, product


@kernel
def products_last(first, last, dy, x, mean, partial, sizes):
    """As products_first, with lanes for channels; a task is a split."""
    rows, lanes, images, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    totals, products = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    step = min(max(_ROWS_CHUNK // lanes, 1), MOST_ROWS)
    for split in range(first, last):
        sums, at = split * 2 * lanes, split * images // splits * lanes
        for c in range(2 * lanes):
            put(partial, sums + c, 0)
        end = rows * (split + 1) // splits
        for low in range(rows * split // splits, end, step):
            for c in range(lanes):
                put(totals, c, 0)
                put(products, c, 0)
            high = min(low + step, end)
            fours = low + (high - low) // 4 * 4
            for row in range(low, fours, 4):
                for c in range(lanes):
                    i, m = row * lanes + c, get(mean, at + c)
                    d, e = get(dy, i), get(dy, i + lanes)
                    f, g = get(dy, i + 2 * lanes), get(dy, i + 3 * lanes)
                    put(totals, c, get(totals, c) + ((d + e) + (f + g)))
                    pair = d * (get(x, i) - m) + e * (get(x, i + lanes) - m)
                    other = f * (get(x, i + 2 * lanes) - m) + g * (get(x, i + 3 * lanes) - m)
                    put(products, c, get(products, c) + (pair + other))
            for row in range(fours, high):
                for c in range(lanes):
                    i = row * lanes + c
                    put(totals, c, get(totals, c) + get(dy, i))
                    put(products, c, get(products, c) + get(dy, i) * (get(x, i) - get(mean, at + c)))
            for c in range(lanes):
                put(partial, sums + c, get(partial, sums + c) + get(totals, c))
                put(partial, sums + lanes + c, get(partial, sums + lanes + c) + get(products, c))


@kernel
def grad_first(first, last, dy, x, dx, mean, scale, offset, slope, sizes):
    """dx = dy * scale - (x - mean) * slope - offset; a task is a chunk."""
    channels, length = sizes[1], sizes[2]
    for chunk in range(first, last):
        low, high = _chunk(chunk, 1, 0, length)
        channel = low // length % channels
        m, w, b, k = mean[channel], scale[channel], offset[channel], slope[channel]
        for i in range(low, high):
            put(dx, i, get(dy, i) * w - (get(x, i) - m) * k - b)


@kernel
def grad_last(first, last, dy, x, dx, mean, scale, offset, slope, sizes):
    """As grad_first; a task is a row."""
    rows, lanes, images = sizes[0], sizes[1], sizes[2]
    for row in range(first, last):
        at = row * images // rows * lanes
        for c in range(lanes):
            i = row * lanes + c
            d = get(dy, i) * get(scale, at + c) - (get(x, i) - get(mean, at + c)) * get(slope, at + c)
            put(dx, i, d - get(offset, at + c))
