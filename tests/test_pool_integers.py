"""Pooling of integers: PyTorch's dtypes, values, indices and refusals."""

import numpy as np
import pytest

import fastconv.functional as F
from fastconv.errors import DTypeError
from tests.test_pool import SIZES, UNDILATED, WINDOWS, function, of_rank, torch


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_max_pool_of_integers_is_pytorchs(rank, window):
    arguments = of_rank(window, rank)
    for dtype in ("int8", "int16", "int32", "int64", "uint8"):
        limits = np.iinfo(dtype)
        x = np.random.default_rng(3).integers(0, 5, (2, 3, *SIZES[rank])).astype(dtype)
        x.flat[::3], x.flat[1::7] = limits.min, limits.max
        ours = function("max", rank)(x, *arguments, return_indices=True)
        theirs = function("max", rank, torch.nn.functional)(torch.from_numpy(x), *arguments, return_indices=True)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other.numpy())
            assert mine.dtype == other.numpy().dtype


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", UNDILATED)
def test_avg_pool_of_integers_is_pytorchs(rank, window):
    kernel, stride, padding, _, ceil_mode = of_rank(window, rank)
    x = np.random.default_rng(4).integers(-99, 99, (2, 3, *SIZES[rank]))
    for more in ((True,), (False,), *([(True, 7), (True, -3)] if rank > 1 else [])):
        arguments = (kernel, stride, padding, ceil_mode, *more)
        expected = function("avg", rank, torch.nn.functional)(torch.from_numpy(x), *arguments).numpy()
        y = function("avg", rank)(x, *arguments)
        np.testing.assert_array_equal(y, expected)
        assert y.dtype == expected.dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.max_pool1d(np.ones((1, 1, 4), "int64"), 2),
        lambda: F.max_pool2d(np.ones((1, 1, 4, 4), "bool"), 2),
        lambda: F.max_pool2d(np.ones((1, 1, 4, 4), "uint16"), 2),
        lambda: F.avg_pool2d(np.ones((1, 1, 4, 4), "int32"), 2),
        lambda: F.adaptive_max_pool2d(np.ones((1, 1, 4, 4), "int64"), 2),
        lambda: F.adaptive_avg_pool2d(np.ones((1, 1, 4, 4), "int64"), 2),
    ],
)
def test_other_integers_are_refused(call):
    with pytest.raises(DTypeError, match=r"pool[12]d: input"):
        call()
