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
MEMBERS = 2048  # channels whose sums over images stay in the cache
_MOST_ROWS = 256  # that one sum in the dtype of x runs over, channels last


@inline
def chunks_of(length):
    """How many chunks a plane has."""
    return (length + CHUNK - 1) // CHUNK


@inline
def blocks_of(channels):
    """How many blocks of MEMBERS channels there are."""
    return (channels + MEMBERS - 1) // MEMBERS


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
    step = min(max(CHUNK // lanes, 1), _MOST_ROWS)
    for split in range(first, last):
        counts = split * 3 * lanes
        means, sums = counts + lanes, counts + 2 * lanes
        for c in range(3 * lanes):
            put(partial, counts + c, 0)
        end = rows * (split + 1) // splits
        for low in range(rows * split // splits, end, step):
            high = min(low + step, end)
            for c in range(lanes):
                put(pivots, c, 0)
                put(rests, c, 0)
                put(squares, c, 0)
            for row in range(low, high):
                for c in range(lanes):
                    put(pivots, c, get(pivots, c) + get(x, row * lanes + c))
            for c in range(lanes):
                put(pivots, c, get(pivots, c) / x.dtype.type(high - low))
            for row in range(low, high):
                for c in range(lanes):
                    d = get(x, row * lanes + c) - get(pivots, c)
                    put(rests, c, get(rests, c) + d)
                    put(squares, c, get(squares, c) + d * d)
            for c in range(lanes):
                count, mean, square = _joined(
                    get(partial, counts + c), get(partial, means + c), get(partial, sums + c),
                    high - low, get(pivots, c), get(origin, c), get(rests, c), get(squares, c),
                )  # fmt: skip
                put(partial, counts + c, count)
                put(partial, means + c, mean)
                put(partial, sums + c, square)


@kernel
def join_moments(first, last, partial, origin, mean, variance, splits):
    """mean and variance of each channel from the partial moments, in their order; a task is a channel."""
    channels = mean.size
    for channel in range(first, last):
        count, average, squares = 0.0, 0.0, 0.0
        for split in range(splits):
            at = split * 3 * channels + channel
            count, average, squares = _joined(
                count, average, squares, partial[at], partial[at + channels], 0.0, 0.0, partial[at + 2 * channels]
            )
        mean[channel] = origin[channel] + average
        variance[channel] = squares / count


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
    step = min(max(CHUNK // lanes, 1), _MOST_ROWS)
    for split in range(first, last):
        sums, at = split * 2 * lanes, split * images // splits * lanes
        for c in range(2 * lanes):
            put(partial, sums + c, 0)
        end = rows * (split + 1) // splits
        for low in range(rows * split // splits, end, step):
            for c in range(lanes):
                put(totals, c, 0)
                put(products, c, 0)
            for row in range(low, min(low + step, end)):
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


@kernel
def scale_members(first, last, x, y, mean, inverse, w, b, sizes):
    """y = (x - mean) * inverse * w + b of x [images, groups, members]; a task is a group of an image.

    w and b have no elements where they are ones and zeros.
    """
    groups, members = sizes[0], sizes[1]
    for task in range(first, last):
        m, r, row, at = mean[task], inverse[task], task * members, task % groups * members
        if w.size == 0 and b.size == 0:
            for c in range(members):
                put(y, row + c, (get(x, row + c) - m) * r)
        elif w.size == 0:
            for c in range(members):
                put(y, row + c, (get(x, row + c) - m) * r + get(b, at + c))
        elif b.size == 0:
            for c in range(members):
                put(y, row + c, (get(x, row + c) - m) * r * get(w, at + c))
        else:
            for c in range(members):
                put(y, row + c, (get(x, row + c) - m) * r * get(w, at + c) + get(b, at + c))


@kernel
def grad_members(first, last, dy, x, dx, mean, inverse, w, sizes):
    """dx of x [images, groups, members], by the sums over the members; a task is a group of an image.

    w has no elements where it is ones.
    """
    groups, members = sizes[0], sizes[1]
    for task in range(first, last):
        m, r, row, at = mean[task], inverse[task], task * members, task % groups * members
        total, product = 0.0, 0.0
        for low in range(0, members, CHUNK):
            high = min(low + CHUNK, members)
            chunk_total, chunk_product = x.dtype.type(0), x.dtype.type(0)
            if w.size == 0:
                for c in range(low, high):
                    chunk_total += get(dy, row + c)
                    chunk_product += get(dy, row + c) * (get(x, row + c) - m)
            else:
                for c in range(low, high):
                    d = get(dy, row + c) * get(w, at + c)
                    chunk_total += d
                    chunk_product += d * (get(x, row + c) - m)
            total += chunk_total
            product += chunk_product
        offset = x.dtype.type(total * r / members)
        slope = x.dtype.type(product * r * r * r / members)
        if w.size == 0:
            for c in range(members):
                put(dx, row + c, get(dy, row + c) * r - (get(x, row + c) - m) * slope - offset)
        else:
            for c in range(members):
                d = get(dy, row + c) * get(w, at + c) * r
                put(dx, row + c, d - (get(x, row + c) - m) * slope - offset)


@kernel
def products_members(first, last, dy, x, mean, inverse, partial, sizes):
    """partial[split, (sum of dy, sum of dy * (x - mean) * inverse), channel] over images; a task is a block of channels
    of a split."""
    groups, members, images, splits = sizes[0], sizes[1], sizes[2], sizes[3]
    lanes = groups * members
    blocks = blocks_of(lanes)
    totals, products = np.empty(MEMBERS, x.dtype), np.empty(MEMBERS, x.dtype)
    for task in range(first, last):
        split, left = task // blocks, task % blocks * MEMBERS
        right = min(left + MEMBERS, lanes)
        sums = split * 2 * lanes + left
        for c in range(right - left):
            put(partial, sums + c, 0)
            put(partial, sums + lanes + c, 0)
        end = images * (split + 1) // splits
        for low in range(images * split // splits, end, _MOST_ROWS):
            for c in range(right - left):
                put(totals, c, 0)
                put(products, c, 0)
            for image in range(low, min(low + _MOST_ROWS, end)):
                for group in range(left // members, (right - 1) // members + 1):
                    m, r = mean[image * groups + group], inverse[image * groups + group]
                    begin = max(group * members, left)
                    at = image * lanes + begin
                    for c in range(min((group + 1) * members, right) - begin):
                        d = get(dy, at + c)
                        put(totals, begin - left + c, get(totals, begin - left + c) + d)
                        product = d * ((get(x, at + c) - m) * r)
                        put(products, begin - left + c, get(products, begin - left + c) + product)
            for c in range(right - left):
                put(partial, sums + c, get(partial, sums + c) + get(totals, c))
                put(partial, sums + lanes + c, get(partial, sums + lanes + c) + get(products, c))


@kernel
def scale_rows(first, last, x, w, y, square, length, eps):
    """y = x / sqrt(square + eps) * w, and square, the mean of squares, of x [rows, length]; a task is a row."""
    for row in range(first, last):
        at, squares = row * length, 0.0
        for low in range(at, at + length, CHUNK):
            part = x.dtype.type(0)
            for i in range(low, min(low + CHUNK, at + length)):
                part += get(x, i) * get(x, i)
            squares += part
        square[row] = squares / length
        scale = x.dtype.type(1 / np.sqrt(squares / length + eps))
        if w.size == 0:
            for c in range(length):
                put(y, at + c, get(x, at + c) * scale)
        else:
            for c in range(length):
                put(y, at + c, get(x, at + c) * scale * get(w, c))


@kernel
def grad_rows(first, last, dy, x, w, dx, square, length, eps):
    """dx of x [rows, length], through the mean of squares; a task is a row."""
    for row in range(first, last):
        at, product = row * length, 0.0
        for low in range(0, length, CHUNK):
            part, high = x.dtype.type(0), min(low + CHUNK, length)
            if w.size == 0:
                for c in range(low, high):
                    part += get(dy, at + c) * get(x, at + c)
            else:
                for c in range(low, high):
                    part += get(dy, at + c) * get(w, c) * get(x, at + c)
            product += part
        inverse = 1 / np.sqrt(square[row] + eps)
        scale = x.dtype.type(inverse)
        slope = x.dtype.type(product * inverse * inverse * inverse / length)
        if w.size == 0:
            for c in range(length):
                put(dx, at + c, get(dy, at + c) * scale - get(x, at + c) * slope)
        else:
            for c in range(length):
                put(dx, at + c, get(dy, at + c) * get(w, c) * scale - get(x, at + c) * slope)
