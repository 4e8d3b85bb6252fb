"""Functions that make steps: what PyTorch's samples do not ask. Those are in test_torch_tensor_samples.py."""

import numpy as np
import pytest

import fastconv
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.witness import as_torch, torch

NAMES = ("ceil", "floor", "round", "trunc")
VALUES = np.array([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.4, 2.6, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_pytorchs_and_the_gradient_is_zero(name, dtype):
    pytest.importorskip("ml_dtypes")
    x = (VALUES if dtype != "int64" else np.arange(5) - 2).astype(dtype)
    y = getattr(fastconv, name)(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype("float64"), getattr(torch, name)(as_torch(x)).double().numpy())
    if dtype != "int64":
        leaf = tensor(x, requires_grad=True)
        assert not grad(getattr(leaf, name)(), leaf, tensor(np.ones_like(x)))[0].data.any()


@pytest.mark.parametrize("decimals", [-2, -1, 0, 1, 3])
def test_decimals_are_pytorchs(decimals):
    x = 100 * np.random.default_rng(0).standard_normal(50)
    np.testing.assert_array_equal(fastconv.round(x, decimals=decimals), torch.round(as_torch(x), decimals=decimals))


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_nan_is_true(name):
    x, w = np.array([0.0, 1.0, np.nan]), np.array([[0], [2]])
    want = getattr(torch, name)(as_torch(x), as_torch(w)).numpy()
    np.testing.assert_array_equal(getattr(tensor(x), name)(w).data, want)
    np.testing.assert_array_equal(fastconv.logical_not(x), [True, False, False])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fastconv.floor(np.ones(2, bool)), DTypeError, "floor: input: got bool"),
        (lambda: fastconv.ceil([1.0]), DTypeError, "ceil: input"),
        (lambda: fastconv.round(np.ones(2, int), decimals=1), DTypeError, "round: input: got int64"),
        (lambda: fastconv.round(np.ones(2), decimals=0.5), DTypeError, "round: decimals"),
        (lambda: fastconv.logical_and(np.ones(2), np.ones(3)), ShapeError, "logical_and: input and other"),
        (lambda: fastconv.logical_not(1), DTypeError, "logical_not: input"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
