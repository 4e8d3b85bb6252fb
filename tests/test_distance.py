"""normalize, cosine_similarity and pairwise_distance: PyTorch's values, gradients, dtypes and refusals."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, to_numpy, torch


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("p", [2.0, 1, 3.5, 0.5, math.inf, 4])
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 2)])
def test_normalize(p, dim):
    x = normal(3, 4, 5)
    x[1, :, 2] = 0
    check_like_torch(lambda x: F.normalize(x, p, dim), lambda x: T.normalize(x, p, dim), x, rtol=1e-11)


@pytest.mark.parametrize("shape, dim", [((), 0), ((3, 0), 1), ((0, 3), 1), ((2, 3), 1)])
def test_normalize_of_nothing_of_one_and_of_zeros(shape, dim):
    check_like_torch(lambda x: F.normalize(x, dim=dim), lambda x: T.normalize(x, dim=dim), np.zeros(shape))


@pytest.mark.parametrize(
    "shapes, dim",
    [(((3, 4), (3, 4)), 1), (((3, 4, 5), (3, 4, 5)), 0), (((3, 4), (1, 4)), -1), (((3, 4), (4,)), 1),
     (((3, 4), (3, 1)), 1), (((5,), (5,)), 0), (((2, 0), (2, 0)), 1)],
)  # fmt: skip
def test_cosine_similarity(shapes, dim):
    x1, x2 = (normal(*s, seed=i) for i, s in enumerate(shapes))
    check_like_torch(lambda a, b: F.cosine_similarity(a, b, dim), lambda a, b: T.cosine_similarity(a, b, dim), x1, x2)


def test_cosine_similarity_of_a_vector_without_length():
    x1, x2 = normal(3, 4), normal(3, 4, seed=1)
    x1[0], x2[1] = 0, 1e-12
    check_like_torch(F.cosine_similarity, T.cosine_similarity, x1, x2, rtol=1e-9)


@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, 0.5, math.inf, 0])
@pytest.mark.parametrize("keepdim", [False, True])
def test_pairwise_distance(p, keepdim):
    x1, x2 = normal(3, 4), normal(4, seed=1)
    check_like_torch(
        lambda a, b: F.pairwise_distance(a, b, p, 1e-6, keepdim),
        lambda a, b: T.pairwise_distance(a, b, p, 1e-6, keepdim), x1, x2, rtol=1e-10,
    )  # fmt: skip


def test_derivatives():
    x1, x2 = normal(3, 4), normal(3, 4, seed=1)
    check_gradients(lambda x: F.normalize(x, 2.0, 1), x1)
    check_gradients(lambda x: F.normalize(x, 3.0, 0), x1)
    check_gradients(F.cosine_similarity, x1, x2)
    check_gradients(F.pairwise_distance, x1, x2)
    check_gradients(F.pdist, x1)
    check_gradients(lambda x: F.pdist(x, 3.0), x1)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("shape", [(5, 3), (2, 1)])
def test_pdist(shape, p):
    check_like_torch(lambda x: F.pdist(x, p), lambda x: T.pdist(x, p), normal(*shape), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("p", [0.0, 2.0, math.inf])
@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (3, 0)])
def test_pdist_of_nothing(shape, p):
    x = tensor(normal(*shape), requires_grad=True)
    y = F.pdist(x, p)
    np.testing.assert_array_equal(y.data, T.pdist(as_torch(x.data), p))  # its gradient may end the process
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.zeros(shape))


def test_pdist_of_equal_rows_has_no_slope():
    x = normal(3, 4)
    x[2] = x[0]
    check_like_torch(F.pdist, T.pdist, x)


def test_pairwise_distance_of_vectors():
    for p in (0.0, 1.0, 2.0, 5.0):
        check_like_torch(
            lambda a, b, p=p: F.pairwise_distance(a, b, p), lambda a, b, p=p: T.pairwise_distance(a, b, p), normal(3),
            normal(3, seed=1),
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
def test_every_dtype_is_rounded_once(dtype):
    x, other = normal(5, 7).astype(dtype), normal(5, 7, seed=1).astype(dtype)
    eps = float(ml_dtypes.finfo(dtype).eps)
    for ours, theirs, arrays in (
        (F.normalize, T.normalize, (x,)),
        (F.cosine_similarity, T.cosine_similarity, (x, other)),
        (F.pairwise_distance, T.pairwise_distance, (x, other)),
    ):
        mine = [tensor(a, requires_grad=True) for a in arrays]
        wide = [as_torch(a.astype("float64"), True) for a in arrays]
        y, want = ours(*mine), theirs(*wide)
        assert y.dtype == np.dtype(dtype)
        np.testing.assert_allclose(y.data.astype("float64"), to_numpy(want), rtol=2 * eps, atol=2 * eps)
        dx = grad(y, mine, tensor(np.ones_like(y.data)))
        for d, e in zip(dx, torch.autograd.grad(want, wide, torch.ones_like(want)), strict=True):
            assert d.dtype == np.dtype(dtype)
            np.testing.assert_allclose(d.data.astype("float64"), to_numpy(e), rtol=4 * eps, atol=4 * eps)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.normalize(x, dim=2), ShapeError, "normalize: dim"),
        (lambda x: F.normalize(x.astype(int)), DTypeError, "normalize: input: got int64"),
        (lambda x: F.normalize(x, "a"), DTypeError, "normalize: p"),
        (lambda x: F.cosine_similarity(x, x[:, :2]), ShapeError, "cosine_similarity"),
        (lambda x: F.cosine_similarity(x, x.astype("float32")), DTypeError, "cosine_similarity: x2"),
        (lambda x: F.pairwise_distance(x, x, eps="a"), DTypeError, "pairwise_distance: eps"),
        (lambda x: F.pdist(x[0]), ShapeError, "pdist: input"),
        (lambda x: F.pdist(x, -1), ShapeError, "pdist: p"),
        (lambda x: F.pdist(x, "a"), DTypeError, "pdist: p"),
        (lambda x: F.pdist(x.astype(int)), DTypeError, "pdist: input"),
        (lambda x: F.pairwise_distance(x, [1.0]), DTypeError, "pairwise_distance: x2: got list"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(2, 3))


def test_layers():
    x1, x2 = normal(3, 4), normal(3, 4, seed=1)
    ours = nn.CosineSimilarity(dim=0, eps=1e-3), nn.PairwiseDistance(p=3.0, keepdim=True)
    theirs = torch.nn.CosineSimilarity(dim=0, eps=1e-3), torch.nn.PairwiseDistance(p=3.0, keepdim=True)
    for mine, other in zip(ours, theirs, strict=True):
        want = other(as_torch(x1), as_torch(x2)).numpy()
        np.testing.assert_allclose(mine(x1, x2), want, rtol=1e-12)
        assert repr(mine) == repr(other)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_normalize_of_every_storage(dtype, axis):
    x = normal(3, 4, 5).astype(dtype)
    want = T.normalize(as_torch(x.astype("float64")), dim=axis).numpy()
    eps = float(np.finfo(dtype).eps)
    for name, stored in storages(x):
        y = F.normalize(stored, dim=axis)
        assert y.dtype == np.dtype(dtype)
        np.testing.assert_allclose(y.astype("float64"), want, rtol=4 * eps, atol=eps, err_msg=name)


@pytest.mark.parametrize("p", [2, "fro", 1, 0, 3, 0.5, -1, math.inf, -math.inf])
@pytest.mark.parametrize("dim", [None, 1, (0, 1), -1])
def test_norm_is_pytorchs_and_has_two_derivatives(p, dim):
    x = np.random.default_rng(0).standard_normal((3, 4))
    check_like_torch(lambda x: fastconv.norm(x, p, dim), lambda x: torch.norm(x, p, dim), x, rtol=1e-10)
    y = tensor(x).norm(p, dim, keepdim=True)
    assert y.shape == tuple(torch.norm(torch.from_numpy(x), p, dim, keepdim=True).shape)
    if p != 0:
        check_gradients(lambda x: fastconv.norm(x, p, dim), x)


def test_norm_refuses():
    with pytest.raises(ShapeError, match="norm: p: got 'nuc'"):
        fastconv.norm(np.ones((2, 2)), "nuc")
    with pytest.raises(DTypeError, match="norm: input: got int64"):
        fastconv.norm(np.ones((2, 2), int))
    with pytest.raises(ShapeError, match="norm: input"):
        fastconv.norm(np.ones((2, 0)), math.inf, 1)
