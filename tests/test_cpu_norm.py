"""The Numba batch normalisation against the reference, every element within the error model."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import blocks, reference
from fastconv.cpu import norm, threads
from fastconv.tolerance import assert_within, batch_norm_scales, bound
from tests.storage import storages

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
# Around vectors, chunks (4096 elements, 256 rows), blocks of 256 channels, splits of a sum, fewer channels than lanes.
SHAPES = [
    (5, 1),
    (4, 3),
    (64, 40),
    (2, 3, 7),
    (3, 5, 1, 1),
    (8, 16, 7, 7),
    (3, 70, 9, 11),
    (5, 300, 3, 11),
    (2, 2, 130, 70),
    (1, 1, 91, 97),
    (2, 5, 6, 7, 8),
]
C = 1.0  # worst seen over all of these: 0.95 of the bound
EPS = 1e-5


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def wide(*arrays):
    return [None if a is None else a.astype("float64") for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean, affine", [(0, True), (100, False)])
def test_all_operators(shape, last, dtype, mean, affine):
    rng = np.random.default_rng(0)
    x = stored((rng.standard_normal(shape) + mean).astype(dtype), last)
    dy = stored(rng.standard_normal(shape).astype(dtype), last)
    w, b = (rng.standard_normal(shape[1]).astype(dtype) if affine else None for _ in range(2))
    length = x.size // shape[1]

    statistics = norm.batch_norm_statistics(x)
    exact = reference.batch_norm_statistics(x.astype("float64"))
    magnitude = abs(x.astype("float64")).mean(axis=(0, *range(2, x.ndim)))
    for actual, expected, scale in zip(statistics, exact, (magnitude, exact[1]), strict=True):
        assert actual.dtype == ("float64" if dtype == "float64" else "float32")
        assert_within(actual, expected, bound(expected, scale, length, actual.dtype, C))

    y = norm.batch_norm_forward(x, *statistics, w, b, EPS)
    results = (y, *norm.batch_norm_grad(dy, x, *statistics, w, EPS))
    wide_x, wide_dy, *wide_rest = wide(x, dy, *statistics, w, b)
    expected = (
        reference.batch_norm_forward(wide_x, *wide_rest, EPS),
        *reference.batch_norm_grad(wide_dy, wide_x, *wide_rest[:-1], EPS),
    )
    scales = batch_norm_scales(dy, x, *statistics, w, b, EPS)
    for actual, exact, scale in zip(results, expected, scales, strict=True):
        assert actual.dtype == dtype
        assert_within(actual, exact, bound(exact, scale, length, np.dtype(dtype), C))
    for result in results[:2]:
        assert np.moveaxis(result, 1, -1).flags.c_contiguous or not last


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype, mean", [("float32", 1e4), ("float32", -1e6), ("float64", 1e12)])
def test_variance_beside_a_large_mean(last, dtype, mean):
    x = stored((np.random.default_rng(1).standard_normal((4, 6, 33, 50)) + mean).astype(dtype), last)
    # The differences are exact; the reference would round the mean to float64.
    rows = np.moveaxis(x, 1, 0).reshape(6, -1).astype("float64") - mean
    expected = mean + rows.mean(axis=1), rows.var(axis=1)
    for actual, exact in zip(norm.batch_norm_statistics(x), expected, strict=True):
        assert_within(actual, exact, bound(exact, abs(exact), rows.shape[1], np.dtype(dtype), C))


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_nan_and_infinity_stay_in_their_channel(last):
    plain = np.random.default_rng(2).standard_normal((3, 20, 5, 7)).astype("float32")
    x = plain.copy()
    x[1, 4, 2, 3], x[0, 5, 0, 0], x[2, 18, 4, 6] = np.nan, np.inf, -np.inf
    others = [c for c in range(20) if c not in (4, 5, 18)]
    x, plain = stored(x, last), stored(plain, last)
    mean, variance = norm.batch_norm_statistics(x)
    for actual, expected in zip((mean, variance), norm.batch_norm_statistics(plain), strict=True):
        np.testing.assert_array_equal(actual[others], expected[others])
    assert np.isnan(variance[[4, 5, 18]]).all()
    y = norm.batch_norm_forward(x, mean, variance, None, None, EPS)
    dx, dw, db = norm.batch_norm_grad(plain, x, mean, variance, None, EPS)
    for result in (y, dx):
        assert np.isnan(result[:, [4, 5, 18]]).all()
        assert np.isfinite(result[:, others]).all()
    assert np.isfinite(dw[others]).all()
    assert np.isfinite(db).all()


def every_result(x, dy, w, b):
    """What all operators give for one x."""
    mean, variance = norm.batch_norm_statistics(x)
    yield from (mean, variance, norm.batch_norm_forward(x, mean, variance, w, b, EPS))
    yield from norm.batch_norm_grad(dy, x, mean, variance, w, EPS)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch, last):
    monkeypatch.setattr(threads, "SERIAL_NANOSECONDS", 0)
    rng = np.random.default_rng(3)
    for shape in ((3, 37, 19, 23), (2, 3, 90, 100), (1, 1, 30, 20, 50)):
        x, dy = (stored(rng.standard_normal(shape).astype("float32"), last) for _ in range(2))
        w, b = (rng.standard_normal(shape[1]).astype("float32") for _ in range(2))
        results = []
        for count in (1, 2, 3):
            with threads.num_threads(count):
                results.append([r.tobytes() for r in every_result(x, dy, w, b)])
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_every_element_is_written(monkeypatch, last):
    empty = np.empty

    def poisoned(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        array[...] = np.nan
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(blocks, "LEAST", float("inf"))
    rng = np.random.default_rng(4)
    for shape in ((3, 5, 14, 15), (2, 37, 90, 50), (7, 3)):
        x = stored(rng.standard_normal(shape).astype("float32"), last)
        for result in every_result(x, x, x[0].reshape(shape[1], -1)[:, 0], None):
            assert np.isfinite(result).all()


def test_storage_of_every_kind():
    rng = np.random.default_rng(5)
    plain, plain_dy = (rng.standard_normal((4, 6, 8, 10)).astype("float32") for _ in range(2))
    channels = [rng.random(6).astype("float32") for _ in range(4)]
    for (name, x), (_, dy) in zip(storages(plain), storages(plain_dy), strict=True):
        before = x.copy()
        # Another format has sums of another order: only within one format are results the same to the bit.
        first, second = (stored(a, name == "channels_last") for a in (plain, plain_dy))
        for (kind, mean), (_, variance), (_, w), (_, b) in zip(*map(storages, channels), strict=True):
            y = norm.batch_norm_forward(x, mean, variance, w, b, EPS)
            np.testing.assert_array_equal(y, norm.batch_norm_forward(first, *channels, EPS), err_msg=name + kind)
            results = norm.batch_norm_grad(dy, x, mean, variance, w, EPS)
            expected = norm.batch_norm_grad(second, first, *channels[:3], EPS)
            for actual, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(actual, wanted, err_msg=name + kind)
                assert actual.dtype.isnative
        for actual, wanted in zip(norm.batch_norm_statistics(x), norm.batch_norm_statistics(first), strict=True):
            np.testing.assert_array_equal(actual, wanted, err_msg=name)
        np.testing.assert_array_equal(x, before, err_msg=name)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_a_gradient_in_another_format_than_x(last):
    rng = np.random.default_rng(6)
    x, dy = (rng.standard_normal((3, 9, 5, 7)) for _ in range(2))
    statistics = norm.batch_norm_statistics(x)
    dx, dw, db = norm.batch_norm_grad(stored(dy, last), stored(x, not last), *statistics, None, EPS)
    for actual, expected in zip((dx, dw, db), norm.batch_norm_grad(dy, x, *statistics, None, EPS), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
    assert np.moveaxis(dx, 1, -1).flags.c_contiguous == last


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 0, 4), (0, 0, 2, 2), (2, 3, 0)])
def test_nothing_in_nothing_out(shape):
    x = np.empty(shape, "float32")
    mean, variance = norm.batch_norm_statistics(x)
    np.testing.assert_array_equal(mean, np.full(shape[1], np.nan))
    np.testing.assert_array_equal(variance, np.full(shape[1], np.nan))
    assert norm.batch_norm_forward(x, mean, variance, None, None, EPS).shape == shape
    dx, dw, db = norm.batch_norm_grad(x, x, mean, variance, None, EPS)
    assert dx.shape == shape
    np.testing.assert_array_equal(dw, np.zeros(shape[1]))
    np.testing.assert_array_equal(db, np.zeros(shape[1]))
