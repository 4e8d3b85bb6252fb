"""Cross-entropy by the kernels under the emulator: what the shared cases leave out."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import emulated, reference
from fastconv.arrays import accumulator
from fastconv.tolerance import assert_within, bound, cross_entropy_scales
from tests.emulation import SCHEDULES, require, schedule

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
# Around vectors, warps, blocks of threads, and rows that a whole block shares
SHAPES = [
    (3, 1),
    (5, 2),
    (2, 8),
    (3, 31),
    (2, 64),
    (9, 257),
    (2, 1030),
    (2, 4100),
    (1, 9, 5),
    (2, 3, 7, 11),
    (3, 8, 16),
]
RULES = [(False, -100, 0.0), (True, 1, 0.2)]


@pytest.fixture(autouse=True)
def built():
    require("plain")


def scores(shape, dtype, seed=0, last=False):
    x = (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x


def problem(shape, dtype, rule, last=False):
    weighted, ignored, smoothing = rule
    rng = np.random.default_rng(1)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    weight = rng.uniform(0.1, 2, shape[1]).astype(dtype) if weighted else None
    return scores(shape, dtype, last=last), target, weight, ignored, smoothing


def run(x, *rest):
    """loss, logsumexp and dx."""
    loss, logsumexp = emulated.cross_entropy_forward(x, *rest)
    dloss = np.random.default_rng(2).standard_normal(loss.shape).astype(loss.dtype)
    return loss, logsumexp, emulated.cross_entropy_grad(dloss, x, logsumexp, *rest), dloss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("shape, last", [(s, last) for s in SHAPES for last in (False, True)[: len(s) - 1]], ids=str)
def test_shapes_around_the_tiles(shape, last, rule, dtype):
    x, target, weight, *options = problem(shape, dtype, rule, last)
    loss, logsumexp, dx, dloss = run(x, target, weight, *options)
    wide = x.astype("float64"), target, None if weight is None else weight.astype("float64"), *options
    exact = reference.cross_entropy_forward(*wide)
    dx_exact = reference.cross_entropy_grad(dloss.astype("float64"), wide[0], logsumexp, *wide[1:])
    scales = cross_entropy_scales(*wide, dloss)
    for actual, expected, scale in zip((loss, logsumexp, dx), (*exact, dx_exact), scales, strict=True):
        assert_within(actual, expected, bound(expected, scale, shape[1], actual.dtype, 2.0))
    assert loss.dtype == logsumexp.dtype == accumulator(x.dtype)
    assert dx.strides == x.strides


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(9, 37), (2, 1030), (2, 5, 24)], ids=str)
def test_schedules_give_the_same_bits(shape, last):
    arguments = problem(shape, "float32", RULES[1], last and len(shape) > 2)
    expected = run(*arguments)
    for order in SCHEDULES:
        with schedule(*order):
            for actual, first in zip(run(*arguments), expected, strict=True):
                assert actual.tobytes() == first.tobytes()


def test_many_positions_go_by_vectors():
    """From 65,536 threads on; before, each of them takes one position."""
    x, target, *rest = problem((1, 2, 8 * 65_536), "float16", RULES[0])
    loss, logsumexp = emulated.cross_entropy_forward(x, target, *rest)
    expected = reference.cross_entropy_forward(x.astype("float64"), target, *rest)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logsumexp, expected[1], rtol=1e-5, atol=1e-6)
    dx = emulated.cross_entropy_grad(loss, x, logsumexp, target, *rest)
    want = reference.cross_entropy_grad(loss, x.astype("float64"), logsumexp, target, *rest)
    np.testing.assert_allclose(dx.astype("float64"), want, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("start", [1, 2])
def test_unaligned_views(start):
    memory = scores((1, 3 + 4 * 8), "float32").reshape(-1)
    x = memory[start : start + 32].reshape(4, 8)
    target = np.array([0, 7, 3, 2])
    aligned = run(np.array(x), target, None, -100, 0.1)
    for actual, expected in zip(run(x, target, None, -100, 0.1), aligned, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2)])
def test_a_class_out_of_range_is_not_a_number(shape):
    x = scores(shape, "float32")
    target = np.zeros((shape[0], *shape[2:]), "int64")
    target.flat[1], target.flat[2] = 3, -7
    loss, _, dx, _ = run(x, target, np.ones(3, "float32"), -100, 0.1)
    wrong = np.zeros(target.shape, bool)
    wrong.flat[1:3] = True
    np.testing.assert_array_equal(np.isnan(loss), wrong)
    np.testing.assert_array_equal(np.isnan(dx), np.broadcast_to(wrong[:, None], x.shape))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 0, 4), (0, 3, 4), (2, 3, 0)])
def test_empty_inputs(shape):
    x, target = np.ones(shape, "float32"), np.full((shape[0], *shape[2:]), -100)
    for smoothing in (0.0, 0.1):
        loss, logsumexp, dx, _ = run(x, target, np.ones(shape[1], "float32"), -100, smoothing)
        assert dx.shape == shape
        np.testing.assert_array_equal(loss, 0)
        np.testing.assert_array_equal(logsumexp, np.full(target.shape, -np.inf))


@pytest.mark.parametrize("last", [False, True])
def test_infinite_scores(last):
    x = scores((2, 5, 3), "float32")
    x[0, :, 0] = -np.inf
    x[0, 1:, 1] = -np.inf
    x[0, 2, 2] = np.inf
    x[1, 0, 0] = -np.inf
    x[1, 4, 1] = np.nan
    target = np.zeros((2, 3), "int64")
    for rule in ((None, -100, 0.0), (None, -100, 0.1)):
        y = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
        loss, logsumexp, dx, dloss = run(y, target, *rule)
        for actual, expected in zip((loss, logsumexp), reference.cross_entropy_forward(x, target, *rule), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5)
        expected = reference.cross_entropy_grad(dloss, x, logsumexp, target, *rule)
        np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)
