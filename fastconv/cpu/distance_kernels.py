"""Kernels of vectors over their length: row by row where the axis is innermost in memory, lane by lane where it is not.

Sums are those of pieces in the precision of the row, added up in float64, in which the factors of a row are computed.
"""

import math

import numpy as np

from fastconv.cpu.jit import get, inline, kernel, put
from fastconv.cpu.softmax_kernels import LANES, PIECE, lanes_of
from fastconv.cpu.storage import load, store


@inline
def _factors(squares, products, eps):
    """(a, b): dx = dy * a - x * b, of the sums of x * x and of dy * x."""
    length = math.sqrt(squares)
    if length < eps:
        return 1 / eps, 0.0
    return 1 / length, products / squares / length


@inline
def _inverse(squares, eps):
    """1 over the length, or over eps if that is more."""
    length = math.sqrt(squares)
    return 1 / eps if length < eps else 1 / length


@kernel
def normalize_rows(first, last, x, y, kept, length, lanes, eps):
    """y of x [rows, length]; a task is a row."""
    number = kept.dtype.type
    for row in range(first, last):
        at = row * length
        squares = 0.0
        for low in range(at, at + length, PIECE):
            part = number(0)
            for i in range(low, min(low + PIECE, at + length)):
                part += load(x, i) * load(x, i)
            squares += part
        scale = number(_inverse(squares, eps))
        for i in range(at, at + length):
            store(y, i, load(x, i) * scale)


@kernel
def normalize_grad_rows(first, last, dy, x, dx, kept, length, lanes, eps):
    """dx of dy and x [rows, length]; a task is a row."""
    number = kept.dtype.type
    for row in range(first, last):
        at = row * length
        squares, products = 0.0, 0.0
        for low in range(at, at + length, PIECE):
            square, product = number(0), number(0)
            for i in range(low, min(low + PIECE, at + length)):
                square += load(x, i) * load(x, i)
                product += load(dy, i) * load(x, i)
            squares += square
            products += product
        a, b = _factors(squares, products, eps)
        scale, share = number(a), number(b)
        for i in range(at, at + length):
            store(dx, i, load(dy, i) * scale - load(x, i) * share)


@kernel
def normalize_lanes(first, last, x, y, kept, length, lanes, eps):
    """y of x [outer, length, lanes]; a task is a block of lanes."""
    number = kept.dtype.type
    part, squares = np.empty(LANES, kept.dtype), np.empty(LANES, np.float64)
    for task in range(first, last):
        at, count = lanes_of(task, length, lanes)
        for c in range(count):
            put(squares, c, 0.0)
        for low in range(0, length, PIECE):
            for c in range(count):
                put(part, c, number(0))
            for i in range(low, min(low + PIECE, length)):
                row = at + i * lanes
                for c in range(count):
                    put(part, c, get(part, c) + load(x, row + c) * load(x, row + c))
            for c in range(count):
                put(squares, c, get(squares, c) + get(part, c))
        for c in range(count):
            put(part, c, number(_inverse(get(squares, c), eps)))
        for i in range(length):
            row = at + i * lanes
            for c in range(count):
                store(y, row + c, load(x, row + c) * get(part, c))


@kernel
def normalize_grad_lanes(first, last, dy, x, dx, kept, length, lanes, eps):
    """dx of dy and x [outer, length, lanes]; a task is a block of lanes."""
    number = kept.dtype.type
    square, product = np.empty(LANES, kept.dtype), np.empty(LANES, kept.dtype)
    squares, products = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    for task in range(first, last):
        at, count = lanes_of(task, length, lanes)
        for c in range(count):
            put(squares, c, 0.0)
            put(products, c, 0.0)
        for low in range(0, length, PIECE):
            for c in range(count):
                put(square, c, number(0))
                put(product, c, number(0))
            for i in range(low, min(low + PIECE, length)):
                row = at + i * lanes
                for c in range(count):
                    put(square, c, get(square, c) + load(x, row + c) * load(x, row + c))
                    put(product, c, get(product, c) + load(dy, row + c) * load(x, row + c))
            for c in range(count):
                put(squares, c, get(squares, c) + get(square, c))
                put(products, c, get(products, c) + get(product, c))
        for c in range(count):
            a, b = _factors(get(squares, c), get(products, c), eps)
            put(square, c, number(a))
            put(product, c, number(b))
        for i in range(length):
            row = at + i * lanes
            for c in range(count):
                store(dx, row + c, load(dy, row + c) * get(square, c) - load(x, row + c) * get(product, c))
