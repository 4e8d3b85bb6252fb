"""Pooling on CUDA under the emulator: what the cases of the self-check do not ask."""

import contextlib

import ml_dtypes
import numpy as np
import pytest

from fastconv import cuda, reference
from fastconv.cuda import pool_geometry, pool_tile
from fastconv.errors import ShapeError
from fastconv.pool import holds_elements
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window
from tests.emulation import SCHEDULES, require, schedule

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 2.0
# size, kernel, stride, padding, dilation, ceil_mode: around vectors, sectors, warps and tiles.
WINDOWS = [
    ((67,), 3, 2, 1, 1, False),
    ((300,), 5, 4, 2, 1, True),
    ((9, 64), 3, 2, 1, 1, False),
    ((10, 48), 2, 2, 0, 1, False),
    ((9, 28), 3, 1, 1, 1, False),
    ((7, 33), (2, 4), (3, 1), (1, 2), 1, True),
    ((11, 40), 2, 3, ((1, 0), (0, 1)), 2, False),
    ((9, 32), 1, 4, 0, 1, False),
    ((4, 6, 16), 3, 2, 1, 1, True),
    ((3, 5, 7), (2, 1, 3), 1, (0, 0, 1), (1, 3, 2), False),
]
FORWARD = ("max_pool_forward", "avg_pool_forward", "adaptive_max_pool_forward", "adaptive_avg_pool_forward")
INPUT_GRAD = (
    "max_pool_input_grad",
    "avg_pool_input_grad",
    "adaptive_max_pool_input_grad",
    "adaptive_avg_pool_input_grad",
)


@pytest.fixture(autouse=True)
def built():
    require("plain")


def stored(array, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1) if last else array


