"""Cases of convolution and its gradients, of the transposed convolution and of activations after a convolution.

The sizes lie around the tiles of the CPU kernels (14 x 32, 6 x 16 and 12 x 8 filters by pixels) and around
their blocks (112, 128 and 256), so that whole tiles, partial ones and single rows all occur.
"""

import math

import numpy

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE
from fastconv.window import Window

# N, C, K, size, kernel, stride, padding, dilation, groups
CONVS = [
    (1, 1, 1, (1,), (1,), 1, 0, 1, 1),
    (1, 257, 13, (3,), (3,), 1, 1, 1, 1),  # deeper than a block
    (3, 5, 31, (129,), (3,), 2, 0, 1, 1),
    (2, 3, 7, (11,), (2,), 5, 0, 1, 1),  # steps over inputs
    (1, 4, 6, (13,), (3,), 1, ((4, 0),), 2, 2),  # causal
    (1, 1, 1, (1, 1), (1, 1), 1, 0, 1, 1),
    (2, 33, 15, (13, 17), (3, 3), 1, 1, 1, 1),
    (1, 9, 14, (14, 16), (3, 3), 1, 1, 1, 1),  # whole tiles
    (1, 8, 33, (6, 31), (3, 3), 1, 1, 1, 1),
    (3, 13, 31, (5, 5), (1, 1), 1, 0, 1, 1),
    (1, 64, 225, (1, 1), (1, 1), 1, 0, 1, 1),
    (1, 1025, 3, (1, 1), (1, 1), 1, 0, 1, 1),
    (1, 29, 257, (7, 7), (3, 3), 1, ((0, 2), (1, 0)), 1, 1),
    (5, 3, 33, (15, 14), (7, 7), 2, 3, 1, 1),
    (2, 5, 3, (6, 7), (6, 7), 1, 0, 1, 1),  # one output position
    (2, 4, 6, (16, 15), (3, 3), 5, 0, 1, 2),  # steps over inputs
    (1, 2, 3, (3, 3), (3, 3), 1, 4, 4, 1),  # taps that meet padding only
    (2, 12, 20, (9, 31), (3, 5), (1, 3), (2, 4), (2, 1), 4),
    (2, 15, 9, (8, 8), (3, 3), 1, 1, 1, 3),
    (2, 37, 37, (9, 10), (3, 3), 1, 1, 1, 37),
    (1, 7, 21, (9, 40), (5, 3), (2, 1), 2, 1, 7),  # three filters a channel
    (0, 3, 4, (5, 5), (3, 3), 1, 1, 1, 1),
    (2, 0, 3, (4, 5), (3, 2), 1, 0, 1, 1),
    (1, 1, 1, (1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
    (2, 5, 10, (6, 7, 5), (3, 3, 3), (1, 2, 2), 1, 1, 1),
    (1, 16, 16, (5, 6, 7), (3, 1, 3), 1, (1, 0, 2), (1, 1, 2), 16),
    (2, 3, 4, (4, 4, 4), (2, 2, 2), 2, 0, 1, 1),
    (1, 4, 14, (3, 13, 15), (3, 3, 3), 1, 1, 1, 2),
]

# Small ones that are stored in every way; the first of them also holds NaN and infinities.
STORED = [
    (2, 3, 5, (5, 6), (3, 2), (2, 1), ((1, 0), (1, 1)), 1, 1),
    (2, 6, 6, (7, 5), (3, 3), 1, 1, 1, 6),
    (1, 4, 6, (9,), (3,), 2, 1, 1, 2),
    (1, 2, 4, (3, 4, 5), (2, 3, 1), 1, (1, 1, 0), (1, 1, 2), 1),
    (2, 5, 4, (3, 3), (1, 1), 1, 0, 1, 1),
]

# Enough work to be shared by two threads, which smaller calls are not.
SHARED = [
    (2, 16, 32, (30, 31), (3, 3), 1, 1, 1, 1),
    (2, 32, 32, (49, 51), (3, 3), 1, 1, 1, 32),
]

_DRAWN = 60  # further problems

# The result of a transposed convolution: N, C, K, size, kernel, stride, padding, dilation, groups, output_padding
TRANSPOSED = [
    (1, 1, 1, (1,), (1,), 1, 0, 1, 1, 0),
    (2, 3, 5, (13,), (4,), 2, 1, 1, 1, 0),
    (2, 13, 7, (6, 5), (3, 3), 2, 1, 1, 1, 1),
    (2, 6, 4, (5, 4), (2, 3), (3, 2), ((1, 0), (0, 2)), 1, 2, (2, 0)),
    (2, 3, 2, (4, 5), (2, 2), 2, 0, 3, 1, (2, 1)),  # output_padding as large as the stride
    (2, 4, 3, (5, 6), (1, 1), 1, 0, 2, 1, (1, 0)),  # rows that no tap reaches
    (2, 4, 6, (3, 4, 5), (1, 1, 1), 1, 0, 2, 2, (0, 1, 1)),
    (1, 33, 31, (5, 5), (2, 2), 2, 0, 1, 1, 0),
    (1, 5, 5, (4, 6), (3, 3), 2, 1, 1, 5, 1),
    (0, 3, 2, (4, 4), (3, 3), 2, 1, 1, 1, 1),
    (1, 4, 3, (3, 2, 4), (3, 2, 2), (1, 2, 2), (1, 0, 0), 1, 1, (0, 1, 1)),
]


# dy of bias gradients: N, K, output
BIASES = [
    (1, 1, (1,)),
    (3, 5, (7,)),
    (2, 33, (13, 17)),
    (300, 3, (1, 1)),
    (7, 12, (4, 4)),  # whole vectors
    (1, 130, (3, 31)),
    (2, 3, (5, 6, 7)),
    (0, 3, (4,)),
    (2, 4, (0, 5)),
]
STORED_BIAS = (2, 4, (5, 6))
SHARED_BIAS = (2, 20, (100, 101))


def cases():
    """Cases of conv_forward, conv_input_grad, conv_weight_grad and conv_bias_grad."""
    for row in CONVS:
        yield from _conv_cases(row, quick=row[0] * row[1] > 0)
    for row in STORED:
        fills = ("normal", "special") if row is STORED[0] else ("normal",)
        yield from _conv_cases(row, fills=fills, storages=EVERY_STORAGE, quick=row is STORED[0])
    for row in SHARED:
        yield from _conv_cases(row, quick=True)
    yield from _forward_without_bias(STORED[0])
    for row in TRANSPOSED:
        yield from _transposed_cases(row)
    for row in drawn(_DRAWN):
        yield from _conv_cases(row)
    for activation in ("relu", "gelu", "silu"):
        yield from _activated(STORED[0], activation, fills=("normal", "special"))
        yield from _activated(STORED[1], activation)
    for row in (*BIASES, SHARED_BIAS):
        yield from _bias_cases(row, quick=row[0] > 0)
    yield from _bias_cases(STORED_BIAS, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)


def drawn(count):
    """Rows like those of CONVS, drawn by a fixed seed: combinations that nobody thought of."""
    generator = numpy.random.default_rng(20260)
    rows = []
    while len(rows) < count:
        rank = int(generator.integers(1, 4))

        def one(low, high, rank=rank):
            return tuple(int(v) for v in generator.integers(low, high + 1, rank))

        groups = int(generator.choice((1, 1, 1, 2, 3)))
        n, channels, filters = (int(generator.integers(1, high + 1)) for high in (3, 40 // groups, 40 // groups))
        size, kernel, stride, dilation = one(1, (90, 20, 8)[rank - 1]), one(1, 5), one(1, 4), one(1, 3)
        padding = tuple(zip(one(0, 3), one(0, 3), strict=True))
        row = (n, groups * channels, groups * filters, size, kernel, stride, padding, dilation, groups)
        fits = all(s + sum(pair) > d * (k - 1) for s, pair, d, k in zip(size, padding, dilation, kernel, strict=True))
        if fits and _work(conv_window(row)) < 2_000_000:
            rows.append(row)
    return rows


def conv_window(row):
    """The Window of a row of these tables."""
    n, channels, filters, size, kernel, stride, padding, dilation, groups = row
    x, w = shape_only(n, channels, *size), shape_only(filters, channels // groups, *kernel)
    return Window.conv(x, w, None, stride, padding, dilation, groups, len(size))


def transposed_window(row):
    """The Window of a row of TRANSPOSED: that of the convolution back from the result."""
    n, channels, filters, size, kernel, stride, padding, dilation, groups, extra = row
    x, w = shape_only(n, channels, *size), shape_only(channels, filters // groups, *kernel)
    return Window.conv_transpose(x, w, None, stride, padding, extra, groups, dilation, len(size))


def shape_only(*shape):
    """An array that Window can check, without memory of its own."""
    return numpy.broadcast_to(numpy.float32(0), shape)


def label(row):
    """A row in words, such as 2x33x13x17 -> 15, 3x3 p1."""
    n, channels, filters, size, kernel, *geometry = row
    text = f"{by((n, channels, *size))} -> {filters}, {by(kernel)}"
    for letter, value, default in zip("spdgo", geometry, (1, 0, 1, 1, 0), strict=False):
        if value != default:
            text += f" {letter}{numbers(value)}"
    return text


def numbers(value):
    """A stride, padding or dilation as text, such as 2 or (1,0)x(0,2)."""
    if not isinstance(value, tuple):
        return str(value)
    return "x".join(f"({v[0]},{v[1]})" if isinstance(v, tuple) else str(v) for v in value)


def _work(window):
    return math.prod(window.output_shape) * math.prod(window.weight_shape[1:])


def _conv_cases(row, **how):
    window = conv_window(row)

    def forward(draw):
        return draw.data(*window.input_shape), draw.normal(*window.weight_shape), draw.normal(window.filters), window

    def input_grad(draw):
        return draw.data(*window.output_shape), draw.normal(*window.weight_shape), None, window

    def weight_grad(draw):
        return draw.data(*window.input_shape), draw.normal(*window.output_shape), window

    for operator, make in (
        ("conv_forward", forward),
        ("conv_input_grad", input_grad),
        ("conv_weight_grad", weight_grad),
    ):
        yield from cross(operator, label(row), make, _work(window), **how)


def _forward_without_bias(row):
    window = conv_window(row)

    def make(draw):
        return draw.data(*window.input_shape), draw.normal(*window.weight_shape), None, window

    yield from cross("conv_forward", f"{label(row)}, no bias", make, _work(window), quick=True)


def _activated(row, activation, **how):
    window = conv_window(row)

    def make(draw):
        x, w = draw.data(*window.input_shape), draw.normal(*window.weight_shape)
        return x, w, draw.normal(window.filters), window, activation

    yield from cross("conv_forward", f"{label(row)}, {activation}", make, _work(window), quick=True, **how)


def _bias_cases(row, **how):
    n, filters, output = row

    def make(draw):
        return (draw.data(n, filters, *output),)

    yield from cross("conv_bias_grad", by((n, filters, *output)), make, math.prod((n, filters, *output)), **how)


def _transposed_cases(row):
    window = transposed_window(row)

    def make(draw):
        x, w = draw.data(*window.output_shape), draw.normal(*window.weight_shape)
        return x, w, draw.normal(window.channels), window

    quick = row[0] > 0
    yield from cross("conv_input_grad", f"transposed {label(row)}", make, _work(window), quick=quick)
