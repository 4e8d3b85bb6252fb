"""Kernels of cross-entropy for scores [N, C, positions] (channels first) and [rows, C] (channels last).

The exponential is written out, since a call of the library's takes one score at a time: powers of two by the exponent
bits, the rest by its Taylor polynomial, whose remainder is below half a unit in the last place on the reduced range.
Source: Cody & Waite, Software Manual for the Elementary Functions, Prentice-Hall 1980, chapter 6.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from fastconv.cpu.jit import exact, get, inline, kernel, put

POSITIONS = 512  # of a task, channels first: their scores are read twice while they are in the cache
ROWS = 64  # of a task, channels last
_LANES = 16  # maxima that a row is cut into: one alone would be compared one score at a time

_LOG2E = 1.4426950408889634
_SINGLE = tuple(np.float32(1 / math.factorial(n)) for n in range(7, -1, -1))
_DOUBLE = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
# ln 2 in two parts, whose first has so few digits that its multiples are exact.
_SINGLE_LN2 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_DOUBLE_LN2 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# A sum with it rounds to a whole number, which its last bits then hold.
_SINGLE_WHOLE, _DOUBLE_WHOLE = np.float32(1.5 * 2**23), 1.5 * 2.0**52
_SINGLE_BITS, _DOUBLE_BITS = int(_SINGLE_WHOLE.view(np.int32)), int(np.float64(_DOUBLE_WHOLE).view(np.int64))


@exact
def _exp_single(x):
    """exp(x) of a float32 that is at most 88; 0 below -104, where nothing is left of it."""
    k = x * np.float32(_LOG2E) + _SINGLE_WHOLE
    n = k - _SINGLE_WHOLE
    r = (x - n * _SINGLE_LN2[0]) - n * _SINGLE_LN2[1]
    y = _SINGLE[0]
    for c in _SINGLE[1:]:
        y = y * r + c
    power = np.int32(np.float32(k).view(np.int32) - _SINGLE_BITS)
    half = np.int32(power >> 1)  # two factors reach the numbers below the least normal one
    first = np.int32((half + 127) << 23).view(np.float32)
    second = np.int32((power - half + 127) << 23).view(np.float32)
    return np.float32(0) if x < np.float32(-104) else y * first * second


@exact
def _exp_double(x):
    """exp(x) of a float64 that is at most 709; 0 below -746, where nothing is left of it."""
    k = x * _LOG2E + _DOUBLE_WHOLE
    n = k - _DOUBLE_WHOLE
    r = (x - n * _DOUBLE_LN2[0]) - n * _DOUBLE_LN2[1]
    y = _DOUBLE[0]
    for c in _DOUBLE[1:]:
        y = y * r + c
    power = np.float64(k).view(np.int64) - _DOUBLE_BITS
    half = power >> 1
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((power - half + 1023) << 52).view(np.float64)
    return 0.0 if x < -746.0 else y * first * second


def _exp(x):
    """exp(x) in the type of x, vectorised; for kernels alone."""


@overload(_exp, inline="always")
def _exp_by_type(x):
    if x == types.float32:
        return lambda x: _exp_single(x)
    return lambda x: _exp_double(x)


@exact
def _finish(share, even, hit, spread):
    """A loss of its term for the class and of that for all classes, which is left out without smoothing."""
    return (np.float32(1) - share) * hit + even * spread if share > 0 else hit


@kernel
def forward_first(first, last, x, target, w, smoothing, loss, logsumexp, sizes, ignored, faults):
    """loss and logsumexp [N, positions] of x [N, C, positions]; a task is a block of positions of one image."""
    length, classes, share = sizes[0], sizes[1], smoothing[0]
    blocks, even, zero = (length + POSITIONS - 1) // POSITIONS, share / smoothing.dtype.type(classes), share * 0
    largest, total, spread = np.empty(POSITIONS, x.dtype), np.empty(POSITIONS, x.dtype), np.empty(POSITIONS, x.dtype)
    for task in range(first, last):
        image, low = task // blocks, task % blocks * POSITIONS
        count = min(POSITIONS, length - low)
        at = image * classes * length + low
        for i in range(count):
            put(largest, i, get(x, at + i))
            put(total, i, zero)
            put(spread, i, zero)
        for c in range(1, classes):
            for i in range(count):
                v = get(x, at + c * length + i)
                put(largest, i, v if v > get(largest, i) else get(largest, i))
        for c in range(classes):
            for i in range(count):
                put(total, i, get(total, i) + _exp(get(x, at + c * length + i) - get(largest, i)))
        for i in range(count):
            put(total, i, math.log(get(total, i)))
        if share > 0:
            for c in range(classes):
                factor = w[c]
                for i in range(count):
                    term = get(total, i) - (get(x, at + c * length + i) - get(largest, i))
                    put(spread, i, get(spread, i) + factor * term)
        for i in range(count):
            position = image * length + low + i
            t = target[position]
            logsumexp[position] = largest[i] + total[i]
            if t == ignored:
                loss[position] = zero
            elif t < 0 or t >= classes:
                faults[0] = 1
            else:
                hit = w[t] * (total[i] - (x[at + t * length + i] - largest[i]))
                loss[position] = _finish(share, even, hit, spread[i])


@kernel
def forward_last(first, last, x, target, w, smoothing, loss, logsumexp, sizes, ignored, faults):
    """loss and logsumexp [rows] of x [rows, C]; a task is a block of rows."""
    rows, classes, share = sizes[0], sizes[1], smoothing[0]
    even, zero = share / smoothing.dtype.type(classes), share * 0
    lanes = np.empty(_LANES, x.dtype)
    for row in range(first * ROWS, min(last * ROWS, rows)):
        at, t = row * classes, target[row]
        largest = _largest(x, at, classes, lanes)
        total = zero
        for c in range(classes):
            total += _exp(get(x, at + c) - largest)
        total = x.dtype.type(math.log(total))
        logsumexp[row] = largest + total
        if t == ignored:
            loss[row] = zero
        elif t < 0 or t >= classes:
            faults[0] = 1
        else:
            spread = zero
            if share > 0:
                for c in range(classes):
                    spread += get(w, c) * (total - (get(x, at + c) - largest))
            loss[row] = _finish(share, even, w[t] * (total - (x[at + t] - largest)), spread)


@inline
def _largest(x, at, classes, lanes):
    """The largest of a row; a NaN may be passed over, the sum of the exponentials does not."""
    best = get(x, at)
    for i in range(_LANES):
        put(lanes, i, best)
    whole = classes // _LANES * _LANES
    for c in range(0, whole, _LANES):
        for i in range(_LANES):
            v = get(x, at + c + i)
            put(lanes, i, v if v > get(lanes, i) else get(lanes, i))
    for c in range(whole, classes):
        best = max(best, get(x, at + c))
    for i in range(_LANES):
        best = max(best, get(lanes, i))
    return best


@kernel
def grad_first(first, last, dloss, x, logsumexp, target, w, smoothing, dx, sizes, ignored, faults):
    """dx [N, C, positions]; tasks as in forward_first."""
    length, classes, share = sizes[0], sizes[1], smoothing[0]
    blocks, even = (length + POSITIONS - 1) // POSITIONS, share / smoothing.dtype.type(classes)
    total, zero = _sum(w), share * 0
    hits, evens, wholes = np.empty(POSITIONS, x.dtype), np.empty(POSITIONS, x.dtype), np.empty(POSITIONS, x.dtype)
    for task in range(first, last):
        image, low = task // blocks, task % blocks * POSITIONS
        count = min(POSITIONS, length - low)
        at, begin = image * classes * length + low, image * length + low
        for i in range(count):
            t, g = target[begin + i], dloss[begin + i]
            counts = t != ignored
            if counts and (t < 0 or t >= classes):
                faults[0] = 1
                counts = False
            hits[i] = g * ((np.float32(1) - share) * w[t]) if counts else zero
            evens[i] = g * even if counts else zero
            wholes[i] = hits[i] + evens[i] * total
        for c in range(classes):
            factor = w[c]
            for i in range(count):
                p = _exp(get(x, at + c * length + i) - get(logsumexp, begin + i))
                put(dx, at + c * length + i, p * get(wholes, i) - get(evens, i) * factor)
        for i in range(count):
            t = target[begin + i]
            if t != ignored and t >= 0 and t < classes:
                dx[at + t * length + i] -= hits[i]


@kernel
def grad_last(first, last, dloss, x, logsumexp, target, w, smoothing, dx, sizes, ignored, faults):
    """dx [rows, C]; tasks as in forward_last."""
    rows, classes, share = sizes[0], sizes[1], smoothing[0]
    even, total, zero = share / smoothing.dtype.type(classes), _sum(w), share * 0
    for row in range(first * ROWS, min(last * ROWS, rows)):
        at, t, g, lse = row * classes, target[row], dloss[row], logsumexp[row]
        counts = t != ignored
        if counts and (t < 0 or t >= classes):
            faults[0] = 1
            counts = False
        hit = g * ((np.float32(1) - share) * w[t]) if counts else zero
        spread = g * even if counts else zero
        whole = hit + spread * total
        for c in range(classes):
            put(dx, at + c, _exp(get(x, at + c) - lse) * whole - spread * get(w, c))
        if counts:
            dx[at + t] -= hit


@inline
def _sum(w):
    """The sum of all factors, in their order."""
    total = w.dtype.type(0)
    for c in range(w.size):
        total += get(w, c)
    return total
