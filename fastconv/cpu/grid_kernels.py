"""Kernels of sampling at the points of a grid: what a block of points reads, then all channels of that.

Planes are [N, C, volume], channels first; lanes are [N, volume, C], channels last; the grid is [N, points, axes]. What
points read is found once for all channels: of tap t of point p, the position in the volume, less than 0 outside, and
its weight, at [t * BLOCK + p]. Points are summed in their order, whoever runs a task.
"""

import numpy as np

from fastconv.cpu.jit import exact, get, get_apart, inline, kernel, multiply_add, put, put_apart, select

BLOCK = 256  # points: what they read, of up to 16 positions each, stays in the second-level cache
AXIS_TAPS = 4  # most positions of one axis that a point reads
NEAREST, BILINEAR, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2
OUTSIDE = -(2**60)  # so low that no sum with offsets inside reaches 0
WORK = (4 + 3 * AXIS_TAPS) * BLOCK  # numbers that reading needs room for


@exact
def locate(grid, first, count, axes, component, size, rule, r, moves):
    """r and its derivative by the coordinate, of points from number `first` of all images on; see fastconv.grid."""
    mode, padding, aligned = rule[0], rule[1], rule[2] != 0
    one, edge = r.dtype.type(1), r.dtype.type(0.5)
    half = r.dtype.type((size - 1 if aligned else size) / 2)
    if aligned:
        for p in range(count):
            put(r, p, (get(grid, (first + p) * axes + component) + one) * half)
    elif axes == 2:
        for p in range(count):
            put(r, p, multiply_add(get(grid, (first + p) * axes + component) + one, half, -edge))
    else:
        for p in range(count):
            put(r, p, (get(grid, (first + p) * axes + component) + one) * half - edge)
    for p in range(count):
        put(moves, p, half)
    if mode != BICUBIC and padding != ZEROS:
        move_inside(count, size, padding, aligned, r, moves)


@exact
def move_inside(count, size, padding, aligned, r, moves):
    """Positions moved into the image; moves times the derivative of that."""
    zero, last = r.dtype.type(0), r.dtype.type(size - 1)
    if padding == REFLECTION:
        edge, span = r.dtype.type(0 if aligned else -0.5), r.dtype.type(2 * (size - 1 if aligned else size))
        for p in range(count):
            way = abs(get(r, p) - edge)
            turns = get(r, p) < edge
            if not way < span:  # seldom, as fmod is slow
                way = np.fmod(way, span)
            back = span - way
            turns ^= way > back
            put(r, p, select(way > back, back, way) + edge)
            put(moves, p, select(turns, -get(moves, p), get(moves, p)))
    for p in range(count):
        at = get(r, p)
        put(moves, p, select((at > zero) & (at < last), get(moves, p), zero))
        put(r, p, select(at > zero, select(at < last, at, last), zero))


@exact
def read_axis(grid, first, count, axes, component, size, stride, rule, order, cubic, work, offset, weight):
    """What points read on one axis: stride times the position, OUTSIDE outside, and the weight."""
    mode, padding = rule[0], rule[1]
    zero, one, last = work.dtype.type(0), work.dtype.type(1), work.dtype.type(size - 1)
    r, moves = work[:BLOCK], work[BLOCK : 2 * BLOCK]
    locate(grid, first, count, axes, component, size, rule, r, moves)
    if mode == NEAREST:
        for p in range(count):
            put(r, p, np.rint(get(r, p)))
            put(weight, p, one if order == 0 else zero)
        offsets(count, r, last, stride, offset)
        return
    low, t = work[2 * BLOCK : 3 * BLOCK], work[3 * BLOCK :]
    for p in range(count):
        put(low, p, np.floor(get(r, p)))
        put(t, p, get(r, p) - get(low, p))
    if mode == BILINEAR:
        offsets(count, low, last, stride, offset)
        for p in range(count):
            put(low, p, get(low, p) + one)
        offsets(count, low, last, stride, offset[BLOCK:])
        for p in range(count):
            share, slope = get(t, p), get(moves, p)
            put(weight, p, one - share if order == 0 else -slope if order == 1 else share - share)
            put(weight, BLOCK + p, share if order == 0 else slope if order == 1 else share - share)
        return
    factor = one
    for _ in range(order):
        factor *= moves[0]
    for i in range(AXIS_TAPS):
        for p in range(count):
            put(r, p, get(low, p) + work.dtype.type(i - 1))
        if padding != ZEROS:
            move_inside(count, size, padding, rule[2] != 0, r, moves)
        offsets(count, r, last, stride, offset[i * BLOCK :])
        mirrored = i > 1  # the other two polynomials, of 1 - t
        signed = -factor if mirrored and order % 2 else factor
        start = 4 if i == 1 or i == 2 else 0
        a, b, c, d = cubic[start], cubic[start + 1], cubic[start + 2], cubic[start + 3]
        for p in range(count):
            share = one - get(t, p) if mirrored else get(t, p)
            put(weight, i * BLOCK + p, signed * (((d * share + c) * share + b) * share + a))


