"""Kernels of cross-entropy for scores [N, C, positions] (channels first) and [rows, C] (channels last)."""

import math

import numpy as np

from fastconv.cpu.elementwise_functions import exponential
from fastconv.cpu.elementwise_functions import largest as larger
from fastconv.cpu.jit import exact, get, inline, kernel, put
from fastconv.cpu.storage import load

POSITIONS = 512  # of a task, channels first: their scores are read twice while they are in the cache
ROWS = 64  # of a task, channels last


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
                put(largest, i, larger(get(largest, i), get(x, at + c * length + i)))
        for c in range(classes):
            for i in range(count):
                put(total, i, get(total, i) + exponential(get(x, at + c * length + i) - get(largest, i)))
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
    for row in range(first * ROWS, min(last * ROWS, rows)):
        at, t = row * classes, target[row]
        largest = get(x, at)
        for c in range(1, classes):
            largest = larger(largest, get(x, at + c))
        total = zero
        for c in range(classes):
            total += exponential(get(x, at + c) - largest)
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
                p = exponential(get(x, at + c * length + i) - get(logsumexp, begin + i))
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
            put(dx, at + c, exponential(get(x, at + c) - lse) * whole - spread * get(w, c))
        if counts:
            dx[at + t] -= hit


@kernel
def nll(first, last, x, target, w, loss, factor, sizes, ignored, faults):
    """loss and factor [N, positions]; a task is a block of positions of an image.

    The class c of position p of image n is at (n * C * positions + p * step + c * stride) of x, step and stride being
    those of the memory format.
    """
    length, classes, step, stride = sizes[0], sizes[1], sizes[2], sizes[3]
    blocks = (length + POSITIONS - 1) // POSITIONS
    for task in range(first, last):
        image, low = task // blocks, task % blocks * POSITIONS
        at, begin = image * classes * length, image * length
        for i in range(low, min(low + POSITIONS, length)):
            t = get(target, begin + i)
            if t == ignored:
                continue
            if t < 0 or t >= classes:
                faults[0] = 1
                continue
            f = get(w, t)
            put(factor, begin + i, f)
            put(loss, begin + i, -f * load(x, at + i * step + t * stride))


@inline
def _sum(w):
    """The sum of all factors, in their order."""
    total = w.dtype.type(0)
    for c in range(w.size):
        total += get(w, c)
    return total
