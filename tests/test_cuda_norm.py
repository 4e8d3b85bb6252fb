"""The normalisation kernels under the emulator, where the shared cases do not lead: forced algorithms, split sums,
little workspace, sizes around tiles, and the same bits under every schedule."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import emulated, reference
from fastconv.cases import operator_cases
from fastconv.cuda import max_workspace, norm, use_algorithm
from fastconv.tolerance import assert_within, batch_norm_scales, bound, group_norm_scales
from tests.emulation import SCHEDULES, huge, require, results_of, schedule, sparse

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
EPS = 1e-5
C = 1  # measured worst case: 0.88 of a bound, in the halves

# Around vectors (2, 4 or 8 elements), warps, the 64 vectors and 256 threads of a block, and its 4 or 2 units.
BATCHES = [(2, 8, 128), (3, 5, 67), (1, 2, 2049), (70, 3, 5), (9, 8, 1), (5, 260, 3), (33, 24, 4), (1, 1, 1)]
GROUPS = [
    ((5, 64, 1), 1), ((3, 520, 1), 1), ((2, 4104, 1), 1), ((1, 8200, 1), 2), ((9, 15, 1), 3), ((2, 6, 49), 3),
    ((2, 8, 64), 8), ((1, 16, 300), 2), ((2, 520, 3), 4), ((2, 3, 1100), 1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def built():
    require("plain")


@pytest.fixture
def many_splits(monkeypatch):
    """Sums of a few elements are split as those of millions are."""
    monkeypatch.setattr(norm, "_BLOCK_ELEMENTS", 48)
    monkeypatch.setattr(norm, "_BLOCKS", 37)


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def normal(shape, dtype, seed, mean=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) + mean).astype(dtype)


def wide(*arrays):
    return [a.astype("float64") if isinstance(a, np.ndarray) else a for a in arrays]


def assert_close(results, expected, scales, lengths):
    for actual, exact, scale, length in zip(results, expected, scales, lengths, strict=True):
        assert_within(actual, exact, bound(exact, scale, length, actual.dtype, C))


def check_batch(shape, last, dtype, mean=0.0, relu=True):
    """Every operator of batch norm, behind a ReLU or not."""
    x, dy, residual = (stored(normal(shape, dtype, i, mean * (i == 0)), last) for i in range(3))
    w, b = (normal(shape[1], dtype, i) for i in (3, 4))
    length = x.size // shape[1]
    statistics = emulated.batch_norm_statistics(x)
    (wide_x,) = wide(x)
    exact = reference.batch_norm_statistics(wide_x)
    magnitude = abs(wide_x).mean(axis=(0, 2))
    assert_close(statistics, exact, (magnitude, exact[1]), (length, length))
    fused = (residual, True) if relu else (None, False)
    y = emulated.batch_norm_forward(x, *statistics, w, b, EPS, *fused)
    masks = (residual,) if relu else ()
    results = emulated.batch_norm_grad(dy, x, *statistics, w, EPS, *masks)
    expected = reference.batch_norm_grad(*wide(dy, x, *statistics, w, EPS, *masks))
    scale_y, *scales = batch_norm_scales(dy, x, *statistics, w, b, EPS)
    exact_y = reference.batch_norm_forward(*wide(x, *statistics, w, b, EPS, *fused))
    scale_y = scale_y + (abs(residual.astype("float64")) if relu else 0)
    assert_close((y,), (exact_y,), (scale_y,), (1,))
    assert_close(results, expected, (*scales, abs(dy.astype("float64")))[: len(results)], (length,) * len(results))
    for result in (y, results[0]):
        assert np.moveaxis(result, 1, -1).flags.c_contiguous or not last


def check_group(shape, groups, last, dtype, mean=0.0):
    """Both operators of group norm."""
    x, dy = (stored(normal(shape, dtype, i, mean * (i == 0)), last) for i in range(2))
    w, b = (normal(shape[1], dtype, i) for i in (3, 4))
    length = x[0].size // groups
    y, *statistics = emulated.group_norm_forward(x, groups, w, b, EPS)
    exact_y, *exact = reference.group_norm_forward(wide(x)[0], groups, *wide(w, b), EPS)
    scale_y, *scales = group_norm_scales(dy, x, *exact, groups, w, b, EPS)
    magnitude = abs(x.astype("float64").reshape(shape[0], groups, -1)).mean(axis=2)
    assert_close((y, *statistics), (exact_y, *exact), (scale_y, magnitude, exact[1]), (length,) * 3)
    results = emulated.group_norm_grad(dy, x, *statistics, groups, w, EPS)
    expected = reference.group_norm_grad(*wide(dy, x, *statistics), groups, *wide(w), EPS)
    assert_close(results, expected, scales, (length, x.size // shape[1], x.size // shape[1]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", BATCHES)
def test_batch_norm_around_the_tiles(shape, last, dtype):
    check_batch(shape, last, dtype, mean=3)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", BATCHES)
def test_batch_norm_of_split_sums(shape, last, many_splits):
    check_batch(shape, last, "float32", relu=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", [BATCHES[1], BATCHES[6]])
def test_batch_norm_by_rows_and_without_workspace(shape, last, dtype, many_splits):
    with max_workspace(0):
        check_batch(shape, last, dtype)
    with use_algorithm("batch_norm_grad", "rows"):
        check_batch(shape, last, dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape, groups", GROUPS)
def test_group_norm_around_the_tiles(shape, groups, last, dtype):
    check_group(shape, groups, last, dtype, mean=3)


@pytest.mark.parametrize("algorithm", ["rows", "sums"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape, groups", GROUPS[4:9])
def test_group_norm_by_each_algorithm(shape, groups, last, dtype, algorithm, many_splits):
    with use_algorithm("group_norm_forward", algorithm), use_algorithm("group_norm_grad", algorithm):
        check_group(shape, groups, last, dtype)


@pytest.mark.parametrize("limit", [0, 100, 3000])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape, groups", [GROUPS[5], ((2, 4, 700), 2)])
def test_group_norm_with_little_workspace(shape, groups, last, limit, many_splits, monkeypatch):
    monkeypatch.setattr(norm, "_HELD_BYTES", 0)
    with max_workspace(limit):
        check_group(shape, groups, last, "float32")


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype, mean", [("float32", 1e4), ("float32", -1e6), ("float64", 1e12)])
def test_variance_beside_a_large_mean(last, dtype, mean, many_splits):
    x = stored(normal((3, 5, 211), dtype, 1, mean), last)
    rows = np.moveaxis(x, 1, 0).reshape(5, -1).astype("float64") - mean  # exact
    expected = mean + rows.mean(axis=1), rows.var(axis=1)
    assert_close(emulated.batch_norm_statistics(x), expected, tuple(map(abs, expected)), (rows.shape[1],) * 2)
    rows = x.reshape(15, -1).astype("float64") - mean
    expected = mean + rows.mean(axis=1), rows.var(axis=1)
    for algorithm in ("rows", "sums"):
        with use_algorithm("group_norm_forward", algorithm):
            _, *statistics = emulated.group_norm_forward(x, 5, None, None, EPS)
        actual = [a.reshape(-1) for a in statistics]
        assert_close(actual, expected, tuple(map(abs, expected)), (rows.shape[1],) * 2)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_mean_is_not_finite_as_in_the_reference(value, last, many_splits):
    for at in (0, 100):
        x = normal((2, 3, 101), "float32", 0)
        x[0, 1, at] = value
        for actual, exact in zip(
            emulated.batch_norm_statistics(stored(x, last)), reference.batch_norm_statistics(x), strict=True
        ):
            np.testing.assert_allclose(actual, exact, rtol=1e-5)
        for algorithm in ("rows", "sums"):
            with use_algorithm("group_norm_forward", algorithm):
                results = emulated.group_norm_forward(stored(x, last), 3, None, None, EPS)
            for actual, exact in zip(results, reference.group_norm_forward(x, 3, None, None, EPS), strict=True):
                np.testing.assert_allclose(actual, exact, rtol=1e-4, atol=1e-5)


def test_a_relu_passes_nan_and_its_gradient_too():
    x = np.array([[np.nan, 2.0, -2.0]], "float32")
    zeros, ones = np.zeros(3, "float32"), np.ones(3, "float32")
    y = emulated.batch_norm_forward(x, zeros, ones, None, None, 0.0, None, True)
    np.testing.assert_array_equal(y, [[np.nan, 2, 0]])
    dy, y = np.ones((1, 4), "float32"), np.array([[np.nan, 0.0, -0.0, 1e-30]], "float32")
    zeros, ones = np.zeros(4, "float32"), np.ones(4, "float32")
    *_, db, dresidual = emulated.batch_norm_grad(dy, y * 0, zeros, ones, None, EPS, y)
    np.testing.assert_array_equal(dresidual, [[1, 0, 0, 1]])
    np.testing.assert_array_equal(db, [1, 0, 0, 1])


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_views_that_are_not_aligned(last):
    shape = (3, 8, 12)
    whole = normal((4, *shape[1:]), "float32", 0)
    memory = np.zeros(whole[:3].nbytes + 4, np.uint8)
    x = memory[4:].view("float32").reshape((3, 12, 8) if last else shape)
    x = np.moveaxis(x, -1, 1) if last else x
    x[...] = whole[:3]
    mean, variance = emulated.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, whole[:3].mean(axis=(0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, whole[:3].var(axis=(0, 2)), rtol=1e-5)
    y = emulated.batch_norm_forward(x, mean, variance, None, None, EPS)
    np.testing.assert_allclose(y, reference.batch_norm_forward(x, mean, variance, None, None, EPS), atol=1e-6)
    y, *statistics = emulated.group_norm_forward(x, 2, None, None, EPS)
    np.testing.assert_allclose(y, reference.group_norm_forward(x, 2, None, None, EPS)[0], atol=1e-5)
    dx, *_ = emulated.group_norm_grad(y, x, *statistics, 2, None, EPS)
    np.testing.assert_allclose(dx, reference.group_norm_grad(y, x, *statistics, 2, None, EPS)[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing_in_nothing_out(shape):
    x, w = np.empty(shape, "float32"), np.ones(shape[1], "float32")
    mean, variance = emulated.batch_norm_statistics(x)
    assert np.isnan(mean).all() and np.isnan(variance).all()
    assert emulated.batch_norm_forward(x, mean, variance, w, w, EPS).shape == shape
    groups = 2 if shape[1] else 1
    y, *statistics = emulated.group_norm_forward(x, groups, w, w, EPS)
    assert y.shape == shape and all(np.isnan(a).all() and a.shape == (shape[0], groups) for a in statistics)
    for results in (
        emulated.batch_norm_grad(x, x, mean, variance, w, EPS, x),
        emulated.group_norm_grad(x, x, *statistics, groups, w, EPS),
    ):
        assert results[0].shape == shape
        for gradient in results[1:3]:
            np.testing.assert_array_equal(gradient, np.zeros(shape[1]))


@pytest.mark.parametrize("shape, algorithm", [((4_194_305, 520), "rows"), ((65_537, 1, 32_776), "sums")])
def test_the_last_statistic_beyond_two_to_the_31(shape, algorithm):
    """All but the last block of every launch is left out, so that what it writes is all there is to compare."""
    x, w = sparse(shape, "float16"), np.linspace(0.5, 1.5, shape[1]).astype("float16")
    x[-1] = normal(shape[1:], "float16", 0, 3)
    with huge(), use_algorithm("group_norm_forward", algorithm):
        y, mean, variance = emulated.group_norm_forward(x, 1, w, None, EPS)
    exact = reference.group_norm_forward(x[-1:].astype("float64"), 1, w, None, EPS)
    np.testing.assert_allclose(mean[-1:], exact[1], rtol=1e-6)
    np.testing.assert_allclose(variance[-1:], exact[2], rtol=1e-6)
    written = slice(-8, None)  # the last block of a map writes no more
    np.testing.assert_allclose(y[-1].reshape(-1)[written], exact[0].reshape(-1)[written], rtol=2e-3, atol=2e-3)
    with huge(), use_algorithm("group_norm_grad", "rows"):
        dx, *_ = emulated.group_norm_grad(x, x, mean, variance, 1, w, EPS)
    exact = reference.group_norm_grad(*wide(x[-1:], x[-1:], mean[-1:], variance[-1:]), 1, w, EPS)[0]
    np.testing.assert_allclose(dx[-1].reshape(-1), exact.reshape(-1), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shape", [(2**28 + 5, 8), (5, 1, 2**29 + 16)])
def test_the_last_elements_beyond_two_to_the_31(shape):
    x, channels = sparse(shape, "float16"), np.linspace(0.5, 1.5, shape[1]).astype("float32")
    x.reshape(-1)[-16:] = normal(16, "float16", 0)
    with huge():
        y = emulated.batch_norm_forward(x, channels, channels, None, None, EPS)
    end = x.reshape(-1, 8)[-2:].astype("float64")
    expected = (end - channels.astype("float64")) / np.sqrt(channels + EPS)
    np.testing.assert_allclose(y.reshape(-1, 8)[-2:], expected, rtol=2e-3, atol=2e-3)


SCHEDULED = [
    c
    for c in operator_cases()
    if c.dtype == "float32"
    and c.storage in ("contiguous", "channels_last")
    and c.fill == "normal"
    and c.operator.startswith(("batch_norm", "group_norm"))
    and c.problem in ("2x33x5x7", "2x33x5x7, ReLU", "2x16x3x2x3 in 2", "5x37 in 1", "7x12 in 3")
]


@pytest.mark.parametrize("case", SCHEDULED, ids=lambda c: f"{c.operator}-{c.name}")
def test_every_schedule_gives_the_same_bits(case, many_splits):
    seen = []
    for order in SCHEDULES:
        with schedule(*order):
            seen.append(results_of(case))
    assert all(results == seen[0] for results in seen)