@exact
def offsets(count, r, last, stride, offset):
    """Stride times whole positions, OUTSIDE for those outside."""
    zero = r.dtype.type(0)
    for p in range(count):
        at = get(r, p)
        put(offset, p, select((at >= zero) & (at <= last), np.int64(np.int32(at)) * stride, np.int64(OUTSIDE)))


@exact
def read_points(grid, first, count, axes, size, rule, orders, cubic, work, index, weight):
    """Fill index and weight for points from number `first` of all images on; how many positions each reads."""
    taps = 1 if rule[0] == NEAREST else 2 if rule[0] == BILINEAR else 4
    offset, share = np.empty(3 * AXIS_TAPS * BLOCK, np.int64), work[4 * BLOCK :]
    stride, zero = 1, work.dtype.type(0)
    for a in range(axes):  # from the last axis on, as coordinates are
        at = a * AXIS_TAPS * BLOCK
        read_axis(grid, first, count, axes, a, size[2 - a], stride, rule, orders[2 - a], cubic[16 - 8 * a : 24 - 8 * a],
                  work[: 4 * BLOCK], offset[at:], share[at:])  # fmt: skip
        stride *= size[2 - a]
    target = 0
    for i in range(taps if axes == 3 else 1):
        for j in range(AXIS_TAPS, AXIS_TAPS + taps):
            for k in range(taps):
                for p in range(count):
                    place = get(offset, j * BLOCK + p) + get(offset, k * BLOCK + p)
                    product = get(share, j * BLOCK + p) * get(share, k * BLOCK + p)
                    put(index, target + p, place)
                    put(weight, target + p, product)
                if axes == 3:
                    at = (2 * AXIS_TAPS + i) * BLOCK
                    for p in range(count):
                        place = get(index, target + p) + get(offset, at + p)
                        put(index, target + p, place)
                        put(weight, target + p, select(place < 0, zero, get(weight, target + p) * get(share, at + p)))
                target += BLOCK
    return target // BLOCK


@inline
def read(image, place):
    """The value at a place of an image, 0 outside."""
    return select(place < 0, image.dtype.type(0), get_apart(image, max(place, 0)))


@inline
def weighted(image, index, weight, at):
    """What tap and point `at` give."""
    return get_apart(weight, at) * read(image, get_apart(index, at))


