"""embedding: rows, gradients that add up, padding, norms that are limited in place, refusals."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import nn
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

ROWS = np.array([[1, 4, 1], [0, 1, 3]])


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("rows", [ROWS, ROWS[0, 1:2].reshape(()), np.zeros((0, 2), int), ROWS.astype("int32")])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"padding_idx": -1}, {"scale_grad_by_freq": True},
                                     {"padding_idx": 0, "scale_grad_by_freq": True}])  # fmt: skip
def test_values_and_gradients_are_pytorchs(rows, options):
    check_like_torch(lambda w, i: F.embedding(i, w, **options), lambda w, i: T.embedding(i, w, **options),
                     normal(5, 3), rows)  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}])
def test_second_derivatives(options):
    check_gradients(lambda w: F.embedding(ROWS, w * w, **options)[0] if not options else F.embedding(ROWS, w * w),
                    normal(5, 3))  # fmt: skip
    w = tensor(normal(5, 3), requires_grad=True)
    y = F.embedding(ROWS, w, **options)
    dy = tensor(normal(2, 3, 3), requires_grad=True)
    (dw,) = grad(y, w, dy, create_graph=True)
    (back,) = grad(dw, dy, tensor(normal(5, 3, seed=2)))
    want = normal(5, 3, seed=2)[ROWS]
    if options:
        want[ROWS == 1] = 0
    np.testing.assert_allclose(back.data, want)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_are_too_long_are_scaled_in_place(norm_type, dtype):
    w = normal(6, 3).astype(dtype)
    w[3] *= 1e-3
    theirs, mine = as_torch(w), w.copy()
    want = T.embedding(as_torch(ROWS), theirs, None, 0.5, norm_type)
    y = F.embedding(ROWS, mine, None, 0.5, norm_type)
    np.testing.assert_allclose(y, want.numpy(), rtol=1e-6)
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(mine[[2, 3, 5]], w[[2, 3, 5]])


def test_a_layer_with_a_norm_learns():
    layer = nn.Embedding(5, 3, max_norm=0.5)
    layer(ROWS).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.data[:, 0], [1, 3, 0, 1, 1])
    assert (np.linalg.norm(layer.weight.data[[0, 1, 3, 4]], axis=1) < 0.5 + 1e-6).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_other_dtypes(dtype):
    pytest.importorskip("ml_dtypes")
    w = (4 * normal(5, 3)).astype(dtype)
    np.testing.assert_array_equal(F.embedding(ROWS, w), w[ROWS])
    if dtype in ("float16", "bfloat16"):
        leaf = tensor(w, requires_grad=True)
        (dw,) = grad(F.embedding(ROWS, leaf, scale_grad_by_freq=True), leaf, tensor(np.ones((2, 3, 3), w.dtype)))
        assert dw.dtype == w.dtype
        np.testing.assert_allclose(dw.data[:, 0].astype("float64"), [1, 1, 0, 1, 1], rtol=0.02)


@pytest.mark.parametrize("options", [{}, {"padding_idx": -2}, {"max_norm": 1, "norm_type": 1}])
def test_layers_are_pytorchs(options):
    mine, theirs = nn.Embedding(5, 3, **options), torch.nn.Embedding(5, 3, **options)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert mine.padding_idx == theirs.padding_idx
    if "padding_idx" in options:
        assert not mine.weight.data[3].any()
        assert mine.weight.data[:3].all()
    table = normal(5, 3)
    mine, theirs = nn.Embedding.from_pretrained(table.copy()), torch.nn.Embedding.from_pretrained(as_torch(table))
    assert not mine.weight.requires_grad
    np.testing.assert_array_equal(mine(ROWS).data, theirs(as_torch(ROWS)).numpy())


def read_only():
    w = normal(5, 3)
    w.flags.writeable = False
    return w


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda w: F.embedding(ROWS + 1, w), ShapeError, "embedding: input: got row 5"),
        (lambda w: F.embedding(ROWS - 1, w), ShapeError, "embedding: input: got row -1"),
        (lambda w: F.embedding(ROWS * 1.0, w), DTypeError, "embedding: input: got float64"),
        (lambda w: F.embedding(ROWS.astype("uint8"), w), DTypeError, "embedding: input: got uint8"),
        (lambda w: F.embedding(ROWS, w[0]), ShapeError, "embedding: weight"),
        (lambda w: F.embedding(ROWS, w, 5), ShapeError, "embedding: padding_idx: got 5"),
        (lambda w: F.embedding(ROWS, w, -6), ShapeError, "embedding: padding_idx: got -6"),
        (lambda w: F.embedding(ROWS, w, 1.5), DTypeError, "embedding: padding_idx"),
        (lambda w: F.embedding(ROWS, w, sparse=True), ShapeError, "embedding: sparse"),
        (lambda w: F.embedding(ROWS, w, max_norm="a"), DTypeError, "embedding: max_norm"),
        (lambda w: F.embedding(ROWS, w.astype(int), max_norm=1), DTypeError, "embedding: weight"),
        (lambda w: F.embedding(ROWS, read_only(), max_norm=1), ShapeError, "embedding: weight"),
        (lambda w: nn.Embedding(5, 3, 5), ShapeError, "Embedding: padding_idx"),
        (lambda w: nn.Embedding(5, 4, _weight=w), ShapeError, "Embedding: _weight"),
        (lambda w: nn.Embedding.from_pretrained(w[0]), ShapeError, "Embedding: embeddings"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(5, 3))
