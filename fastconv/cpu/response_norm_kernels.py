"""Kernels of local response normalisation: blocks of lanes channels first, rows of channels channels last.

Sums over neighbouring channels are taken anew for every channel: they are short, and running sums would lose digits.
"""

import numpy as np

from fastconv.cpu.jit import formula, get, inline, kernel, put
from fastconv.cpu.storage import load, store

LANES = 256  # positions that are worked on together: a channel of them, and its sums, stay in the cache


@formula
def _three_quarters(one, base):
    """base^-0.75; not by an approximate root, which is NaN for infinity."""
    root = np.sqrt(base)
    return one / (root * np.sqrt(root))


@formula
def _half(one, base):
    """base^-0.5"""
    return one / np.sqrt(base)


@inline
def _powers(sums, powers, count, numbers):
    """powers = (k + alpha / size * sum)^-beta and sums = that base; common exponents by roots, which vectorise."""
    alpha, k, beta = numbers[0], numbers[1], numbers[2]
    one = numbers.dtype.type(1)
    for i in range(count):
        put(sums, i, k + alpha * get(sums, i))
    if beta == 0.75:
        for i in range(count):
            put(powers, i, _three_quarters(one, get(sums, i)))
    elif beta == 0.5:
        for i in range(count):
            put(powers, i, _half(one, get(sums, i)))
    elif beta == 1:
        for i in range(count):
            put(powers, i, one / get(sums, i))
    else:
        for i in range(count):
            put(powers, i, get(sums, i) ** -beta)


@inline
def _lane_squares(x, at, channel, count, channels, positions, size, sums):
    """sums = squares of the neighbours of a channel, for `count` positions from `at` on."""
    for i in range(count):
        put(sums, i, sums.dtype.type(0))
    for c in range(max(channel - size // 2, 0), min(channel + (size - 1) // 2 + 1, channels)):
        row = at + c * positions
        for i in range(count):
            put(sums, i, get(sums, i) + load(x, row + i) * load(x, row + i))


@inline
def _row_sums(values, before, after, channels, sums):
    """sums = those of so many values before and after each."""
    for c in range(channels):
        put(sums, c, sums.dtype.type(0))
    for apart in range(max(-before, 1 - channels), min(after, channels - 1) + 1):
        for c in range(max(-apart, 0), channels - max(apart, 0)):
            put(sums, c, get(sums, c) + get(values, c + apart))


@kernel
def response_lanes(first, last, x, y, kept, channels, positions, size, numbers):
    """y of x [images, channels, positions]; a task is a block of positions of an image."""
    blocks = (positions + LANES - 1) // LANES
    sums, powers = np.empty(LANES, kept.dtype), np.empty(LANES, kept.dtype)
    for task in range(first, last):
        low = task % blocks * LANES
        at, count = task // blocks * channels * positions + low, min(LANES, positions - low)
        for channel in range(channels):
            _lane_squares(x, at, channel, count, channels, positions, size, sums)
            _powers(sums, powers, count, numbers)
            row = at + channel * positions
            for i in range(count):
                store(y, row + i, load(x, row + i) * get(powers, i))


@kernel
def response_grad_lanes(first, last, dy, x, dx, kept, channels, positions, size, numbers):
    """dx of dy and x [images, channels, positions]; a task is a block of positions of an image."""
    blocks = (positions + LANES - 1) // LANES
    sums, powers = np.empty(LANES, kept.dtype), np.empty(LANES, kept.dtype)
    direct, through = np.empty(channels * LANES, kept.dtype), np.empty(channels * LANES, kept.dtype)
    for task in range(first, last):
        low = task % blocks * LANES
        at, count = task // blocks * channels * positions + low, min(LANES, positions - low)
        for channel in range(channels):
            _lane_squares(x, at, channel, count, channels, positions, size, sums)
            _powers(sums, powers, count, numbers)
            row, own = at + channel * positions, channel * LANES
            for i in range(count):
                put(direct, own + i, load(dy, row + i) * get(powers, i))
            for i in range(count):
                put(through, own + i, get(direct, own + i) * load(x, row + i) / get(sums, i))
        for channel in range(channels):
            for i in range(count):
                put(sums, i, kept.dtype.type(0))
            for c in range(max(channel - (size - 1) // 2, 0), min(channel + size // 2 + 1, channels)):
                for i in range(count):
                    put(sums, i, get(sums, i) + get(through, c * LANES + i))
            row, own = at + channel * positions, channel * LANES
            for i in range(count):
                store(dx, row + i, get(direct, own + i) - load(x, row + i) * numbers[3] * get(sums, i))


@kernel
def response_rows(first, last, x, y, kept, channels, positions, size, numbers):
    """As response_lanes, of x [rows, channels]; a task is a row."""
    squares, sums, powers = (
        np.empty(channels, kept.dtype), np.empty(channels, kept.dtype), np.empty(channels, kept.dtype)
    )  # fmt: skip
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            put(squares, c, load(x, at + c) * load(x, at + c))
        _row_sums(squares, size // 2, (size - 1) // 2, channels, sums)
        _powers(sums, powers, channels, numbers)
        for c in range(channels):
            store(y, at + c, load(x, at + c) * get(powers, c))


@kernel
def response_grad_rows(first, last, dy, x, dx, kept, channels, positions, size, numbers):
    """As response_grad_lanes, of dy and x [rows, channels]; a task is a row."""
    values, sums, powers = (
        np.empty(channels, kept.dtype), np.empty(channels, kept.dtype), np.empty(channels, kept.dtype)
    )  # fmt: skip
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            put(values, c, load(x, at + c) * load(x, at + c))
        _row_sums(values, size // 2, (size - 1) // 2, channels, sums)
        _powers(sums, powers, channels, numbers)
        for c in range(channels):
            put(values, c, load(dy, at + c) * get(powers, c) * load(x, at + c) / get(sums, c))
        _row_sums(values, (size - 1) // 2, size // 2, channels, sums)
        for c in range(channels):
            store(dx, at + c, load(dy, at + c) * get(powers, c) - load(x, at + c) * numbers[3] * get(sums, c))
