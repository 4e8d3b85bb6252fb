"""The entries of a region: which positions the samples of its bins read, axis by axis, with which shares.

Entries of the three axes lie one after the other, ordered by bin and then by sample, two for each sample inside the
image; of an axis that is missing there is one. Coordinates are computed as fastconv.boxes says, rounding by rounding.
"""

import numpy as np

from fastconv.cpu.jit import exact, kernel

_FEW = 64  # samples of a bin that are looked at one by one


@exact
def position(start, length, p, i, count):
    """Where sample i of bin p lies."""
    number = type(start)
    base = start + number(p) * length
    return base + ((number(i) + number(0.5)) * length) / number(count)


@exact
def share_of(r, low, last, one):
    """The share of the position behind low, of a sample at r."""
    return one - one if low >= last else r - type(one)(low)


@kernel
def inside(start, length, p, count, size):
    """(first, last): the samples [first, last) of bin p that lie in [-1, size]."""
    low, high = 0, count
    if count > _FEW and length > 0:  # they may be millions
        low = _first(start, length, p, count, -1, True)
        high = _first(start, length, p, count, size, False)
        return low, high
    while low < high and not -1 <= position(start, length, p, low, count) <= size:
        low += 1
    while high > low and not -1 <= position(start, length, p, high - 1, count) <= size:
        high -= 1
    return low, high


@kernel
def _first(start, length, p, count, limit, or_equal):
    """The first sample of a bin that lies behind a limit, or at it."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        r = position(start, length, p, middle, count)
        if r > limit or (or_equal and r == limit):
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def entries(starts, lengths, counts, region, sizes, outputs, missing):
    """(begins, positions, shares) of a region; bin b of all axes has the entries from begins[b] to begins[b + 1]."""
    bins = outputs[0] + outputs[1] + outputs[2]
    begins = np.zeros(bins + 1, np.int64)
    b = 0
    for axis in range(3):
        for p in range(outputs[axis]):
            at = 3 * region + axis
            first, last = inside(starts[at], lengths[at], p, counts[at], sizes[axis])
            begins[b + 1] = begins[b] + (last - first) * (1 if axis < missing else 2)
            b += 1
    positions, shares = np.empty(begins[bins], np.int64), np.empty(begins[bins], starts.dtype)
    one = starts.dtype.type(1)
    b = e = 0
    for axis in range(3):
        at = 3 * region + axis
        for p in range(outputs[axis]):
            first, last = inside(starts[at], lengths[at], p, counts[at], sizes[axis])
            for i in range(first, last):
                r = max(position(starts[at], lengths[at], p, i, counts[at]), one - one)
                low = min(np.int64(r), sizes[axis] - 1)
                share = share_of(r, low, sizes[axis] - 1, one)
                positions[e], shares[e] = low, one - share
                e += 1
                if axis >= missing:
                    positions[e], shares[e] = min(low + 1, sizes[axis] - 1), share
                    e += 1
            b += 1
    return begins, positions, shares
