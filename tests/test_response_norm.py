"""Local response normalisation: PyTorch's results, gradients and refusals."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import check_like_torch, torch

SHAPES = [(2, 5, 3), (1, 1, 4), (2, 7, 2, 3), (2, 4, 2, 1, 3), (1, 3, 2, 2, 1, 2)]
# size, alpha, beta, k
SETTINGS = [(1, 1.0, 0.75, 1.0), (2, 0.5, 0.5, 2.0), (3, 2.0, 1.0, 0.5), (5, 1e-4, 0.75, 1.0), (6, 1.0, 1.7, 1.0),
            (12, 1.0, 0.75, 0.1)]  # fmt: skip


@pytest.fixture(autouse=True, params=["reference", "cpu", "emulated"])
def engine(request):
    """Every test runs on each backend."""
    if request.param == "emulated":
        require("plain")
    with fastconv.use_backend(request.param):
        yield request.param


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_and_gradients_are_pytorchs(shape, settings):
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        check_like_torch(
            lambda x: F.local_response_norm(x, *settings),
            lambda x: torch.nn.functional.local_response_norm(x, *settings),
            normal(*shape).astype(dtype), rtol=tolerance, atol=tolerance,
        )  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS[:5], ids=str)
def test_derivatives_are_those_of_differences(settings):
    check_gradients(lambda x: F.local_response_norm(x, *settings), normal(2, 4, 3))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    x = (100 * normal(2, 5, 3, 2)).astype(dtype)
    y = F.local_response_norm(x, 3, 1.0)
    want = F.local_response_norm(x.astype("float32"), 3, 1.0)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, want.astype(dtype))


def test_the_result_keeps_channels_last(engine):
    if engine == "reference":
        pytest.skip("the reference always gives C order")
    last = np.moveaxis(normal(2, 4, 5, 6), -1, 1)
    y = F.local_response_norm(last, 3)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    np.testing.assert_allclose(y, F.local_response_norm(np.ascontiguousarray(last), 3), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0, 2)])
def test_no_values_give_no_result(shape):
    x = fastconv.tensor(np.zeros(shape), requires_grad=True)
    y = F.local_response_norm(x, 3)
    y.backward(np.zeros(shape))
    assert y.shape == x.grad.shape == shape


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_spoils_what_pytorch_lets_it(value):
    x = normal(2, 6, 3)
    x[1, 2, 1] = value
    want = torch.nn.functional.local_response_norm(torch.tensor(x), 3).numpy()
    np.testing.assert_allclose(F.local_response_norm(x, 3), want, rtol=1e-10)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([1.0], 3), DTypeError, "input"),
        ((np.zeros((2, 3, 4), "int64"), 3), DTypeError, "input: got int64"),
        ((normal(2, 3), 3), ShapeError, "input: got 2 axes"),
        ((normal(2, 3, 4), 0), ShapeError, "size: got 0"),
        ((normal(2, 3, 4), 2.0), DTypeError, "size: got float 2.0"),
        ((normal(2, 3, 4), True), DTypeError, "size"),
        ((normal(2, 3, 4), 3, "small"), DTypeError, "alpha"),
        ((normal(2, 3, 4), 3, 1e-4, None), DTypeError, "beta"),
        ((normal(2, 3, 4), 3, 1e-4, 0.75, "one"), DTypeError, "k: got str"),
    ],
)
def test_refusals_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=f"local_response_norm: {message}"):
        F.local_response_norm(*arguments)


def test_the_layer_is_pytorchs():
    x = normal(2, 5, 3, 2)
    for options in ((3,), (4, 0.5, 0.6, 2.0)):
        ours, theirs = nn.LocalResponseNorm(*options), torch.nn.LocalResponseNorm(*options)
        assert repr(ours) == repr(theirs)
        np.testing.assert_allclose(ours(fastconv.tensor(x)).data, theirs(torch.tensor(x)).numpy(), rtol=1e-12)
