"""Power averages: PyTorch's values, gradients, second derivatives and refusals."""

import math

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv import backend
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

T = torch.nn.functional
SIZES = {1: (9,), 2: (7, 6), 3: (4, 5, 6)}
POWERS = [1, 2, 2.0, 3, 1.5, -1, -2.5, math.inf, -math.inf]
# kernel_size, stride, ceil_mode
WINDOWS = [(2, None, False), (3, 2, True), (2, 1, False)]


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm_type", POWERS)
def test_lp_pool_is_pytorchs(rank, norm_type):
    ours, theirs = (getattr(module, f"lp_pool{rank}d") for module in (F, T))
    x = images(2, 3, *SIZES[rank])
    for window in WINDOWS:
        for values in (x, abs(x) + 0.1, x[0]):
            with np.errstate(invalid="ignore"):  # roots of negative sums
                check_like_torch(
                    lambda v, w=window: ours(v, norm_type, *w), lambda v, w=window: theirs(v, norm_type, *w), values
                )


@pytest.mark.parametrize("name", ["reference", "emulated"])
def test_every_backend(name):
    if name == "emulated":
        require("plain")
    with backend.use_backend(name):
        check_like_torch(
            lambda v: F.lp_pool2d(v, 3, (2, 3), 2), lambda v: T.lp_pool2d(v, 3, (2, 3), 2), abs(images(2, 3, 5, 6))
        )


@pytest.mark.parametrize("norm_type", [2, 3.5, math.inf])
def test_the_gradient_of_a_sum_of_nothing_is_zero(norm_type):
    x = images(1, 2, 4, 4)
    x[0, 0, :2, :2] = 0
    check_like_torch(lambda v: F.lp_pool2d(v, norm_type, 2), lambda v: T.lp_pool2d(v, norm_type, 2), abs(x))


@pytest.mark.parametrize("norm_type", [2, 3, 1.5, math.inf])
def test_derivatives(norm_type):
    for rank in (1, 2, 3):
        x = abs(images(2, 2, *SIZES[rank])) + 0.5
        check_gradients(lambda v, r=rank: getattr(F, f"lp_pool{r}d")(v, norm_type, 2), x, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
def test_halves_and_float32(dtype):
    x = abs(images(2, 3, 8, 6)).astype(dtype)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for a in (x, last):
        y = F.lp_pool2d(a, 2, 2)
        assert y.dtype == a.dtype
        eps = float(ml_dtypes.finfo(a.dtype).eps)
        np.testing.assert_allclose(
            y.astype("f8"), T.lp_pool2d(as_torch(x), 2, 2).double().numpy(), rtol=4 * eps, atol=4 * eps
        )
    assert np.moveaxis(y, 1, -1).flags.c_contiguous


def test_empty_and_large_input():
    assert F.lp_pool2d(np.zeros((0, 3, 4, 4)), 2, 2).shape == (0, 3, 2, 2)
    x = images(1, 2, 300, 500)
    np.testing.assert_allclose(F.lp_pool2d(x, 2, 3), T.lp_pool2d(as_torch(x), 2, 3).numpy(), rtol=1e-12)


IMAGE = np.ones((1, 2, 4, 4))


@pytest.mark.parametrize(
    "call, error, argument",
    [
        (lambda: F.lp_pool2d([[1.0]], 2, 2), DTypeError, "input"),
        (lambda: F.lp_pool2d(IMAGE.astype("int64"), 2, 2), DTypeError, "input"),
        (lambda: F.lp_pool2d(IMAGE[0, 0], 2, 2), ShapeError, "input"),
        (lambda: F.lp_pool2d(np.ones((2, 0, 4, 4)), 2, 2), ShapeError, "input"),
        (lambda: F.lp_pool2d(IMAGE, 0, 2), ShapeError, "norm_type"),
        (lambda: F.lp_pool2d(IMAGE, "2", 2), DTypeError, "norm_type"),
        (lambda: F.lp_pool2d(IMAGE, 1j, 2), DTypeError, "norm_type"),
        (lambda: F.lp_pool2d(IMAGE, 2, (2,)), ShapeError, "kernel_size"),
        (lambda: F.lp_pool2d(IMAGE, 2, 5), ShapeError, "kernel_size"),
        (lambda: F.lp_pool2d(IMAGE, 2, 2.0), DTypeError, "kernel_size"),
        (lambda: F.lp_pool2d(IMAGE, math.inf, 0), ShapeError, "kernel_size"),
        (lambda: F.lp_pool2d(IMAGE, 2, 2, 0), ShapeError, "stride"),
        (lambda: F.lp_pool2d(IMAGE, 2, 2, 2, 1), DTypeError, "ceil_mode"),
    ],
)
def test_refusals(call, error, argument):
    with pytest.raises(error, match=f"lp_pool2d: {argument}"):
        call()


def test_signals_take_no_tuple_for_their_kernel():
    with pytest.raises(DTypeError, match="lp_pool1d: kernel_size"):
        F.lp_pool1d(np.ones((1, 1, 4)), 2, (2,))
