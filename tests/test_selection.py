"""Elements by position, mask or order: what PyTorch's samples do not ask. Those are in test_torch_tensor_samples.py."""

import numpy as np
import pytest

import fastconv
from fastconv.autograd import Tensor, grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

INDEX = np.array([[2, 0, 2, 1], [2, 0, 1, 1]])


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


CALLS = [
    ("gather", (0, INDEX)),
    ("gather", (1, INDEX[:, :2])),
    ("take_along_dim", (INDEX, 0)),
    ("index_select", (1, np.array([3, 3, 0]))),
    ("masked_fill", (INDEX[:1] > 1, 2.5)),
    ("narrow", (1, -3, 2)),
    ("select", (1, -1)),
    ("roll", ((1, -2), (0, 1))),
    ("sort", (1, True)),
    ("topk", (2, 0)),
    ("unbind", (1,)),
]


@pytest.mark.parametrize("name, arguments", CALLS, ids=[f"{i}-{c[0]}" for i, c in enumerate(CALLS)])
def test_functions_and_methods_have_two_derivatives(name, arguments):
    def first(y):
        return y[0] if isinstance(y, tuple) else y

    x = normal(3, 4)
    check_gradients(lambda x: first(getattr(fastconv, name)(x * x, *arguments)), x)
    theirs = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    check_like_torch(
        lambda x: first(getattr(fastconv, name)(x, *arguments)), lambda x: first(getattr(torch, name)(x, *theirs)), x
    )
    y = first(getattr(tensor(x), name)(*arguments))
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, first(getattr(fastconv, name)(x, *arguments)))


def test_an_element_that_is_taken_twice_adds_its_gradients():
    x = tensor(normal(3, 4), requires_grad=True)
    (dx,) = grad(fastconv.gather(x, 0, INDEX).sum(), x)
    np.testing.assert_array_equal(dx.data, [[0, 2, 0, 0], [0, 0, 1, 2], [2, 0, 1, 0]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("descending", [False, True])
def test_nan_is_the_largest_and_equals_stay_in_order(dtype, descending):
    pytest.importorskip("ml_dtypes")
    x = np.array([1.0, np.nan, -np.inf, 1.0, np.inf, np.nan, 0.0, -0.0]).astype(dtype)
    found = fastconv.sort(x, descending=descending)
    want = torch.sort(as_torch(x), descending=descending, stable=True)
    np.testing.assert_array_equal(found.indices, want.indices.numpy())
    np.testing.assert_array_equal(found.values.astype("float64"), want.values.double().numpy())
    assert found.values.dtype == x.dtype
    np.testing.assert_array_equal(fastconv.argsort(x, descending=descending), found.indices)
    best = fastconv.topk(x, 3, largest=descending)
    np.testing.assert_array_equal(best.indices, found.indices[:3])


def test_a_filled_mask_lets_no_gradient_through():
    x, v = tensor(normal(3, 4), requires_grad=True), tensor(np.array(2.0), requires_grad=True)
    mask = normal(3, 4, seed=1) > 0
    dx, dv = grad(fastconv.masked_fill(x, mask, v).sum(), [x, v])
    np.testing.assert_array_equal(dx.data, ~mask)
    assert dv.data == mask.sum()
    assert fastconv.masked_fill(np.arange(4), np.arange(4) > 1, 7.0).dtype == np.int64


def test_empty_arrays():
    x = np.zeros((0, 3))
    assert fastconv.sort(x, 0).values.shape == (0, 3)
    assert fastconv.topk(x, 0, 0).values.shape == (0, 3)
    assert fastconv.unbind(x, 0) == ()
    assert fastconv.roll(x, 1, 0).shape == (0, 3)
    assert fastconv.gather(x, 0, np.zeros((0, 3), int)).shape == (0, 3)
    assert fastconv.index_select(x, 1, np.array([], int)).shape == (0, 0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: fastconv.gather(x, 0, INDEX + 1), ShapeError, "gather: index: got 3"),
        (lambda x: fastconv.gather(x, 0, INDEX - 1), ShapeError, "gather: index: got -1"),
        (lambda x: fastconv.gather(x, 0, INDEX * 1.0), DTypeError, "gather: index: got float64"),
        (lambda x: fastconv.gather(x, 2, INDEX), ShapeError, "gather: dim: got 2"),
        (lambda x: fastconv.gather(x, 0, INDEX[0]), ShapeError, "gather: index"),
        (lambda x: fastconv.gather(x, 0, np.zeros((1, 5), int)), ShapeError, "gather: index"),
        (lambda x: fastconv.take_along_dim(x, INDEX + 1, 0), ShapeError, "take_along_dim: indices: got 3"),
        (lambda x: fastconv.take_along_dim(x, INDEX[:, :3], 0), ShapeError, "take_along_dim: indices"),
        (lambda x: fastconv.index_select(x, 0, INDEX), ShapeError, "index_select: index"),
        (lambda x: fastconv.index_select(x, 0, np.array([-1])), ShapeError, "index_select: index: got -1"),
        (lambda x: fastconv.masked_fill(x, INDEX, 1.0), DTypeError, "masked_fill: mask: got int64"),
        (lambda x: fastconv.masked_fill(x, x > 0, x), ShapeError, "masked_fill: value"),
        (lambda x: fastconv.masked_fill(INDEX, INDEX > 0, 1.5), DTypeError, "masked_fill: value: got 1.5"),
        (lambda x: fastconv.narrow(x, 0, 2, 2), ShapeError, "narrow: length: got 2"),
        (lambda x: fastconv.narrow(x, 0, 4, 0), ShapeError, "narrow: start: got 4"),
        (lambda x: fastconv.select(x, 0, 3), ShapeError, "select: index: got 3"),
        (lambda x: fastconv.unbind(x[0, 0:1].reshape(())), ShapeError, "unbind: input"),
        (lambda x: fastconv.roll(x, (1, 2)), ShapeError, "roll: shifts"),
        (lambda x: fastconv.roll(x, 1, (0, 1)), ShapeError, "roll: shifts"),
        (lambda x: fastconv.roll(x, 1.5, 0), DTypeError, "roll: shifts"),
        (lambda x: fastconv.topk(x, 5), ShapeError, "topk: k: got 5"),
        (lambda x: fastconv.topk(x > 0, 1), DTypeError, "topk: input: got bool"),
        (lambda x: fastconv.sort(x, 2), ShapeError, "sort: dim"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(3, 4))
