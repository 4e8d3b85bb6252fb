"""Resizing by the kernels under the emulator: what the shared cases leave out."""

import ml_dtypes
import numpy as np
import pytest

from fastconv import emulated, reference
from fastconv.cases import scales as absolute
from fastconv.tolerance import assert_within, bound
from tests.emulation import SCHEDULES, require, schedule

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
COMPUTED = [("nearest", False), ("nearest-exact", False), ("linear", False), ("linear", True)]
READ = [("cubic", False), ("linear-antialias", True), ("lanczos-antialias", False)]
RULES = COMPUTED + READ
# Rows around the strips of 8, vectors of channels, up and down, and sizes where rounding decides on a neighbour
PROBLEMS = [
    ((1, 8, 7), (15,)),
    ((1, 2, 41), (118,)),
    ((2, 3, 9, 5), (17, 11)),
    ((1, 16, 8, 3), (16, 6)),
    ((1, 8, 23, 2), (7, 5)),
    ((1, 5, 1, 2), (19, 3)),
    ((1, 8, 2, 3, 4), (4, 6, 8)),
    ((1, 3, 4, 9, 2), (3, 18, 5)),
]
# Around the blocks of the kernel that reads tables
TABLED = [
    ((1, 1, 3, 4500), (2, 3)),  # more columns than are staged at once
    ((2, 1, 5, 2), (6, 300)),  # more than a block's
    ((1, 136, 3, 20), (2, 9)),  # more vectors of channels than a block's, of half types
    ((1, 3, 4, 9, 2), (3, 18, 5)),
    ((1, 8, 41), (17,)),
]


@pytest.fixture(autouse=True)
def built():
    require("plain")


def images(shape, dtype, last=False):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x


def check(actual, name, x, *arguments):
    expected = getattr(reference, name)(x, *arguments).astype("float64")
    scale = getattr(absolute, f"{name}_scale")(x, *arguments)
    assert_within(actual, expected, bound(expected, scale, 64, x.dtype, 2.0))
    assert actual.dtype == x.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", COMPUTED, ids=str)
@pytest.mark.parametrize("shape, output", PROBLEMS, ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_shapes_around_the_tiles(shape, output, rule, dtype, last):
    x, dy = images(shape, dtype, last), images((*shape[:2], *output), dtype, last)
    y = emulated.resize_forward(x, output, *rule, None)
    check(y, "resize_forward", x, output, *rule, None)
    dx = emulated.resize_input_grad(dy, shape[2:], *rule, None)
    check(dx, "resize_input_grad", dy, shape[2:], *rule, None)
    assert y.strides == dy.strides
    assert dx.strides == x.strides


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("rule", READ, ids=str)
@pytest.mark.parametrize("shape, output", TABLED, ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_shapes_around_the_tables(shape, output, rule, dtype, last):
    test_shapes_around_the_tiles(shape, output, rule, dtype, last)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_neighbours_are_exactly_those_of_the_reference(mode, dtype):
    rng = np.random.default_rng(0)
    for _ in range(40):
        size, output = (int(n) for n in rng.integers(1, 400, 2))
        factor = output / size * float(rng.uniform(1, 1 + 0.5 / output))
        x = np.arange(size, dtype=dtype)[None, None]
        dy = rng.standard_normal((1, 1, output)).astype(dtype)
        for scales in (None, (factor,)):
            arguments = mode, False, scales
            y = emulated.resize_forward(x, (output,), *arguments)
            np.testing.assert_array_equal(y, reference.resize_forward(x, (output,), *arguments))
            dx = emulated.resize_input_grad(dy, (size,), *arguments)
            expected = reference.resize_input_grad(dy, (size,), *arguments)
            np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-5)


def test_scales_that_do_not_follow_from_the_sizes():
    """Neighbours run ahead of the input, or stay at its start."""
    for scale in (0.3, 9.0):
        x = images((1, 2, 5, 6), "float32")
        for rule in RULES:
            y = emulated.resize_forward(x, (7, 8), *rule, (scale, scale))
            check(y, "resize_forward", x, (7, 8), *rule, (scale, scale))
            dx = emulated.resize_input_grad(y, (5, 6), *rule, (scale, scale))
            check(dx, "resize_input_grad", y, (5, 6), *rule, (scale, scale))


@pytest.mark.parametrize("last", [False, True])
def test_schedules_give_the_same_bits(last):
    x, dy = images((1, 8, 3, 9, 5), "float32", last), images((1, 8, 5, 18, 9), "float32", last)

    def run():
        modes = ("linear", "cubic", "linear-antialias")
        y = [emulated.resize_forward(x, (5, 18, 9), mode, False, None) for mode in modes]
        return *y, *(emulated.resize_input_grad(dy, (3, 9, 5), mode, False, None) for mode in modes)

    expected = run()
    for order in SCHEDULES:
        with schedule(*order):
            for actual, first in zip(run(), expected, strict=True):
                assert actual.tobytes() == first.tobytes()


def test_forward_and_gradient_are_transposes():
    x, dy = images((2, 3, 4, 5, 6), "float64"), images((2, 3, 7, 3, 12), "float64")
    for rule in RULES:
        y = emulated.resize_forward(x, (7, 3, 12), *rule, None)
        dx = emulated.resize_input_grad(dy, (4, 5, 6), *rule, None)
        np.testing.assert_allclose(np.vdot(dy, y), np.vdot(dx, x), rtol=1e-12)


@pytest.mark.parametrize("start", [1, 2])
def test_unaligned_views(start):
    memory = images((1, 1, 3 + 4 * 5 * 8), "float32").reshape(-1)
    x = np.moveaxis(memory[start : start + 160].reshape(1, 4, 5, 8), -1, 1)
    for rule in RULES:
        check(emulated.resize_forward(x, (8, 7), *rule, None), "resize_forward", x, (8, 7), *rule, None)
        check(emulated.resize_input_grad(x, (2, 3), *rule, None), "resize_input_grad", x, (2, 3), *rule, None)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 8, 3, 4)])
def test_empty_inputs(shape):
    output = tuple(2 * n for n in shape[2:])
    assert emulated.resize_forward(np.ones(shape), output, "linear", False, None).shape == (*shape[:2], *output)
    assert emulated.resize_input_grad(np.ones(shape), output, "linear", False, None).shape == (*shape[:2], *output)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("last", [False, True])
def test_infinities_and_nan(mode, last):
    x = images((1, 8, 5, 4), "float32", last)
    x[0, 0, 2, 2], x[0, 1, 4, 3], x[0, 2, 0, 0] = np.inf, np.nan, -np.inf
    for align_corners in (False, True):
        for size in ((9, 7), (10, 8), (5, 4), (2, 3)):
            for name in ("resize_forward", "resize_input_grad"):
                y = getattr(emulated, name)(x, size, mode, align_corners, None)
                expected = getattr(reference, name)(x, size, mode, align_corners, None)
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