@kernel
def forward_planes(first, last, x, grid, y, channels, points, axes, size, rule, orders, cubic):
    """y [N, C, points] from x [N, C, volume]; a task is a block of points of an image."""
    blocks, volume = (points + BLOCK - 1) // BLOCK, size[0] * size[1] * size[2]
    index, weight, work = np.empty(16 * BLOCK, np.int64), np.empty(16 * BLOCK, x.dtype), np.empty(WORK, x.dtype)
    for task in range(first, last):
        n, start = task // blocks, task % blocks * BLOCK
        count = min(BLOCK, points - start)
        taps = read_points(grid, n * points + start, count, axes, size, rule, orders, cubic, work, index, weight)
        for plane in range(n * channels, (n + 1) * channels):
            image, target = x[plane * volume : (plane + 1) * volume], plane * points + start
            if taps == 1:
                for p in range(count):
                    put_apart(y, target + p, weighted(image, index, weight, p))
            for t in range(0, taps - 3, 4):  # four at once, as loads of what was summed so far would cost as much again
                one, two, three, four = t * BLOCK, (t + 1) * BLOCK, (t + 2) * BLOCK, (t + 3) * BLOCK
                if t == 0:
                    for p in range(count):
                        total = weighted(image, index, weight, one + p)
                        total += weighted(image, index, weight, two + p)
                        total += weighted(image, index, weight, three + p)
                        total += weighted(image, index, weight, four + p)
                        put_apart(y, target + p, total)
                    continue
                for p in range(count):
                    total = get(y, target + p) + weighted(image, index, weight, one + p)
                    total += weighted(image, index, weight, two + p)
                    total += weighted(image, index, weight, three + p)
                    total += weighted(image, index, weight, four + p)
                    put_apart(y, target + p, total)


@kernel
def forward_lanes(first, last, x, grid, y, channels, points, axes, size, rule, orders, cubic):
    """y [N, points, C] from x [N, volume, C]; a task is a block of points of an image."""
    blocks, volume = (points + BLOCK - 1) // BLOCK, size[0] * size[1] * size[2]
    index, weight, work = np.empty(16 * BLOCK, np.int64), np.empty(16 * BLOCK, x.dtype), np.empty(WORK, x.dtype)
    for task in range(first, last):
        n, start = task // blocks, task % blocks * BLOCK
        count = min(BLOCK, points - start)
        taps = read_points(grid, n * points + start, count, axes, size, rule, orders, cubic, work, index, weight)
        for p in range(count):
            target = (n * points + start + p) * channels
            for c in range(channels):
                put(y, target + c, 0)
            for t in range(taps):
                place, share = index[t * BLOCK + p], weight[t * BLOCK + p]
                if place < 0:
                    share *= x.dtype.type(0)  # NaN where a coordinate is not finite
                    for c in range(channels):
                        put(y, target + c, get(y, target + c) + share)
                    continue
                source = (n * volume + place) * channels
                for c in range(channels):
                    put(y, target + c, get(y, target + c) + share * get(x, source + c))


@kernel
def input_grad_planes(first, last, dy, grid, dx, channels, points, axes, size, rule, orders, cubic, group):
    """dx [N, C, volume] from dy [N, C, points]; a task is a group of planes of an image."""
    blocks, volume = (points + BLOCK - 1) // BLOCK, size[0] * size[1] * size[2]
    groups = (channels + group - 1) // group
    index, weight, work = np.empty(16 * BLOCK, np.int64), np.empty(16 * BLOCK, dy.dtype), np.empty(WORK, dy.dtype)
    for task in range(first, last):
        n, begin = task // groups, task % groups * group
        low, high = n * channels + begin, n * channels + min(begin + group, channels)
        for i in range(low * volume, high * volume):
            put(dx, i, 0)
        for start in range(0, blocks * BLOCK, BLOCK):
            count = min(BLOCK, points - start)
            taps = read_points(grid, n * points + start, count, axes, size, rule, orders, cubic, work, index, weight)
            for plane in range(low, high):
                source, target = plane * points + start, plane * volume
                for t in range(taps):
                    for p in range(count):
                        place = get(index, t * BLOCK + p)
                        if place >= 0:
                            at = target + place
                            put(dx, at, get(dx, at) + get(weight, t * BLOCK + p) * get(dy, source + p))


