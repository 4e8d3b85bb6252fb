"""Matrix products and the linear layer on every backend: PyTorch's results, gradients and refusals."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.tolerance import assert_within, bound
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import check_like_torch, torch

FLOATS = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.34 of a bound

PRODUCTS = [
    ((5,), (5,)),
    ((5,), (5, 3)),
    ((4, 5), (5,)),
    ((4, 5), (5, 3)),
    ((1, 1), (1, 1)),
    ((33, 17), (17, 65)),
    ((2, 4, 5), (5, 3)),
    ((2, 4, 5), (2, 5, 3)),
    ((2, 4, 5), (5,)),
    ((5,), (2, 5, 3)),
    ((2, 1, 4, 5), (3, 5, 2)),
    ((4, 5), (3, 2, 5, 2)),
    ((1, 4, 5), (3, 5, 2)),
    ((0, 5), (5, 3)),
    ((4, 0), (0, 3)),
    ((0, 4, 5), (5, 3)),
    ((2, 0, 5), (2, 5, 3)),
]


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def engine(request):
    """Every test runs on each backend."""
    with fastconv.use_backend(request.param):
        yield request.param


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matmul_is_pytorchs(shapes):
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    check_like_torch(F.matmul, torch.matmul, a, b)
    check_gradients(F.matmul, a, b)


@pytest.mark.parametrize("lead", [(), (7,), (2, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_is_pytorchs(lead, with_bias):
    arrays = [normal(*lead, 5), normal(3, 5, seed=1), *([normal(3, seed=2)] if with_bias else [])]
    check_like_torch(F.linear, torch.nn.functional.linear, *arrays)
    check_gradients(F.linear, *arrays)


def test_linear_with_a_vector_of_weights_is_pytorchs():
    arrays = normal(4, 5), normal(5, seed=1), np.array(0.5)
    check_like_torch(F.linear, torch.nn.functional.linear, *arrays[:2])
    y = F.linear(*arrays)
    np.testing.assert_allclose(y, arrays[0] @ arrays[1] + 0.5, rtol=1e-14)
    check_gradients(F.linear, *arrays)


@pytest.mark.parametrize(
    "lead, shape",
    [((4,), (1,)), ((4,), ()), ((4,), (4, 3)), ((4,), (4, 1)), ((), (1, 3)), ((2, 4), (8, 1)), ((2, 4), (4, 3)),
     ((0,), (1,))],
)  # fmt: skip
def test_a_bias_that_broadcasts_is_pytorchs(lead, shape):
    arrays = normal(*lead, 5), normal(3, 5, seed=1), np.array(normal(*shape, seed=2))
    check_like_torch(F.linear, torch.nn.functional.linear, *arrays)


@pytest.mark.parametrize("lead", [(), (7,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("filters, with_bias", [(6, True), (2, False), (0, True)])
def test_bilinear_is_pytorchs(lead, filters, with_bias):
    arrays = [normal(*lead, 4), normal(*lead, 3, seed=1), normal(filters, 4, 3, seed=2)]
    arrays += [normal(filters, seed=3)] if with_bias else []
    check_like_torch(F.bilinear, torch.nn.functional.bilinear, *arrays)
    if arrays[0].size and filters:
        check_gradients(F.bilinear, *arrays)


def test_the_bilinear_layer_is_pytorchs():
    for bias in (True, False):
        ours, theirs = fastconv.nn.Bilinear(4, 3, 2, bias), torch.nn.Bilinear(4, 3, 2, bias)
        assert repr(ours) == repr(theirs)
        assert {k: v.shape for k, v in ours.state_dict().items()} == {
            k: tuple(v.shape) for k, v in theirs.state_dict().items()
        }
        assert all(0 < abs(v).max() <= 0.5 for v in ours.state_dict().values())
        theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
        x1, x2 = normal(5, 4).astype("float32"), normal(5, 3, seed=1).astype("float32")
        expected = theirs(torch.from_numpy(x1), torch.from_numpy(x2)).detach().numpy()
        np.testing.assert_allclose(ours(x1, x2).data, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError, match="Bilinear: in1_features: got 0"):
        fastconv.nn.Bilinear(0, 3, 2)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_bilinear_rounds_halves_once(dtype):
    arrays = [v.astype(dtype) for v in (normal(5, 9), normal(5, 8, seed=1), normal(3, 9, 8, seed=2), normal(3, seed=3))]
    leaves, wide = ([tensor(a, requires_grad=True) for a in v] for v in (arrays, [a.astype("float32") for a in arrays]))
    y, expected = F.bilinear(*leaves), F.bilinear(*wide)
    np.testing.assert_array_equal(y.data, expected.data.astype(dtype))
    y.backward(np.ones(y.shape, dtype))
    expected.backward(np.ones(y.shape, "float32"))
    for leaf, other in zip(leaves, wide, strict=True):
        np.testing.assert_array_equal(leaf.grad.data, other.grad.data.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_is_rounded_once(dtype):
    x, w, b = (v.astype(dtype) for v in (normal(9, 40), normal(12, 40, seed=1), normal(12, seed=2)))
    dy = normal(9, 12, seed=3).astype(dtype)
    wide = [v.astype("float64") for v in (x, w, b)]
    sizes = [abs(v) for v in wide]
    mine = [tensor(v, requires_grad=True) for v in (x, w, b)]
    y = F.linear(*mine)
    want = wide[0] @ wide[1].T + wide[2]
    assert y.dtype == np.dtype(dtype)
    assert_within(y.data, want, bound(want, sizes[0] @ sizes[1].T + sizes[2], 41, dtype, C))
    d, ad = dy.astype("float64"), abs(dy.astype("float64"))
    for got, exact, scale, length in zip(
        grad(y, mine, tensor(dy)),
        (d @ wide[1], d.T @ wide[0], d.sum(0)),
        (ad @ sizes[1], ad.T @ sizes[0], ad.sum(0)),
        (12, 9, 9),
        strict=True,
    ):
        assert got.dtype == np.dtype(dtype)
        assert_within(got.data, exact, bound(exact, scale, length, dtype, C))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_integers_are_pytorchs(dtype):
    a, b = (np.random.default_rng(i).integers(0, 9, (4, 4)).astype(dtype) for i in range(2))
    check_like_torch(F.matmul, torch.matmul, a, b)


def test_storage_changes_no_result_and_no_argument():
    a, b = normal(6, 5).astype("float32"), normal(5, 7, seed=1).astype("float32")
    want = F.matmul(a, b)
    for (storage, left), (_, right) in zip(storages(a), storages(b), strict=True):
        before = left.tobytes(), right.tobytes()
        y = F.matmul(left, right)
        assert_within(y, want, bound(want, abs(a) @ abs(b), 5, "float32", C))
        assert y.dtype == np.float32 and y.dtype.isnative, storage
        assert (left.tobytes(), right.tobytes()) == before
        linear = F.linear(left, np.swapaxes(right, 0, 1))
        assert_within(linear, want, bound(want, abs(a) @ abs(b), 5, "float32", C))


def test_only_what_a_gradient_reads_may_not_change():
    for function in (F.matmul, F.linear):
        x, w = normal(3, 3), normal(3, 3, seed=1)
        y = function(tensor(x, requires_grad=True), w)
        x += 1  # no gradient of w is wanted
        y.sum().backward()
        y = function(tensor(x, requires_grad=True), w)
        w += 1
        with pytest.raises(GraphError, match=function.__name__):
            y.sum().backward()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.matmul(x, x), ShapeError, r"matmul: other: got \[3, 4\], expected \[..., L, K\] with L = 4"),
        (lambda x: F.matmul(x, x[0, :3]), ShapeError, r"matmul: other: got \[3\]"),
        (lambda x: F.matmul(x, np.array(2.0)), ShapeError, "matmul: other: got an array without axes"),
        (lambda x: F.matmul(x, 2.0), DTypeError, "matmul: other: got float"),
        (lambda x: F.matmul(x, x.T.astype("float32")), DTypeError, "matmul: other: got float32"),
        (lambda x: F.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 2))), ShapeError, "leading axes that broadcast"),
        (lambda x: F.matmul(np.ones((2, 3, 4), int), np.ones((3, 4, 2), int)), ShapeError, "leading axes"),
        (lambda x: F.linear(x, x[:, :3]), ShapeError, r"linear: input: got \[3, 4\], expected \[..., 3\]"),
        (lambda x: F.linear(x, x, np.ones(4)), ShapeError, r"linear: bias: got \[4\], expected \[3\]"),
        (lambda x: F.linear(x, x, np.ones(3, "float32")), DTypeError, "linear: bias: got float32"),
        (lambda x: F.linear(x, np.ones((2, 3, 4))), ShapeError, "linear: weight"),
        (lambda x: F.linear(x.astype(int), x.astype(int)), DTypeError, "linear: input: got int64"),
        (lambda x: F.linear(x, None), DTypeError, "linear: weight"),
        (lambda x: F.linear(np.array(1.0), x), ShapeError, "linear: input"),
        (lambda x: F.linear(x, x, np.ones((1, 1, 3))), ShapeError, r"linear: bias: got \[1, 1, 3\]"),
        (lambda x: F.bilinear(x, x, np.ones((2, 4, 3))), ShapeError, r"bilinear: input2: got \[3, 4\]"),
        (lambda x: F.bilinear(x, x[:1], np.ones((2, 4, 4))), ShapeError, r"bilinear: input2: got \[1, 4\]"),
        (lambda x: F.bilinear(x, x, np.ones((2, 3, 4))), ShapeError, "bilinear: input1: got"),
        (lambda x: F.bilinear(x, x, np.ones((4, 4))), ShapeError, r"bilinear: weight: got \[4, 4\]"),
        (lambda x: F.bilinear(x[:, :0], x, np.ones((2, 0, 4))), ShapeError, r"bilinear: weight: got \[2, 0, 4\]"),
        (lambda x: F.bilinear(x, x, np.ones((2, 4, 4)), np.ones(1)), ShapeError, r"bilinear: bias: got \[1\]"),
        (lambda x: F.bilinear(x, x.astype("f4"), np.ones((2, 4, 4))), DTypeError, "bilinear: input2: got float32"),
        (lambda x: F.bilinear(x.astype(int), x, np.ones((2, 4, 4))), DTypeError, "bilinear: input1: got int64"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(3, 4))


def test_the_operator_is_this_function():
    a, b = normal(3, 4), normal(4, 2)
    for y in (tensor(a) @ tensor(b), tensor(a) @ b, a @ tensor(b), tensor(a).matmul(b)):
        np.testing.assert_array_equal(y.data, F.matmul(a, b))
