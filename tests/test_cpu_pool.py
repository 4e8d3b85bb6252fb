"""The Numba poolings against the reference: maxima and indices exactly, sums within the error model, every element."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import blocks, reference
from fastconv.cpu import pool, threads
from fastconv.cpu.layout import is_channels_last
from fastconv.errors import ShapeError
from fastconv.pool import holds_elements, in_plane
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window
from tests.storage import storages

DTYPES = ["float32", "float64"]
HALVES = ["float16", ml_dtypes.bfloat16]  # on the kernels of float32
# Around vectors and whole multiples of them: rows of 1 to 70 bins, at strides that have kernels of their own.
SIZES = [(1,), (5,), (71,), (3, 4), (13, 17), (9, 70), (4, 5, 33), (6, 7, 5)]
# kernel, stride, padding, dilation, ceil_mode: one number for all axes, or a pair (before, after) for all
WINDOWS = [
    (1, 1, 0, 1, False),
    (2, 2, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 2, (1, 0), 1, True),
    (3, 1, (0, 1), 1, False),
    (2, 3, 1, 1, True),
    (5, 4, 2, 1, True),
    (1, 2, 0, 1, True),
    (3, 3, 1, 2, False),
    (3, 1, 2, 3, True),
    (7, 1, 3, 1, False),
]
# size and output: one cell, even and uneven ones, more cells than positions
CELLS = [
    *((size, (1,) * len(size)) for size in ((1,), (71,), (257,), (300,), (13, 17), (2, 64), (3, 5, 7))),
    ((71,), (8,)),
    ((72,), (9,)),
    ((5,), (40,)),
    ((13, 17), (3, 2)),
    ((13, 17), (7, 30)),
    ((16, 80), (4, 20)),
    ((16, 80), (2, 5)),
    ((9, 70), (9, 35)),
    ((4, 5, 33), (2, 5, 11)),
    ((4, 5, 33), (3, 1, 8)),
]
# Worst seen over all of these: 0.64 of the bound, of halves 1.00: one that rounds to its other neighbour.
C = 1.0
BATCH, CHANNELS = 2, 3


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def with_ties(rng, shape, dtype):
    """Few distinct values; NaNs and infinities among them, so that some windows hold nothing else."""
    x = rng.integers(-3, 3, shape).astype(dtype)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.3] = -np.inf
    x[rng.random(shape) < 0.1] = np.inf
    return x


def window_of(size, kernel, stride, padding, dilation, ceil_mode):
    """The Window over [2, 3, *size], or None where it would have no output."""
    x = np.broadcast_to(np.float32(0), (BATCH, CHANNELS, *size))
    padding = (padding,) * len(size) if isinstance(padding, tuple) else padding
    try:
        return Window.pool("pool", x, kernel, stride, padding, dilation, ceil_mode, len(size))
    except ShapeError:
        return None


def problems():
    found = [(size, window_of(size, *w)) for size in SIZES for w in WINDOWS]
    return [pytest.param(w, id=f"{list(size)}-{i}") for i, (size, w) in enumerate(found) if w is not None]


def check_sum(actual, operator, arguments, dtype, length):
    a, *rest = arguments
    expected = operator(a.astype("float64"), *rest)
    scale = abs(operator(abs(a.astype("float64")), *rest))
    assert actual.dtype == dtype
    assert (np.moveaxis(actual, 1, -1) if is_channels_last(a) else actual).flags.c_contiguous
    assert_within(actual, expected, bound(expected, scale, length, actual.dtype, C))


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("window", problems())
def test_windows(window, last):
    for dtype in DTYPES + (HALVES if window.size == (13, 17) else []):
        check_window(window, last, dtype)


def check_window(window, last, dtype):
    rng = np.random.default_rng(0)
    x = stored(with_ties(rng, window.input_shape, dtype), last)
    y, indices = pool.max_pool_forward(x, window)
    expected, expected_indices = reference.max_pool_forward(x, window)
    np.testing.assert_array_equal(y.astype("float64"), expected.astype("float64"))
    np.testing.assert_array_equal(indices, expected_indices)
    assert (y.dtype, indices.dtype) == (dtype, np.int64)

    dy = stored(rng.standard_normal(window.output_shape).astype(dtype), last)
    taps = int(np.prod(window.kernel))
    if holds_elements(window) and taps <= 256:
        check_in_window(window, x, y, indices, dy)
    if indices.min() >= 0:  # what dilation left without an element has no index
        np.testing.assert_array_equal(
            pool.pool_gather(x, indices).astype("f8"), reference.pool_gather(x, indices).astype("f8")
        )
        dx = pool.pool_scatter(dy, indices, window.size)
        check_sum(dx, reference.pool_scatter, (dy, indices, window.size), dtype, taps)
    if max(window.dilation) > 1:
        return
    x = stored(rng.standard_normal(window.input_shape).astype(dtype), last)
    for count_include_pad, divisor in ((True, None), (False, None), (True, -3)):
        rest = (window, count_include_pad, divisor)
        check_sum(pool.avg_pool_forward(x, *rest), reference.avg_pool_forward, (x, *rest), dtype, taps)
        dx = pool.avg_pool_input_grad(dy, *rest)
        check_sum(dx, reference.avg_pool_input_grad, (dy, *rest), dtype, taps)


def check_in_window(window, x, y, indices, dy):
    """Positions in the window name the same elements, and the gradient is the same to the bit."""
    same, found = pool.max_pool_forward(x, window, True)
    assert found.dtype == np.uint8
    assert (same.tobytes(), same.strides) == (y.tobytes(), y.strides)
    np.testing.assert_array_equal(found, reference.max_pool_forward(x, window, True)[1])
    np.testing.assert_array_equal(in_plane(found, window), indices)
    want = pool.max_pool_input_grad(dy, indices, window)
    for again in (found, np.ascontiguousarray(found)):
        dx = pool.max_pool_input_grad(dy, again, window)
        assert (dx.tobytes(), dx.strides) == (want.tobytes(), want.strides)


def test_windows_of_up_to_256_elements():
    rng = np.random.default_rng(6)
    x = with_ties(rng, (2, 3, 37, 41), "float32")
    for kernel in ((16, 16), (4, 8), (3, 11), (32, 8), (1, 256 // 8)):
        window = Window.pool("pool", x, kernel, (3, 2), 1 if min(kernel) > 1 else 0, 1, True, 2)
        for last in (False, True):
            a = stored(x, last)
            dy = stored(rng.standard_normal(window.output_shape).astype("float32"), last)
            check_in_window(window, a, *pool.max_pool_forward(a, window), dy)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("size, output", CELLS)
def test_cells(size, output, last):
    for dtype in DTYPES + (HALVES if size == (13, 17) else []):
        check_cells(size, output, last, dtype)


def check_cells(size, output, last, dtype):
    rng = np.random.default_rng(1)
    x = stored(with_ties(rng, (BATCH, CHANNELS, *size), dtype), last)
    y, indices = pool.adaptive_max_pool_forward(x, output)
    expected, expected_indices = reference.adaptive_max_pool_forward(x, output)
    np.testing.assert_array_equal(y.astype("float64"), expected.astype("float64"))
    np.testing.assert_array_equal(indices, expected_indices)

    x = stored(rng.standard_normal(x.shape).astype(dtype), last)
    elements = int(np.prod([-(-i // o) + 1 for i, o in zip(size, output, strict=True)]))
    y = pool.adaptive_avg_pool_forward(x, output)
    check_sum(y, reference.adaptive_avg_pool_forward, (x, output), dtype, elements)
    windows = int(np.prod([-(-o // i) + 1 for i, o in zip(size, output, strict=True)]))
    dy = stored(rng.standard_normal(y.shape).astype(dtype), last)
    dx = pool.adaptive_avg_pool_input_grad(dy, size)
    check_sum(dx, reference.adaptive_avg_pool_input_grad, (dy, size), dtype, windows)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "size, kernel, stride, padding, dilation",
    [
        ((150, 70), 3, 2, 1, 1),
        ((150, 70), 3, 1, 1, 1),
        ((151, 33), 2, 2, 0, 1),
        ((150, 37), (5, 3), (7, 3), (2, 1), 1),
        ((150, 37), 3, 1, 1, (20, 2)),
        ((6, 70, 50), 3, 2, 1, 1),
        ((5, 41, 50), 2, (1, 3, 1), 1, (2, 1, 3)),
        ((150, 70), (150, 70), 1, 0, 1),
    ],
)
def test_bands_of_rows(size, kernel, stride, padding, dilation, last):
    """Planes of several bands, with NaN in none, in some and in most of them."""
    rng = np.random.default_rng(8)
    plain = rng.integers(-3, 3, (2, 3, *size)).astype("float32")
    window = Window.pool("pool", plain, kernel, stride, padding, dilation, False, len(size))
    dy = stored(rng.standard_normal(window.output_shape).astype("float32"), last)
    for wrong in (0, 1e-4, 0.2):
        plain[rng.random(plain.shape) < wrong] = np.nan
        x = stored(plain, last)
        y, indices = pool.max_pool_forward(x, window)
        for actual, expected in zip((y, indices), reference.max_pool_forward(x, window), strict=True):
            np.testing.assert_array_equal(actual, expected)
        if np.prod(window.kernel) <= 256:
            check_in_window(window, x, y, indices, dy)
    if dilation == 1:
        taps = int(np.prod(window.kernel))
        x = stored(rng.standard_normal(window.input_shape).astype("float32"), last)
        rest = (window, True, None)
        check_sum(pool.avg_pool_forward(x, *rest), reference.avg_pool_forward, (x, *rest), "float32", taps)
        check_sum(pool.avg_pool_input_grad(dy, *rest), reference.avg_pool_input_grad, (dy, *rest), "float32", taps)


def every_result(x, window, cells):
    """What all operators give for one x."""
    y, indices = pool.max_pool_forward(x, window)
    yield from (y, indices, pool.pool_gather(x, indices), pool.pool_scatter(y, indices, window.size))
    _, taps = pool.max_pool_forward(x, window, True)
    yield from (taps, pool.max_pool_input_grad(y, taps, window))
    yield pool.avg_pool_forward(x, window, False, None)
    yield pool.avg_pool_input_grad(y, window, False, None)
    yield from pool.adaptive_max_pool_forward(x, cells)
    y = pool.adaptive_avg_pool_forward(x, cells)
    yield from (y, pool.adaptive_avg_pool_input_grad(y, window.size))


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch, last):
    monkeypatch.setattr(threads, "SERIAL_NANOSECONDS", 0)
    rng = np.random.default_rng(2)
    for shape in ((1, 40, 19, 23), (1, 2, 150, 70), (3, 5, 7, 9, 11)):
        x = stored(rng.standard_normal(shape).astype("float32"), last)
        window = Window.pool("pool", x, 3, 2, 1, 1, True, len(shape) - 2)
        results = []
        for count in (1, 2, 3):
            with threads.num_threads(count):
                results.append([r.tobytes() for r in every_result(x, window, (3,) * (len(shape) - 2))])
        assert results[0] == results[1] == results[2]


def poison(array):
    """A number that is no index."""
    return 249 if array.dtype == np.uint8 else -7


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_every_element_is_written(monkeypatch, last):
    empty = np.empty

    def poisoned(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        array[...] = np.nan if array.dtype.kind == "f" else poison(array)
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(blocks, "LEAST", float("inf"))
    x = stored(np.random.default_rng(3).standard_normal((2, 35, 14, 45)).astype("float32"), last)
    for kernel, stride in ((1, 3), (2, 2), (3, 1), (4, 5)):
        window = Window.pool("pool", x, kernel, stride, 0, 1, False, 2)
        for result in every_result(x, window, (3, 20)):
            assert np.isfinite(result).all()
            assert (result != poison(result)).all()


def test_storage_of_every_kind():
    rng = np.random.default_rng(4)
    plain = rng.standard_normal((2, 3, 8, 10)).astype("float32")
    window = Window.pool("pool", plain, 3, 2, 1, 1, False, 2)
    y, indices = pool.max_pool_forward(plain, window)
    dx = pool.pool_scatter(y, indices, window.size)
    for (name, x), (_, dy), (_, at) in zip(storages(plain), storages(y), storages(indices), strict=True):
        before = x.copy()
        for actual, expected in zip(pool.max_pool_forward(x, window), (y, indices), strict=True):
            np.testing.assert_array_equal(actual, expected, err_msg=name)
            assert actual.dtype.isnative
        np.testing.assert_array_equal(pool.pool_scatter(dy, at, window.size), dx, err_msg=name)
        np.testing.assert_array_equal(pool.pool_gather(x, at), y, err_msg=name)
        # Another format has sums of another order: only within one format are results the same to the bit.
        average = pool.avg_pool_forward(stored(plain, name == "channels_last"), window, True, None)
        np.testing.assert_array_equal(pool.avg_pool_forward(x, window, True, None), average, err_msg=name)
        np.testing.assert_array_equal(x, before, err_msg=name)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_nothing_in_nothing_out(shape, last):
    x = stored(np.empty(shape, "float32"), last)
    window = Window.pool("pool", x, 2, 2, 0, 1, False, 2)
    for result in every_result(x, window, (3, 3)):
        assert result.size == 0
        assert result.shape[:2] == shape[:2]


def test_no_cells():
    x = np.ones((2, 3, 4, 5), "float32")
    y, indices = pool.adaptive_max_pool_forward(x, (0, 2))
    assert y.shape == indices.shape == (2, 3, 0, 2)
    y = pool.adaptive_avg_pool_forward(x, (2, 0))
    assert y.shape == (2, 3, 2, 0)
    np.testing.assert_array_equal(pool.adaptive_avg_pool_input_grad(y, (4, 5)), np.zeros((2, 3, 4, 5)))
    np.testing.assert_array_equal(pool.pool_scatter(y, indices.reshape(y.shape), (4, 5)), np.zeros((2, 3, 4, 5)))


def test_positions_beyond_int32(monkeypatch):
    """Indices of planes that int32 cannot number: the wide kernels, run on a plane that it can."""
    x = with_ties(np.random.default_rng(5), (2, 3, 9, 40), "float32")
    window = Window.pool("pool", x, 3, 2, 1, 1, False, 2)
    monkeypatch.setattr(pool, "_MOST_NARROW", 0)
    for a in (x, stored(x, True)):
        for actual, expected in zip(
            pool.max_pool_forward(a, window), reference.max_pool_forward(x, window), strict=True
        ):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("wrong", [-1, 20, 2**62, -(2**63)])
def test_wrong_indices_are_refused(last, wrong):
    x = stored(np.ones((2, 3, 4, 5), "float32"), last)
    indices = stored(np.zeros((2, 3, 2, 2), np.int64), last)
    indices[1, 2, 1, 0] = wrong
    with pytest.raises(ShapeError, match="pool_gather: indices"):
        pool.pool_gather(x, indices)
    with pytest.raises(ShapeError, match="pool_place: indices"):
        pool.pool_place(x[:, :, :2, :2], np.zeros((2, 3, 2, 2), np.int64), (0, 5))
    with pytest.raises(ShapeError, match="pool_scatter: indices"):
        pool.pool_scatter(x[:, :, :2, :2], indices, (4, 5))