@kernel
def input_grad_lanes(first, last, dy, grid, dx, channels, points, axes, size, rule, orders, cubic, group):
    """dx [N, volume, C] from dy [N, points, C]; a task is a group of lanes of an image."""
    blocks, volume = (points + BLOCK - 1) // BLOCK, size[0] * size[1] * size[2]
    groups = (channels + group - 1) // group
    index, weight, work = np.empty(16 * BLOCK, np.int64), np.empty(16 * BLOCK, dy.dtype), np.empty(WORK, dy.dtype)
    for task in range(first, last):
        n, begin = task // groups, task % groups * group
        width = min(begin + group, channels) - begin
        for i in range(n * volume, (n + 1) * volume):
            for c in range(width):
                put(dx, i * channels + begin + c, 0)
        for start in range(0, blocks * BLOCK, BLOCK):
            count = min(BLOCK, points - start)
            taps = read_points(grid, n * points + start, count, axes, size, rule, orders, cubic, work, index, weight)
            for p in range(count):
                source = (n * points + start + p) * channels + begin
                for t in range(taps):
                    place, share = index[t * BLOCK + p], weight[t * BLOCK + p]
                    if place >= 0:
                        target = (n * volume + place) * channels + begin
                        for c in range(width):
                            put(dx, target + c, get(dx, target + c) + share * get(dy, source + c))


@kernel
def grid_grad(first, last, dy, x, grid, dgrid, channels, points, axes, size, rule, orders, cubic, lanes):
    """dgrid [N, points, axes] from dy and x, of lanes or of planes; a task is a block of points of an image.

    orders are those of each derivative, [axes, 3]; cubic likewise.
    """
    blocks, volume = (points + BLOCK - 1) // BLOCK, size[0] * size[1] * size[2]
    index, weight, work = np.empty(16 * BLOCK, np.int64), np.empty((axes, 16 * BLOCK), x.dtype), np.empty(WORK, x.dtype)
    sums, products = np.empty((axes, BLOCK), x.dtype), np.empty(BLOCK, x.dtype)
    for task in range(first, last):
        n, start = task // blocks, task % blocks * BLOCK
        count = min(BLOCK, points - start)
        taps = 0
        for a in range(axes):
            taps = read_points(grid, n * points + start, count, axes, size, rule, orders[a], cubic[a], work, index,
                               weight[a])  # fmt: skip
        sums[:] = 0
        for t in range(taps):
            if lanes:
                for p in range(count):
                    products[p] = dot(dy, (n * points + start + p) * channels, x, n * volume * channels,
                                      index[t * BLOCK + p], channels)  # fmt: skip
            else:
                for p in range(count):
                    put(products, p, 0)
                for plane in range(n * channels, (n + 1) * channels):
                    image, errors = x[plane * volume : (plane + 1) * volume], plane * points + start
                    for p in range(count):
                        value = read(image, get_apart(index, t * BLOCK + p))
                        put_apart(products, p, get(products, p) + value * get_apart(dy, errors + p))
            for a in range(axes):
                for p in range(count):
                    sums[a, p] += weight[a, t * BLOCK + p] * products[p]
        for p in range(count):
            for a in range(axes):
                total = sums[a, p]
                if not np.isfinite(total):  # channels were summed first: infinities may have met that never should
                    place_step, channel_step, error_step = (channels, 1, 1) if lanes else (1, volume, points)
                    errors = n * points * channels + (start + p) * (channels if lanes else 1)
                    total = reads_first(dy, errors, error_step, x, n * volume * channels, channel_step, place_step,
                                        channels, taps, index[p:], weight[a, p:])  # fmt: skip
                dgrid[(n * points + start + p) * axes + a] = total


@exact
def reads_first(dy, errors, error_step, x, image, channel_step, place_step, channels, taps, index, weight):
    """The derivative at one point by one coordinate, what is read summed before the channels."""
    total = x.dtype.type(0)
    for c in range(channels):
        slope = x.dtype.type(0)
        for t in range(taps):
            place = index[t * BLOCK]
            value = x[image + place * place_step + c * channel_step] if place >= 0 else x.dtype.type(0)
            slope += weight[t * BLOCK] * value
        total += dy[errors + c * error_step] * slope
    return total


@inline
def dot(dy, errors, x, image, place, channels):
    """The sum over the channels of one point of dy and one place of x, 0 outside."""
    total = x.dtype.type(0)
    if place >= 0:
        source = image + place * channels
        for c in range(channels):
            total += get(dy, errors + c) * get(x, source + c)
    return total
