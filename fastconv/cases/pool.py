"""Cases of max, average and adaptive pooling, and of gather and scatter by index."""

import math

import numpy

from fastconv import reference
from fastconv.cases.case import by, cross
from fastconv.cases.conv import numbers, shape_only
from fastconv.cases.storage import EVERY_STORAGE
from fastconv.pool import holds_elements
from fastconv.window import Window

# N, C, size, kernel, stride, padding, dilation, ceil_mode
POOLS = [
    (1, 1, (1,), (1,), 1, 0, 1, False),
    (2, 3, (7,), (3,), 2, ((1, 0),), 1, True),
    (2, 13, (17,), (2,), 5, 0, 3, False),  # steps over inputs
    (2, 3, (5, 6), (2, 3), (1, 2), 1, (2, 1), True),
    (3, 31, (13, 17), (3, 3), 2, 1, 1, False),
    (1, 33, (15, 16), (3, 3), 1, 1, 1, False),
    (2, 5, (9, 8), (2, 2), 2, 0, 1, True),
    (1, 2, (5, 7), (5, 7), 1, 0, 1, False),  # one output position
    (2, 4, (6, 7), (3, 2), (2, 3), ((0, 1), (1, 0)), 1, True),
    (0, 3, (4, 4), (2, 2), 2, 0, 1, False),
    (1, 1, (1, 1, 1), (1, 1, 1), 1, 0, 1, False),
    (2, 3, (5, 4, 6), (2, 3, 2), (2, 2, 1), ((1, 0), (0, 1), (1, 1)), 1, True),
    (1, 15, (4, 5, 31), (3, 3, 3), 2, 1, 1, False),
]
STORED_POOL = (2, 3, (5, 6), (3, 2), (2, 1), ((1, 1), (0, 1)), 1, False)
SHARED_POOL = (4, 33, (63, 65), (3, 3), 2, 1, 1, False)

_DRAWN = 40  # further problems

# How an average counts: count_include_pad, divisor_override
AVERAGES = [(True, None), (False, None), (True, -3)]

# N, C, size, output_size
ADAPTIVE = [
    (1, 1, (1,), (1,)),
    (2, 13, (17,), (5,)),
    (2, 3, (3,), (7,)),  # windows that overlap
    (3, 31, (7, 9), (1, 1)),
    (2, 33, (13, 8), (4, 8)),
    (2, 3, (4, 5), (0, 2)),
    (0, 3, (4, 5), (2, 2)),
    (1, 5, (5, 4, 7), (2, 4, 3)),
    (2, 2, (2, 3, 1), (3, 2, 2)),
]
STORED_ADAPTIVE = (2, 3, (7, 5), (3, 4))
SHARED_ADAPTIVE = (4, 33, (63, 65), (7, 31))

# N, C, size of the planes, size of the indices
INDEXED = [
    (1, 1, (1,), (1,)),
    (2, 13, (31,), (7,)),
    (2, 3, (5, 7), (13, 11)),  # more indices than positions
    (3, 31, (13, 15), (6, 7)),
    (0, 3, (4, 4), (2, 2)),
    (2, 3, (4, 4), (0, 2)),
    (1, 5, (3, 4, 5), (2, 2, 2)),
]
STORED_INDEXED = (2, 3, (5, 6), (4, 3))
SHARED_INDEXED = (4, 33, (63, 65), (61, 67))


