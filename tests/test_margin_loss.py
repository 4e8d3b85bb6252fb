"""Losses with a margin: PyTorch's values, gradients, dtypes, spellings of a reduction and refusals."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import nn
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, to_numpy, torch


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def signs(*shape):
    return np.asarray(np.random.default_rng(5).choice([-1.0, 1.0], shape))


# name, arrays, options
CASES = [
    ("margin_ranking_loss", (normal(4, 5), normal(4, 5, seed=1), signs(4, 5)), {"margin": 0.3}),
    ("margin_ranking_loss", (normal(4, 5), normal(1, 5, seed=1), signs(4, 1)), {}),
    ("hinge_embedding_loss", (abs(normal(4, 5)), signs(5)), {"margin": 0.7}),
    ("hinge_embedding_loss", (abs(normal(4, 5)), np.array([1.0, -1.0, 0.0, 2.0, np.nan])), {}),
    ("cosine_embedding_loss", (normal(4, 5), normal(4, 5, seed=1), signs(4)), {"margin": 0.1}),
    ("cosine_embedding_loss", (normal(4, 5), normal(1, 5, seed=1), signs(1)), {"margin": -0.5}),
    ("cosine_embedding_loss", (normal(5), normal(5, seed=1), np.array(-1.0)), {"margin": -0.9}),
    ("cosine_embedding_loss", (normal(3, 5), np.zeros((3, 5)), np.array([1.0, -1.0, 0.0])), {}),
    ("triplet_margin_loss", tuple(normal(4, 5, seed=i) for i in range(3)), {"p": 2, "swap": True}),
    ("triplet_margin_loss", tuple(normal(4, 5, seed=i) for i in range(3)), {"p": 3.0, "margin": 2.5, "eps": 1e-3}),
    ("triplet_margin_loss", (normal(4, 5), normal(1, 5, seed=1), normal(4, 5, seed=2)), {"p": 1}),
    ("triplet_margin_with_distance_loss", tuple(normal(4, 5, seed=i) for i in range(3)), {"swap": True}),
    ("multilabel_soft_margin_loss", (9 * normal(4, 5), (signs(4, 5) + 1) / 2), {}),
    ("multilabel_soft_margin_loss", (normal(5), (signs(5) + 1) / 2), {}),
]
IDS = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, arrays, options", CASES, ids=IDS)
def test_values_and_gradients_are_pytorchs(name, arrays, options, reduction):
    check_like_torch(
        lambda *a: getattr(F, name)(*a, reduction=reduction, **options),
        lambda *a: getattr(T, name)(*a, reduction=reduction, **options), *arrays, rtol=1e-11,
    )  # fmt: skip


@pytest.mark.parametrize("name, arrays, options", CASES, ids=IDS)
def test_derivatives(name, arrays, options):
    if name == "hinge_embedding_loss" or not np.all([a.any() for a in arrays]):
        arrays = [np.where(np.isnan(a), 1, a) + (0.3 if not a.any() else 0) for a in arrays]
    target = {"hinge_embedding_loss": 1, "cosine_embedding_loss": 2}.get(name)
    free = [a for i, a in enumerate(arrays) if i != target]
    fixed = [] if target is None else [arrays[target]]
    check_gradients(lambda *a: getattr(F, name)(*a, *fixed, reduction="none", **options), *free, tolerance=1e-5)


@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_the_older_spelling_of_a_reduction_decides(size_average, reduce):
    if size_average is None and reduce is None:
        return
    x, t = abs(normal(3, 4)), signs(3, 4)
    with pytest.warns(UserWarning):
        want = T.hinge_embedding_loss(*map(as_torch, (x, t)), 1.0, size_average, reduce, "none").numpy()
    with pytest.warns(UserWarning, match="size_average and reduce"):
        np.testing.assert_allclose(F.hinge_embedding_loss(x, t, 1.0, size_average, reduce, "none"), want)
    with pytest.warns(UserWarning, match="size_average and reduce"):
        assert nn.HingeEmbeddingLoss(1.0, size_average, reduce, "none")(x, t).shape == want.shape
    with pytest.warns(UserWarning, match="elementwise_mean"):
        old = F.hinge_embedding_loss(x, t, reduction="elementwise_mean")
    np.testing.assert_array_equal(old, F.hinge_embedding_loss(x, t))


@pytest.mark.parametrize("name, arrays, dtypes", [
    ("margin_ranking_loss", CASES[0][1], ("float32", "float32", "float64")),
    ("margin_ranking_loss", CASES[0][1], ("float32", "float64", "int64")),
    ("margin_ranking_loss", CASES[0][1], ("float16", "float16", "int8")),
    ("hinge_embedding_loss", CASES[2][1], ("float32", "float64")),
    ("hinge_embedding_loss", CASES[2][1], ("float16", "int32")),
    ("cosine_embedding_loss", CASES[4][1], ("float32", "float64", "int64")),
    ("cosine_embedding_loss", CASES[4][1], ("float32", "float32", "float64")),
    ("triplet_margin_loss", CASES[8][1], ("float32", "float32", "float32")),
    ("multilabel_soft_margin_loss", CASES[12][1], ("float32", "float64")),
    ("multilabel_soft_margin_loss", CASES[12][1], ("float32", "int32")),
])  # fmt: skip
def test_dtypes_combine_as_in_pytorch(name, arrays, dtypes):
    arrays = [a.astype(d) for a, d in zip(arrays, dtypes, strict=True)]
    y, expected = getattr(F, name)(*arrays), getattr(T, name)(*map(as_torch, arrays))
    assert y.dtype.name == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y, to_numpy(expected), rtol=2e-3 if "float16" in dtypes else 1e-5)


@pytest.mark.parametrize("name, arrays, options", CASES, ids=IDS)
def test_halves_are_rounded_once(name, arrays, options):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in ("float16", ml_dtypes.bfloat16):
        halves = [a.astype(dtype) for a in arrays]
        leaves = [tensor(a, requires_grad=True) for a in halves]
        y = getattr(F, name)(*leaves, reduction="none", **options)
        exact = getattr(F, name)(*[a.astype("float64") for a in halves], reduction="none", **options)
        eps = float(ml_dtypes.finfo(dtype).eps)
        assert y.dtype == np.dtype(dtype)
        np.testing.assert_allclose(y.data.astype("float64"), exact, rtol=eps, atol=1e-5)
        for g in grad(y, leaves, tensor(np.ones_like(y.data)), allow_unused=True):
            assert g is None or g.dtype == np.dtype(dtype)


def test_empty_and_a_distance_of_ones_own():
    empty = np.zeros((0, 4))
    assert np.isnan(F.margin_ranking_loss(empty, empty, empty))
    assert F.triplet_margin_loss(empty, empty, empty, reduction="sum") == 0
    arrays = [normal(4, 5, seed=i) for i in range(3)]
    check_like_torch(
        lambda *a: F.triplet_margin_with_distance_loss(*a, distance_function=lambda x, y: abs(x - y).sum(1)),
        lambda *a: T.triplet_margin_with_distance_loss(*a, distance_function=lambda x, y: (x - y).abs().sum(1)),
        *arrays,
    )


LAYERS = [
    ("MarginRankingLoss", (0.3,), CASES[0][1]),
    ("HingeEmbeddingLoss", (0.7,), CASES[2][1]),
    ("CosineEmbeddingLoss", (0.1,), CASES[4][1]),
    ("TripletMarginLoss", (0.5, 3, 1e-3, True), CASES[8][1]),
    ("TripletMarginWithDistanceLoss", (), CASES[8][1]),
    ("MultiLabelSoftMarginLoss", (normal(5, seed=7),), CASES[12][1]),
    ("MultiMarginLoss", (2, 0.5, normal(5, seed=7)), (normal(4, 5), np.array([0, 4, 2, 2]))),
    ("MultiLabelMarginLoss", (), (normal(4, 5), np.array([[0, 4, -1, 2, 2], [-1] * 5, [1] * 5, [3, 1, 0, -1, 7 % 5]]))),
]


@pytest.mark.parametrize("name, options, arrays", LAYERS, ids=[layer[0] for layer in LAYERS])
def test_layers_are_pytorchs(name, options, arrays):
    mine = getattr(nn, name)(*options, reduction="sum")
    theirs = getattr(torch.nn, name)(
        *(as_torch(o) if isinstance(o, np.ndarray) else o for o in options), reduction="sum"
    )
    np.testing.assert_allclose(mine(*arrays), theirs(*map(as_torch, arrays)).numpy(), rtol=1e-12)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x, t: F.margin_ranking_loss(x, x[0], t), ShapeError, "margin_ranking_loss: input1 and input2"),
        (lambda x, t: F.margin_ranking_loss(x, x[:, :3], t), ShapeError, "margin_ranking_loss: input1 and"),
        (lambda x, t: F.margin_ranking_loss(x, x, t, "a"), DTypeError, "margin_ranking_loss: margin"),
        (lambda x, t: F.margin_ranking_loss(x, [1.0], t), DTypeError, "margin_ranking_loss: input2"),
        (lambda x, t: F.margin_ranking_loss(t, x, t), DTypeError, "margin_ranking_loss: input1: got int64"),
        (lambda x, t: F.hinge_embedding_loss(x, t, reduction="a"), ShapeError, "hinge_embedding_loss: reduction"),
        (lambda x, t: F.hinge_embedding_loss(x, t[:, :3]), ShapeError, "hinge_embedding_loss: input and target"),
        (lambda x, t: F.cosine_embedding_loss(x, x, t), ShapeError, "cosine_embedding_loss: target"),
        (lambda x, t: F.cosine_embedding_loss(x, x[0], t[:, 0]), ShapeError, "cosine_embedding_loss: input2"),
        (lambda x, t: F.cosine_embedding_loss(x, x, t[0]), ShapeError, "cosine_embedding_loss: input1 and target"),
        (lambda x, t: F.triplet_margin_loss(x, x, x, 0), ShapeError, "triplet_margin_loss: margin: got 0"),
        (lambda x, t: F.triplet_margin_loss(x, x, x[0]), ShapeError, "triplet_margin_loss: anchor and"),
        (lambda x, t: F.triplet_margin_with_distance_loss(x, x, x, distance_function=1), DTypeError, "distance"),
        (lambda x, t: F.multilabel_soft_margin_loss(x, t > 0), DTypeError, "target: got bool"),
        (lambda x, t: F.multilabel_soft_margin_loss(x[0, 0:1].reshape(()), t[0, 0:1].reshape(())), ShapeError, "input"),
        (lambda x, t: nn.TripletMarginLoss(-1), ShapeError, "TripletMarginLoss: margin"),
        (lambda x, t: nn.MultiMarginLoss(3), ShapeError, "MultiMarginLoss: p"),
        (lambda x, t: nn.MultiMarginLoss(weight=x), ShapeError, "MultiMarginLoss: weight"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(3, 4), np.ones((3, 4), int))
