"""Kernels of normalisation for rows: x [images, groups, members] of group norm on single pixels, and RMS norm.

Sums are taken as in norm_kernels.py.
"""

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.norm_kernels import CHUNK, MOST_ROWS

MEMBERS = 2048  # channels whose sums over images stay in the cache


@inline
def blocks_of(channels):
    """How many blocks of MEMBERS channels there are."""
    return (channels + MEMBERS - 1) // MEMBERS


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
        for low in range(images * split // splits, end, MOST_ROWS):
            for c in range(right - left):
                put(totals, c, 0)
                put(products, c, 0)
            for image in range(low, min(low + MOST_ROWS, end)):
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