def cases():
    """Cases of every pooling operator."""
    for row in POOLS:
        yield from _max_cases(row, quick=row[0] > 0)
        yield from _average_cases(row, quick=row[0] > 0)
    yield from _max_cases(STORED_POOL, storages=EVERY_STORAGE, quick=True)
    yield from _average_cases(STORED_POOL, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _max_cases(SHARED_POOL, quick=True)
    yield from _average_cases(SHARED_POOL, quick=True)
    for row in ADAPTIVE:
        yield from _adaptive_cases(row, quick=row[0] > 0)
    yield from _adaptive_cases(STORED_ADAPTIVE, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _adaptive_cases(SHARED_ADAPTIVE, quick=True)
    for row in INDEXED:
        yield from _indexed_cases(row, quick=row[0] > 0)
    yield from _indexed_cases(STORED_INDEXED, storages=EVERY_STORAGE, quick=True)
    yield from _indexed_cases(SHARED_INDEXED, quick=True)
    for row in drawn(_DRAWN):
        yield from _max_cases(row)
        yield from _average_cases(row)


def drawn(count):
    """Rows like those of POOLS, drawn by a fixed seed: combinations that nobody thought of."""
    generator = numpy.random.default_rng(20261)
    rows = []
    while len(rows) < count:
        rank = int(generator.integers(1, 4))

        def one(low, high, rank=rank):
            return tuple(int(v) for v in generator.integers(low, high + 1, rank))

        n, channels = (int(generator.integers(1, high + 1)) for high in (3, 20))
        size, kernel, stride, dilation = one(3, (90, 20, 8)[rank - 1]), one(1, 5), one(1, 4), one(1, 2)
        # Half the kernel without its gaps: an average pooling, which has none, takes the row too.
        padding = tuple(tuple(int(generator.integers(0, k // 2 + 1)) for _ in range(2)) for k in kernel)
        fits = all(s + sum(pair) > d * (k - 1) for s, pair, d, k in zip(size, padding, dilation, kernel, strict=True))
        if fits:
            rows.append((n, channels, size, kernel, stride, padding, dilation, bool(generator.integers(2))))
    return rows


def pool_window(row):
    """The Window of a row of POOLS."""
    n, channels, size, kernel, stride, padding, dilation, ceil_mode = row
    return Window.pool("pool", shape_only(n, channels, *size), kernel, stride, padding, dilation, ceil_mode, len(size))


def label(row):
    """A row in words, such as 2x3x7, 3 s2 p1."""
    n, channels, size, kernel, stride, padding, dilation, ceil_mode = row
    text = f"{by((n, channels, *size))}, {by(kernel)}"
    for letter, value, default in (("s", stride, 1), ("p", padding, 0), ("d", dilation, 1)):
        if value != default:
            text += f" {letter}{numbers(value)}"
    return text + (" ceil" if ceil_mode else "")


def average_label(row, count_include_pad, divisor_override):
    """A row of an average pooling in words."""
    counted = "" if count_include_pad else ", padding not counted"
    return f"{label(row)}{counted}{f', / {divisor_override}' if divisor_override else ''}"


def _max_cases(row, **how):
    window = pool_window(row)
    work = math.prod(window.output_shape) * math.prod(window.kernel)

    def make(draw):
        return draw.data(*window.input_shape), window

    def input_grad(draw):
        _, indices = reference.max_pool_forward(draw.normal(*window.input_shape), window)
        return draw.data(*window.output_shape), indices, window

    def make_in_window(draw):
        return draw.data(*window.input_shape), window, True

    def input_grad_in_window(draw):
        _, indices = reference.max_pool_forward(draw.normal(*window.input_shape), window, True)
        return draw.data(*window.output_shape), indices, window

    yield from cross("max_pool_forward", label(row), make, work, **{"fills": ("normal", "ties"), **how})
    yield from cross("max_pool_input_grad", label(row), input_grad, work, **how)
    if holds_elements(window):
        text = f"{label(row)}, in window"
        yield from cross("max_pool_forward", text, make_in_window, work, **{"fills": ("normal", "ties"), **how})
        yield from cross("max_pool_input_grad", text, input_grad_in_window, work, **how)


def _average_cases(row, **how):
    row = (*row[:6], 1, row[7])  # an average pooling has no dilation
    window = pool_window(row)
    work = math.prod(window.output_shape) * math.prod(window.kernel)
    for include, divisor in AVERAGES if any(map(any, window.padding)) else AVERAGES[::2]:
        text = average_label(row, include, divisor)

        def forward(draw, include=include, divisor=divisor):
            return draw.data(*window.input_shape), window, include, divisor

        def input_grad(draw, include=include, divisor=divisor):
            return draw.data(*window.output_shape), window, include, divisor

        yield from cross("avg_pool_forward", text, forward, work, **how)
        yield from cross("avg_pool_input_grad", text, input_grad, work, **how)


def _adaptive_cases(row, **how):
    n, channels, size, output = row
    text = f"{by((n, channels, *size))} to {by(output)}"
    work = n * channels * math.prod(map(max, size, output)) * 2 ** len(size)

    def forward(draw):
        return draw.data(n, channels, *size), output

    def input_grad(draw):
        return draw.data(n, channels, *output), size

    def max_input_grad(draw):
        _, indices = reference.adaptive_max_pool_forward(draw.normal(n, channels, *size), output)
        return draw.data(n, channels, *output), indices, size

    yield from cross("adaptive_avg_pool_forward", text, forward, work, **how)
    yield from cross("adaptive_avg_pool_input_grad", text, input_grad, work, **how)
    yield from cross("adaptive_max_pool_forward", text, forward, work, **{**how, "fills": ("normal", "ties")})
    yield from cross("adaptive_max_pool_input_grad", text, max_input_grad, work, **how)


def _indexed_cases(row, **how):
    n, channels, size, output = row
    text = f"{by((n, channels, *size))} at {by(output)}"
    work = n * channels * math.prod(output)

    def gather(draw):
        return draw.data(n, channels, *size), draw.indices(math.prod(size), n, channels, *output)

    def scatter(draw):
        return draw.data(n, channels, *output), draw.indices(math.prod(size), n, channels, *output), size

    yield from cross("pool_gather", text, gather, work, **how)
    yield from cross("pool_scatter", text, scatter, work, **how)
    yield from cross("pool_place", text, scatter, work, **how)
