"""RMS norm on every backend that serves NumPy arrays: PyTorch's results, gradients and refusals."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv.errors import DTypeError, GraphError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.storage import assert_same, storages
from tests.witness import as_torch, check_like_torch, to_numpy, torch

# normalized_shape, shape of input
CALLS = [
    ((7,), (7,)),
    ([5], (3, 4, 5)),
    ((3, 2), (4, 3, 2)),
    ((2, 3, 2), (2, 3, 2)),
    ((1,), (4, 1)),
    ((600,), (5, 600)),
]


@pytest.fixture(autouse=True, params=["reference", "cpu", "emulated"])
def engine(request):
    """Every test runs on each backend."""
    if request.param == "emulated":
        require("plain")
    with fastconv.use_backend(request.param):
        yield request.param


def problem(sizes, shape, dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(tuple(sizes)).astype(dtype)


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [None, 0.25])
def test_results_and_gradients_are_pytorchs(call, dtype, eps):
    sizes, shape = call
    x, w = problem(sizes, shape, dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    check_like_torch(
        lambda x, w: F.rms_norm(x, sizes, w, eps), lambda x, w: torch.nn.functional.rms_norm(x, sizes, w, eps), x, w,
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip
    check_like_torch(
        lambda x: F.rms_norm(x, sizes, eps=eps), lambda x: torch.nn.functional.rms_norm(x, sizes, eps=eps), x,
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip


@pytest.mark.parametrize("call", CALLS[:4], ids=str)
def test_derivatives_are_those_of_differences(call):
    sizes, shape = call
    x, w = problem(sizes, shape)
    check_gradients(lambda x, w: F.rms_norm(x, sizes, w, 0.1), x, w)
    check_gradients(lambda x: F.rms_norm(x, sizes, eps=0.1), x)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("weight", ["float32", "the same"])
def test_halves_are_computed_in_float32(dtype, weight):
    x, w = problem((40,), (6, 40), "float32")
    x, dy, w = x.astype(dtype), x[::-1].astype(dtype), w.astype(dtype if weight == "the same" else weight)
    leaves = [fastconv.tensor(a, requires_grad=True) for a in (x, w)]
    y = F.rms_norm(leaves[0], (40,), leaves[1])
    y.backward(dy)
    wide = [as_torch(a.astype("float32"), requires_grad=True) for a in (x, w)]
    expected = torch.nn.functional.rms_norm(wide[0], (40,), wide[1])
    expected.backward(as_torch(dy.astype("float32")))
    tolerance = 2 * float(ml_dtypes.finfo(dtype).eps)
    for got, want in ((y.data, expected), *((m.grad.data, t.grad) for m, t in zip(leaves, wide, strict=True))):
        np.testing.assert_allclose(got.astype("float64"), to_numpy(want), rtol=tolerance, atol=tolerance)
    assert (y.dtype, leaves[0].grad.dtype, leaves[1].grad.dtype) == (x.dtype, x.dtype, w.dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_eps_is_that_of_the_dtype_that_is_computed_in(dtype):
    x = np.full((1, 4), 1e-4, dtype)
    want = torch.nn.functional.rms_norm(as_torch(x), (4,))
    np.testing.assert_allclose(F.rms_norm(x, (4,)).astype("float64"), to_numpy(want), rtol=1e-3)
    assert F.rms_norm(np.zeros((2, 3), dtype), (3,)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("sizes, shape", [((5,), (0, 5)), ((0,), (2, 0)), ((2, 0), (3, 2, 0))])
@pytest.mark.parametrize("create_graph", [True, False])
def test_no_values_give_no_result_and_zero_gradients(sizes, shape, create_graph):
    x, w = problem(sizes, shape)
    leaves = [fastconv.tensor(a, requires_grad=True) for a in (x, w)]
    y = F.rms_norm(leaves[0], sizes, leaves[1])
    dx, dw = fastconv.grad(y, leaves, fastconv.tensor(x), create_graph=create_graph)
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal(dw.detach().numpy(), np.zeros(sizes))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_spoils_what_pytorch_lets_it(value):
    x, w = problem((3, 2), (4, 3, 2))
    x[1, 0, 1] = value
    want = torch.nn.functional.rms_norm(torch.tensor(x), (3, 2), torch.tensor(w)).numpy()
    np.testing.assert_allclose(F.rms_norm(x, (3, 2), w), want, rtol=1e-10)


def test_storage_changes_no_result_and_no_argument():
    x, w = problem((4, 3), (2, 5, 4, 3), "float32")
    want = F.rms_norm(x, (4, 3), w)
    for (storage, x_), (_, w_) in zip(storages(x), storages(w), strict=True):
        before = x_.tobytes()
        assert_same(F.rms_norm(x_, (4, 3), w_), want, storage)
        assert x_.tobytes() == before


def test_an_input_changed_in_place_is_noticed():
    x, w = problem((5,), (3, 5))
    y = F.rms_norm(fastconv.tensor(x, requires_grad=True), (5,), w)
    x += 1
    with pytest.raises(GraphError, match="rms_norm: graph"):
        y.backward(x)


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    "arguments, keywords, error, message",
    [
        (([1.0], (1,)), {}, DTypeError, "input"),
        ((zeros(2, 5, dtype="int32"), (5,)), {}, DTypeError, "input: got int32"),
        ((zeros(2, 5), 5), {}, DTypeError, "normalized_shape: got int 5"),
        ((zeros(2, 5), (5.0,)), {}, DTypeError, "normalized_shape"),
        ((zeros(2, 1), (True,)), {}, DTypeError, "normalized_shape"),
        ((zeros(2, 5), ()), {}, ShapeError, "normalized_shape"),
        ((zeros(2, 5), (4,)), {}, ShapeError, r"input: got \[2, 5\]"),
        ((zeros(5), (2, 5)), {}, ShapeError, r"input: got \[5\]"),
        ((zeros(2, 5), (5,), zeros(4)), {}, ShapeError, r"weight: got \[4\]"),
        ((zeros(2, 5), (5,), zeros(5, dtype="int64")), {}, DTypeError, "weight: got int64"),
        ((zeros(2, 5), (5,)), dict(eps="small"), DTypeError, "eps"),
    ],
)
def test_refusals_name_the_argument(arguments, keywords, error, message):
    with pytest.raises(error, match=f"rms_norm: {message}"):
        F.rms_norm(*arguments, **keywords)


@pytest.mark.parametrize("options", [{}, {"eps": 0.1, "elementwise_affine": False}])
def test_the_layer_is_pytorchs(options):
    x, w = problem((3, 2), (4, 3, 2), "float32")
    ours, theirs = nn.RMSNorm((3, 2), **options), torch.nn.RMSNorm((3, 2), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    if options == {}:
        assert (ours.weight.data == 1).all()
        ours.load_state_dict({"weight": w})
        theirs.load_state_dict({"weight": torch.tensor(w)})
    want = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(fastconv.tensor(x)).data, want, rtol=1e-5, atol=1e-6)