def with_ties(shape, dtype="float32", seed=0):
    """Few distinct values, NaNs and infinities among them, and a plane that holds nothing but -infinity."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 3, shape).astype("float32")
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.2] = -np.inf
    x[rng.random(shape) < 0.1] = np.inf
    x[:1, :1] = -np.inf
    return x.astype(dtype)


def normal(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def window_over(size, channels=3, batch=2, kernel=3, stride=2, padding=1, dilation=1, ceil_mode=False):
    x = np.broadcast_to(np.float32(0), (batch, channels, *size))
    return Window.pool("pool", x, kernel, stride, padding, dilation, ceil_mode, len(size))


def check_max(x, window):
    for actual, expected in zip(cuda.max_pool_forward(x, window), reference.max_pool_forward(x, window), strict=True):
        np.testing.assert_array_equal(actual.astype("float64"), expected.astype("float64"))


def check_sum(operator, a, *rest, length):
    wide = a.astype("float64")
    expected = getattr(reference, operator)(wide, *rest)
    scale = abs(getattr(reference, operator)(abs(wide), *rest))
    actual = getattr(cuda, operator)(a, *rest)
    assert actual.dtype == a.dtype
    assert_within(actual, expected, bound(expected, scale, length, actual.dtype, C))


def check_everything(size, kernel, stride, padding, dilation, ceil_mode, last, dtype, channels=3):
    window = window_over(size, channels, 2, kernel, stride, padding, dilation, ceil_mode)
    check_max(stored(with_ties(window.input_shape, dtype), last), window)
    x = stored(normal(window.input_shape, dtype), last)
    dy = stored(normal(window.output_shape, dtype, 1), last)
    taps = int(np.prod(window.kernel))
    _, indices = reference.max_pool_forward(x, window)
    check_sum("max_pool_input_grad", dy, indices, window, length=taps)
    if holds_elements(window):
        check_in_window(stored(with_ties(window.input_shape, dtype), last), dy, window)
    if dilation == 1:
        for rest in ((window, True, None), (window, False, None), (window, True, -3)):
            check_sum("avg_pool_forward", x, *rest, length=taps)
            check_sum("avg_pool_input_grad", dy, *rest, length=taps)


def check_in_window(x, dy, window):
    """Positions in the window name the same elements, and the gradient is the same to the bit."""
    y, indices = cuda.max_pool_forward(x, window)
    same, taps = cuda.max_pool_forward(x, window, True)
    assert taps.dtype == np.uint8
    assert same.tobytes() == y.tobytes()
    np.testing.assert_array_equal(taps, reference.max_pool_forward(x, window, True)[1])
    want = cuda.max_pool_input_grad(dy, indices, window)
    for found in (taps, np.ascontiguousarray(taps)):
        assert cuda.max_pool_input_grad(dy, found, window).tobytes() == want.tobytes()


def every_result(x, window, cells):
    """What all operators give for one x."""
    y, taps = cuda.max_pool_forward(x, window, True)
    yield from (taps, cuda.max_pool_input_grad(y, taps, window))
    y, indices = cuda.max_pool_forward(x, window)
    yield from (y, indices, cuda.max_pool_input_grad(y, indices, window), cuda.pool_gather(x, indices))
    yield cuda.pool_scatter(y, indices, window.size)
    y = cuda.avg_pool_forward(x, window, False, None)
    yield from (y, cuda.avg_pool_input_grad(y, window, False, None))
    y, indices = cuda.adaptive_max_pool_forward(x, cells)
    yield from (y, indices, cuda.adaptive_max_pool_input_grad(y, indices, window.size))
    y = cuda.adaptive_avg_pool_forward(x, cells)
    yield from (y, cuda.adaptive_avg_pool_input_grad(y, window.size))


@contextlib.contextmanager
def algorithm(forward, input_grad):
    with contextlib.ExitStack() as stack:
        for operators, name in ((FORWARD, forward), (INPUT_GRAD, input_grad)):
            for operator in operators:
                stack.enter_context(cuda.use_algorithm(operator, name))
        yield


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_around_the_edges_of_tiles(window, last):
    for dtype in DTYPES if window in WINDOWS[2:4] else ["float32"]:
        check_everything(*window, last, dtype)


@pytest.mark.parametrize("channels", [1, 4, 8, 20, 31, 40])
def test_channels_around_vectors_and_tiles(channels):
    for dtype in ("float16", "float32"):
        check_everything((5, 6), 3, 2, 1, 1, False, True, dtype, channels)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("names", [("tile", "tile"), ("split", "direct")], ids=lambda names: "-".join(names))
def test_every_algorithm(names, last):
    with algorithm(*names):
        for window in WINDOWS[2:3] + WINDOWS[5:7] + WINDOWS[9:]:
            check_everything(*window, last, "float32")
        x = stored(normal((2, 5, 9, 12)), last)
        for cells in ((1, 1), (4, 5), (11, 3)):
            y, indices = cuda.adaptive_max_pool_forward(x, cells)
            expected, expected_indices = reference.adaptive_max_pool_forward(x, cells)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(indices, expected_indices)
            check_sum("adaptive_max_pool_input_grad", y, indices, (9, 12), length=9)
            check_sum("adaptive_avg_pool_forward", x, cells, length=9 * 12)
            check_sum("adaptive_avg_pool_input_grad", y, (9, 12), length=9)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("names", [("tile", "tile"), ("split", "direct")], ids=lambda names: "-".join(names))
def test_every_schedule_gives_the_same_bits(names, last):
    x = stored(with_ties((1, 5, 9, 20)), last)
    window = window_over((9, 20), 5, 1)
    results = []
    for order in SCHEDULES:
        with schedule(*order), algorithm(*names):
            results.append([r.tobytes() for r in every_result(x, window, (2, 3))])
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("nbytes", [0, 600, 2**20])
def test_planes_are_split_as_the_workspace_allows(nbytes, last):
    x = stored(with_ties((1, 3, 64, 65)), last)
    axes = pool_geometry.adaptive(x.shape[2:], (1, 1))
    split = pool_tile.split(axes, 1 if last else 3, 3 if last else 1, 12, nbytes)
    assert (split.parts > 1) == (nbytes > 0)
    assert split.parts * 3 * 12 <= max(nbytes, 36)
    with cuda.max_workspace(nbytes):
        y, indices = cuda.adaptive_max_pool_forward(x, (1, 1))
        expected, expected_indices = reference.adaptive_max_pool_forward(x, (1, 1))
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        check_sum("adaptive_avg_pool_forward", stored(normal(x.shape), last), (1, 1), length=64 * 65)


def test_of_nan_the_last_counts_whoever_found_it():
    x = np.full((1, 2, 40, 50), np.nan, "float32")
    x[0, 1, :, 25:] = 1
    for names in (("split", "tile"), ("tile", "tile")):
        with algorithm(*names) if names[0] == "split" else contextlib.nullcontext():
            _, indices = cuda.adaptive_max_pool_forward(x, (1, 1))
            assert indices.ravel().tolist() == [1999, 1974]


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("names", [("tile", "tile"), ("split", "direct")], ids=lambda names: "-".join(names))
def test_positions_in_windows_of_up_to_256_elements(names, last):
    for size, kernel in (((16, 16), (16, 16)), ((40, 21), (32, 8)), ((20, 19), (1, 17)), ((9, 5), (9, 5))):
        window = window_over(size, kernel=kernel, stride=(3, 2), padding=0, ceil_mode=True)
        with algorithm(*names):
            check_in_window(
                stored(with_ties(window.input_shape), last), stored(normal(window.output_shape), last), window
            )


def test_positions_in_windows_of_blocks_that_share_a_plane():
    window = window_over((16, 16), 1, 1, kernel=(16, 16), stride=1, padding=0)
    x = with_ties(window.input_shape)
    with cuda.use_algorithm("max_pool_forward", "split"), cuda.max_workspace(2**20):
        _, taps = cuda.max_pool_forward(x, window, True)
    np.testing.assert_array_equal(taps, reference.max_pool_forward(x, window, True)[1])


def test_a_window_without_an_element_has_no_maximum():
    window = Window.pool("pool", np.empty((1, 1, 1)), 2, 1, 1, 2, False, 1)
    for name in ("tile", "split"):
        with cuda.use_algorithm("max_pool_forward", name):
            y, indices = cuda.max_pool_forward(np.zeros((1, 1, 1), "float32"), window)
        assert y.tolist() == [[[-np.inf]]]
        assert indices.tolist() == [[[-1]]]


def test_a_plane_that_is_one_window_is_one_row():
    assert pool_geometry.adaptive((5, 6, 7), (1, 1, 1))[2].size == 210
    window = window_over((6, 7), kernel=(8, 7), stride=1, padding=((1, 1), (0, 0)))
    assert [axis.size for axis in pool_geometry.windowed(window)] == [1, 1, 42]
    for counted, divisor in ((True, 56.0), (False, 42.0)):
        assert pool_geometry.averaging(window, counted, None)[1] == divisor
        check_sum("avg_pool_forward", normal(window.input_shape), window, counted, None, length=56)
        check_sum("avg_pool_input_grad", normal(window.output_shape), window, counted, None, length=56)


def test_windows_too_large_for_shared_memory():
    window = window_over((121, 126), 1, 1, kernel=(120, 125), stride=1, padding=0)
    axes = pool_geometry.windowed(window)
    assert pool_tile.forward_tile(axes, 1, 1, 4) is None
    check_max(with_ties(window.input_shape), window)
    check_sum("avg_pool_forward", normal(window.input_shape), window, True, None, length=120 * 125)
    cells = (1, 1, 60_000)
    assert pool_tile.input_grad_tile(pool_geometry.adaptive((1, 1, 2), cells), 1, 1, 4, 8) is None
    dy = normal((1, 1, 60_000))
    check_sum("adaptive_avg_pool_input_grad", dy, (2,), length=60_000)
    _, indices = reference.adaptive_max_pool_forward(normal((1, 1, 2)), (60_000,))
    check_sum("adaptive_max_pool_input_grad", dy, indices, (2,), length=60_000)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_memory_that_is_not_aligned_for_vectors(last):
    memory = np.zeros(2 * 8 * 6 * 16 + 1, "float32")
    window = window_over((6, 16), 8)
    shape = (2, 6, 16, 8) if last else (2, 8, 6, 16)
    memory[1:] = with_ties(shape).ravel()
    x = memory[1:].reshape(shape)
    x = np.moveaxis(x, -1, 1) if last else x
    check_max(x, window)
    for name in ("tile", "split"):
        with cuda.use_algorithm("adaptive_max_pool_forward", name):
            _, indices = cuda.adaptive_max_pool_forward(x, (1, 1))
        np.testing.assert_array_equal(indices, reference.adaptive_max_pool_forward(x, (1, 1))[1])


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_scatter_adds_equal_indices_in_their_order(last):
    """1 after 2^24 twice would be lost one at a time, in any order but that of the outputs."""
    dy = np.zeros((1, 2, 40), "float32")
    dy[0, :, [0, 33, 35, 37]] = np.array([[2.0**24, 1, 1, -(2.0**24)]] * 2, "float32").T
    expected = np.float32(0)
    for value in dy[0, 0]:
        expected = np.float32(expected + value)
    indices = np.full((1, 2, 40), 2500)  # beyond the slice of the first warp
    dx = cuda.pool_scatter(stored(dy, last), stored(indices, last), (3000,))
    assert dx[0, :, 2500].tolist() == [expected] * 2
    assert not np.delete(dx, 2500, axis=2).any()


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_indices_out_of_range_name_nothing(last):
    x = stored(normal((2, 3, 4, 5)), last)
    indices = stored(np.arange(12).reshape(2, 3, 2, 1), last)
    expected = reference.pool_gather(x, indices)
    wrong = indices.copy()
    for at, value in (((0, 0, 0, 0), -1), ((0, 1, 1, 0), 20), ((1, 2, 0, 0), 2**40), ((1, 0, 0, 0), -(2**63))):
        wrong[at] = value
        expected[at] = 0
    np.testing.assert_array_equal(cuda.pool_gather(x, wrong), expected)
    dy = stored(normal((2, 3, 2, 1), seed=1), last)
    kept = np.where((wrong >= 0) & (wrong < 20), dy, 0)
    want = reference.pool_scatter(kept, np.where(kept != 0, wrong, 0), (4, 5))
    np.testing.assert_array_equal(cuda.pool_scatter(dy, wrong, (4, 5)), want)
    nowhere = stored(np.where((wrong >= 0) & (wrong < 20), wrong, -1), last)
    dx = cuda.adaptive_max_pool_input_grad(dy, wrong, (4, 5))
    np.testing.assert_array_equal(dx, cuda.adaptive_max_pool_input_grad(dy, nowhere, (4, 5)))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_nothing_in_nothing_out(shape, last):
    x = stored(np.empty(shape, "float32"), last)
    for result in every_result(x, Window.pool("pool", x, 2, 2, 0, 1, False, 2), (3, 3)):
        assert result.size == 0
        assert result.shape[:2] == shape[:2]


def test_no_cells():
    x = normal((2, 3, 4, 5))
    y, indices = cuda.adaptive_max_pool_forward(x, (0, 2))
    assert y.shape == indices.shape == (2, 3, 0, 2)
    zeros = np.zeros((2, 3, 4, 5))
    np.testing.assert_array_equal(cuda.adaptive_max_pool_input_grad(y, indices, (4, 5)), zeros)
    np.testing.assert_array_equal(cuda.adaptive_avg_pool_input_grad(y, (4, 5)), zeros)
    np.testing.assert_array_equal(cuda.pool_scatter(y, indices, (4, 5)), zeros)


def test_an_algorithm_that_does_not_fit_is_refused():
    window = window_over((121, 126), 1, 1, kernel=(120, 125), stride=1, padding=0)
    with (
        cuda.use_algorithm("max_pool_forward", "tile"),
        pytest.raises(ShapeError, match="max_pool_forward: algorithm"),
    ):
        cuda.max_pool_forward(normal(window.input_shape), window)


def test_positions_that_32_bits_cannot_number(monkeypatch):
    """The algorithm for planes of 2^31 positions and more, on a plane that is small."""
    monkeypatch.setattr("fastconv.cuda.pool._MOST_NARROW", 0)
    window = window_over((5, 9))
    _, indices = reference.max_pool_forward(normal(window.input_shape), window)
    check_sum("max_pool_input_grad", normal(window.output_shape), indices, window, length=9)


@pytest.mark.parametrize("shape", [(1, 1, 512, 512), (8, 64, 112, 112), (2, 32, 7, 7), (1, 1, 3, 5000)])
def test_tiles_fit_shared_memory_and_cover_the_result(shape):
    for lanes, planes in ((1, shape[0] * shape[1]), (shape[1], shape[0])):
        for kernel, stride in ((2, 2), (3, 2), (3, 1), (1, 3)):
            axes = pool_geometry.windowed(window_over(shape[2:], shape[1], shape[0], kernel, stride, kernel // 2))
            for itemsize in (2, 4, 8):
                tile = pool_tile.forward_tile(axes, planes, lanes, itemsize)
                assert tile.elements() * itemsize <= 40 * 1024
                assert all(1 <= t <= axis.output for t, axis in zip(tile.axes, axes, strict=True))
                tile = pool_tile.input_grad_tile(axes, planes, lanes, itemsize, max(itemsize, 4) + 4)
                assert tile.elements() * (max(itemsize, 4) + 4) <= 40 * 1024
                assert all(1 <= t <= axis.size for t, axis in zip(tile.axes, axes, strict=True))


@pytest.mark.parametrize(("width", "kernel", "stride"), [(16, 2, 16), (32, 2, 32), (16, 1, 8), (64, 2, 4)])
@pytest.mark.parametrize("planes", [1 << 12, 1 << 20])
def test_rows_of_whole_sectors_fit_shared_memory(width, kernel, stride, planes, monkeypatch):
    """Few columns of a row are wanted, but whole sectors of it are loaded: the box is many times its operands."""
    axes = pool_geometry.windowed(window_over((512, width), 1, planes, (2, kernel), (1, stride), 0))
    fits = [pool_tile.forward_tile(axes, planes, 1, itemsize) for itemsize in (2, 4, 8)]
    monkeypatch.setattr(pool_tile, "_LARGEST_BYTES", 1 << 40)
    pool_tile._grown.cache_clear()
    larger = [pool_tile.forward_tile(axes, planes, 1, itemsize) for itemsize in (2, 4, 8)]
    pool_tile._grown.cache_clear()
    for tile, limitless, itemsize in zip(fits, larger, (2, 4, 8), strict=True):
        phases = stride if stride in (2, 4) else 1
        assert pool_tile._padded_bytes(tile, itemsize, 32 // itemsize, phases) <= 96 * 1024
        assert tile.results() <= limitless.results()
