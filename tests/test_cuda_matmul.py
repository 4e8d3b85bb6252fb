"""Matrix products by tiles in shared memory, under the emulator, beyond the shared cases."""

import numpy as np
import pytest

from fastconv import cuda, emulated, reference
from fastconv.cases import dtype_of
from fastconv.cuda.choice import Problem, choose
from fastconv.tolerance import assert_within, bound
from tests.emulation import SCHEDULES, require, schedule

# Leading axes, M, L, K around tiles of 64 and 128, depths of 8 and 16 and vectors of 4 and 8
SHAPES = [((), 129, 17, 66), ((2,), 64, 16, 128), ((), 65, 7, 130), ((3,), 5, 24, 9), ((), 128, 8, 4)]
C = 1.0


@pytest.fixture(autouse=True)
def built():
    require("plain")


def turned(a):
    """The same matrices, their columns contiguous."""
    return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)


def factors(shape, dtype):
    lead, m, length, k = shape
    rng = np.random.default_rng(0)
    made = rng.standard_normal((*lead, m, length)), rng.standard_normal((*lead, length, k))
    return [a.astype(dtype_of(dtype)) for a in made]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_tile_and_storage(shape, dtype):
    a, b = factors(shape, dtype)
    wide = a.astype("f8"), b.astype("f8")
    expected, scale = reference.matmul(*wide), reference.matmul(*map(abs, wide))
    limit = bound(expected, scale, shape[2], a.dtype, C)
    for algorithm in ("tiled", "tiled_large")[: 1 if dtype == "float64" else 2]:
        for left in (a, turned(a)):
            for right in (b, turned(b)):
                with cuda.use_algorithm("matmul", algorithm):
                    c = emulated.matmul(left, right)
                assert c.flags.c_contiguous
                assert_within(c, expected, limit)


@pytest.mark.parametrize("algorithm", ["tiled", "tiled_large"])
def test_schedules_give_the_same_bits(algorithm):
    a, b = factors(SHAPES[0], "float32")
    seen = set()
    for order in SCHEDULES:
        with schedule(*order), cuda.use_algorithm("matmul", algorithm):
            seen.add(emulated.matmul(a, turned(b)).tobytes())
    assert len(seen) == 1


def test_factors_that_are_not_aligned_for_vectors():
    a, b = factors(SHAPES[1], "float32")
    shifted = np.empty(a.size + 1, a.dtype)[1:].reshape(a.shape)
    shifted[...] = a
    np.testing.assert_array_equal(emulated.matmul(shifted, b), emulated.matmul(a, b))


def test_infinities_and_nan_pass():
    a, b = factors(SHAPES[3], "float32")
    a[0, 1, 3], a[1, 2, 5], b[2, 7, 1], b[2, 8, 2] = np.inf, np.nan, -np.inf, 0
    np.testing.assert_allclose(emulated.matmul(a, b), reference.matmul(a, b), rtol=1e-4, atol=1e-5)


def test_sums_of_nothing_are_zero():
    c = emulated.matmul(np.empty((2, 3, 0), "f4"), np.empty((2, 0, 5), "f4"))
    np.testing.assert_array_equal(c, np.zeros((2, 3, 5)))


def test_large_tiles_are_chosen_where_they_fill_a_gpu():
    def chosen(*shape, dtype="float32"):
        return choose("matmul", Problem(None, dtype, False, 90, shape))

    assert chosen(1, 2048, 512, 2048) == "tiled_large"
    assert chosen(1, 2048, 512, 2048, dtype="float64") == "tiled"
    assert chosen(1, 1024, 512, 1024) == "tiled"
    assert chosen(1000, 64, 512, 1024) == "tiled"
