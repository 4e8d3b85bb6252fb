"""Sampling at the points of a grid by the kernels under the emulator: what the shared cases leave out."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import emulated, reference
from fastconv.cuda import max_workspace
from fastconv.tolerance import assert_within, bound
from tests.emulation import SCHEDULES, require, schedule

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
RULES = [
    ("bilinear", "zeros", False), ("bilinear", "reflection", True), ("nearest", "border", False),
    ("bicubic", "reflection", False),
]  # fmt: skip
# Channels around the runs of 8, vectors and warps; points around blocks.
PROBLEMS = [
    ((1, 8, 7, 5), (3, 6)),
    ((2, 9, 4, 4), (5, 5)),
    ((1, 17, 3, 2), (13, 11)),
    ((1, 40, 3, 3), (2, 2)),
    ((2, 16, 2, 3, 4), (3, 2, 3)),
    ((1, 3, 3, 1, 2), (7, 5, 8)),
]


@pytest.fixture(autouse=True)
def built():
    require("plain")


def arrays(shape, output, dtype, last=False):
    """x, dy and a grid."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal((*shape[:2], *output)).astype(dtype)
    if last:
        x, dy = (np.moveaxis(np.ascontiguousarray(np.moveaxis(v, 1, -1)), -1, 1) for v in (x, dy))
    return x, dy, rng.uniform(-1.3, 1.3, (shape[0], *output, len(output))).astype(dtype)


def check(actual, name, largest, *arguments):
    """Within the error model; no weight is more than `largest`."""
    expected = getattr(reference, name)(*arguments).astype("float64")
    scale = largest * max(abs(expected).max(), 1.0)
    assert_within(actual, expected, bound(expected, scale, 64, actual.dtype, 2.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("shape, output", PROBLEMS, ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_shapes_around_the_tiles(shape, output, rule, dtype, last):
    rank = len(output)
    if rule[0] == "bicubic" and rank == 3:
        pytest.skip("images only")
    x, dy, grid = arrays(shape, output, dtype, last)
    rule = (*rule, (0,) * rank)
    y = emulated.grid_sample_forward(x, grid, *rule)
    check(y, "grid_sample_forward", 4, x, grid, *rule)
    dx = emulated.grid_sample_input_grad(dy, grid, shape[2:], *rule)
    check(dx, "grid_sample_input_grad", 4, dy, grid, shape[2:], *rule)
    check(emulated.grid_sample_grid_grad(dy, x, grid, *rule), "grid_sample_grid_grad", 16, dy, x, grid, *rule)
    assert y.strides == dy.strides
    assert dx.strides == x.strides


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("last", [False, True])
def test_points_that_do_not_fit_the_workspace_are_taken_in_parts(last, dtype, monkeypatch):
    monkeypatch.setattr("fastconv.cuda.grid._LEAST", 37)
    x, dy, grid = arrays((2, 8, 4, 5), (9, 11), dtype, last)
    rule = "bilinear", "border", False, (0, 0)
    with max_workspace(0):
        dx = emulated.grid_sample_input_grad(dy, grid, x.shape[2:], *rule)
    check(dx, "grid_sample_input_grad", 4, dy, grid, x.shape[2:], *rule)
    assert dx.dtype == dtype
    assert dx.strides == x.strides


@pytest.mark.parametrize("last", [False, True])
def test_schedules_give_the_same_bits(last):
    x, dy, grid = arrays((2, 8, 5, 4), (6, 7), "float32", last)
    rule = "bicubic", "reflection", False, (0, 0)

    def run():
        y = emulated.grid_sample_forward(x, grid, *rule)
        dx = emulated.grid_sample_input_grad(dy, grid, x.shape[2:], *rule)
        return y, dx, emulated.grid_sample_grid_grad(dy, x, grid, *rule)

    expected = run()
    for order in SCHEDULES:
        with schedule(*order):
            for actual, first in zip(run(), expected, strict=True):
                assert actual.tobytes() == first.tobytes()


def test_all_points_may_read_one_position():
    dy = np.random.default_rng(0).standard_normal((1, 3, 20, 30))
    grid = np.full((1, 20, 30, 2), 5.0)
    dx = emulated.grid_sample_input_grad(dy, grid, (4, 4), "bilinear", "border", False, (0, 0))
    np.testing.assert_allclose(dx[0, :, 3, 3], dy.sum(axis=(0, 2, 3)), rtol=1e-12)
    assert np.count_nonzero(dx) == 3


@pytest.mark.parametrize("start", [1, 2])
def test_unaligned_views(start):
    memory = np.random.default_rng(0).standard_normal(3 + 8 * 20).astype("float32")
    x = np.moveaxis(memory[start : start + 160].reshape(1, 4, 5, 8), -1, 1)
    _, dy, grid = arrays(x.shape, (3, 4), "float32", True)
    rule = "bilinear", "zeros", False, (0, 0)
    check(emulated.grid_sample_forward(x, grid, *rule), "grid_sample_forward", 4, x, grid, *rule)
    check(emulated.grid_sample_grid_grad(dy, x, grid, *rule), "grid_sample_grid_grad", 16, dy, x, grid, *rule)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_coordinates_that_are_not_finite(mode, padding):
    x, dy, grid = arrays((1, 2, 5, 4), (2, 4), "float32")
    grid[0, :, :, 0] = [np.nan, np.inf, -np.inf, 1e20]
    rule = mode, padding, False, (0, 0)
    for name, arguments in (
        ("grid_sample_forward", (x, grid)), ("grid_sample_input_grad", (dy, grid, (5, 4))),
        ("grid_sample_grid_grad", (dy, x, grid)),
    ):  # fmt: skip
        actual = getattr(emulated, name)(*arguments, *rule)
        np.testing.assert_allclose(actual, getattr(reference, name)(*arguments, *rule), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape, output", [((0, 3, 4, 5), (2, 2)), ((2, 0, 4, 5), (2, 2)), ((2, 3, 4, 5), (0, 3))])
def test_empty_inputs(shape, output):
    x, dy, grid = arrays(shape, output, "float32")
    rule = "bilinear", "zeros", False, (0, 0)
    assert emulated.grid_sample_forward(x, grid, *rule).shape == dy.shape
    np.testing.assert_array_equal(emulated.grid_sample_input_grad(dy, grid, shape[2:], *rule), np.zeros(shape))
    np.testing.assert_array_equal(emulated.grid_sample_grid_grad(dy, x, grid, *rule), np.zeros(grid.shape))
