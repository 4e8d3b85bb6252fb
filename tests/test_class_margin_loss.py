"""multi_margin_loss and multilabel_margin_loss: PyTorch's values, gradients, NaN and refusals."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

LISTS = np.array([[3, 0, -1, 1, 2], [-1, 0, 1, 2, 3], [4, 3, 2, 1, 0], [2, 2, 1, -1, -1]])


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("p, margin, weighted", [(1, 1.0, False), (2, 0.5, True), (1, -0.3, True), (2, 1, False)])
def test_multi_margin_is_pytorchs(p, margin, weighted, reduction):
    w = (abs(normal(5, seed=3)),) if weighted else ()
    check_like_torch(
        lambda x, t: F.multi_margin_loss(x, t, p, margin, *w, reduction=reduction),
        lambda x, t: T.multi_margin_loss(x, t, p, margin, *map(as_torch, w), reduction=reduction),
        normal(4, 5), np.array([0, 4, 2, 2]),
    )  # fmt: skip
    check_gradients(
        lambda x: F.multi_margin_loss(x, np.array([0, 4, 2, 2]), p, margin, *w, reduction=reduction), normal(4, 5)
    )


@pytest.mark.parametrize("shape, target", [((5,), (1,)), ((5,), ()), ((), (1,)), ((), ()), ((1,), ()), ((1, 5), (1,))])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_multi_margin_of_one_sample(shape, target, reduction):
    check_like_torch(
        lambda x, t: F.multi_margin_loss(x, t, reduction=reduction),
        lambda x, t: T.multi_margin_loss(x, t, reduction=reduction), normal(*shape), np.zeros(target, int),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [slice(None), 0, 3, slice(1, 2)])
def test_multilabel_margin_is_pytorchs(rows, reduction):
    check_like_torch(
        lambda x, t: F.multilabel_margin_loss(x, t, reduction=reduction),
        lambda x, t: T.multilabel_margin_loss(x, t, reduction=reduction), normal(4, 5)[rows], LISTS[rows],
    )  # fmt: skip
    check_gradients(lambda x: F.multilabel_margin_loss(x, LISTS[rows], reduction=reduction), normal(4, 5)[rows])


def test_multilabel_margin_without_axes():
    for target in (0, -1):
        y = F.multilabel_margin_loss(np.array(0.3), np.array(target))
        np.testing.assert_array_equal(y, T.multilabel_margin_loss(torch.tensor(0.3), torch.tensor(target)).numpy())


def test_what_is_no_number_does_not_count():
    x = normal(4, 5)
    x[0, 1] = x[1, 4] = x[2, 2] = np.nan
    target = np.array([0, 4, 2, 2])
    for call, theirs, t in (
        (F.multi_margin_loss, T.multi_margin_loss, target),
        (F.multilabel_margin_loss, T.multilabel_margin_loss, LISTS),
    ):
        mine, other = tensor(x, requires_grad=True), as_torch(x, True)
        y, expected = call(mine, t, reduction="none"), theirs(other, as_torch(t), reduction="none")
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-12)
        (dx,) = grad(y.sum(), mine)
        np.testing.assert_allclose(dx.data, torch.autograd.grad(expected.sum(), other)[0].numpy(), rtol=1e-12)


def test_no_samples():
    for call, t in ((F.multi_margin_loss, np.zeros(0, int)), (F.multilabel_margin_loss, np.zeros((0, 5), int))):
        assert call(np.zeros((0, 5)), t, reduction="none").shape == (0,)
        assert call(np.zeros((0, 5)), t, reduction="sum") == 0
        assert np.isnan(call(np.zeros((0, 5)), t))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_dtypes_are_rounded_once(dtype):
    pytest.importorskip("ml_dtypes")
    x = normal(4, 5).astype(dtype)
    for call, t in ((F.multi_margin_loss, np.array([0, 4, 2, 2])), (F.multilabel_margin_loss, LISTS)):
        y = call(x, t, reduction="none")
        assert y.dtype == x.dtype
        exact = call(x.astype("float64"), t, reduction="none")
        np.testing.assert_allclose(y.astype("float64"), exact, rtol=1e-6 if dtype == "float32" else 4e-3)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x, t: F.multi_margin_loss(x, t + 1), ShapeError, "multi_margin_loss: target: got class 5"),
        (lambda x, t: F.multi_margin_loss(x, t - 1), ShapeError, "multi_margin_loss: target: got class -1"),
        (lambda x, t: F.multi_margin_loss(x, t, 3), ShapeError, "multi_margin_loss: p"),
        (lambda x, t: F.multi_margin_loss(x, t, margin="a"), DTypeError, "multi_margin_loss: margin"),
        (lambda x, t: F.multi_margin_loss(x, t[:2]), ShapeError, "multi_margin_loss: target"),
        (lambda x, t: F.multi_margin_loss(x[:1], t[:1].reshape(())), ShapeError, "multi_margin_loss: target"),
        (lambda x, t: F.multi_margin_loss(x, t * 1.0), DTypeError, "multi_margin_loss: target: got float64"),
        (lambda x, t: F.multi_margin_loss(x, t, weight=x[0, :4]), ShapeError, "multi_margin_loss: weight"),
        (lambda x, t: F.multi_margin_loss(x, t, weight=x[0].astype("f4")), DTypeError, "multi_margin_loss: weight"),
        (lambda x, t: F.multi_margin_loss(x[..., None], t), ShapeError, "multi_margin_loss: input"),
        (lambda x, t: F.multi_margin_loss(x[:, :0], t), ShapeError, "multi_margin_loss: input"),
        (lambda x, t: F.multi_margin_loss(x.astype(int), t), DTypeError, "multi_margin_loss: input"),
        (lambda x, t: F.multilabel_margin_loss(x, t), ShapeError, "multilabel_margin_loss: target"),
        (lambda x, t: F.multilabel_margin_loss(x, LISTS - 1), ShapeError, "target: got class -2"),
        (lambda x, t: F.multilabel_margin_loss(x, LISTS + 1), ShapeError, "target: got class 5"),
        (lambda x, t: F.multilabel_margin_loss(x, x), DTypeError, "multilabel_margin_loss: target"),
        (lambda x, t: F.multilabel_margin_loss(x, LISTS, reduction="a"), ShapeError, "margin_loss: reduction"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(4, 5), np.array([0, 4, 2, 2]))
