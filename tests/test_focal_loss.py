"""Focal losses: torchvision's formula, cross-entropy without the factor, scores without bounds, all targets."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import nn
from fastconv.autograd import grad, raw
from fastconv.backend import use_backend
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import check_like_torch, torch

GAMMAS = [0, 0.5, 1, 1.5, 2, 2.0, 5]


def normal(*shape, seed=0):
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(shape))


def presence(*shape):
    return np.random.default_rng(1).integers(0, 2, shape).astype("float64")


def of_torchvision(x, t, alpha=0.25, gamma=2.0, reduction="none"):
    """The formula that torchvision documents."""
    p = torch.sigmoid(x)
    q = p * t + (1 - p) * (1 - t)
    loss = T.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - q) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * t + (1 - alpha) * (1 - t))
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha, reduction", [(0.25, "none"), (-1, "mean"), (1.0, "sum"), (0, "mean")])
def test_sigmoid_focal_loss_is_torchvisions(alpha, gamma, reduction):
    def call(function):
        return lambda x, t: function(x, t, alpha, gamma, reduction)

    x = normal(4, 5)
    check_like_torch(call(F.sigmoid_focal_loss), call(of_torchvision), x, presence(4, 5), rtol=1e-9, atol=1e-12)
    soft = np.random.default_rng(2).uniform(0, 1, (4, 5))
    check_like_torch(call(F.sigmoid_focal_loss), call(of_torchvision), x, soft, rtol=1e-9, atol=1e-12)
    check_gradients(call(F.sigmoid_focal_loss), x, soft)


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_presence_may_be_integers_or_bools(dtype):
    x, t = normal(3, 4), presence(3, 4)
    np.testing.assert_array_equal(F.sigmoid_focal_loss(x, t.astype(dtype)), F.sigmoid_focal_loss(x, t))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scores_without_bounds_have_finite_losses_and_slopes(dtype, gamma):
    x = np.array([-2e4, -800.0, -90.0, -17.0, 0.0, 17.0, 90.0, 800.0, 2e4]).astype(dtype)
    for t in (np.zeros_like(x), np.ones_like(x)):
        leaf = tensor(x, requires_grad=True)
        y = F.sigmoid_focal_loss(leaf, t, gamma=gamma)
        (dx,) = grad(y, leaf, tensor(np.ones_like(x)), create_graph=True)
        (second,) = grad(dx, leaf, tensor(np.ones_like(x)))
        for v in (y, dx, second):
            assert np.isfinite(v.data.astype("float64")).all()
        sure = x > 0 if t.all() else x < 0
        exact = np.exp(-abs(x.astype("float64"))) ** (1 + gamma) * (0.25 if t.all() else 0.75)
        small = np.finfo(dtype).tiny
        close = sure & (abs(x) > 10) & (exact > small)
        # Below the cube root of the smallest number a power below 2 is 0.
        allowed = dict(rtol=4e-3 if dtype == "float16" else 1e-5, atol=1e-18 if gamma in (0.5, 1.5) else 0)
        np.testing.assert_allclose(y.data[close], exact[close], **allowed)
    wide = np.stack([x, np.zeros_like(x), -x], 1)
    leaf = tensor(wide, requires_grad=True)
    y = F.focal_loss(leaf, np.zeros(len(x), int), gamma=gamma, reduction="none")
    (dx,) = grad(y, leaf, tensor(np.ones_like(x)), create_graph=True)
    assert np.isfinite(y.data.astype("float64")).all()
    assert np.isfinite(dx.data.astype("float64")).all()
    assert np.isfinite(grad(dx, leaf, tensor(np.ones_like(wide)))[0].data.astype("float64")).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)], ids=str)
def test_without_the_factor_it_is_cross_entropy(shape, reduction):
    target = np.random.default_rng(1).integers(0, 3, (shape[0], *shape[2:]))
    target[0] = np.where(target[0] == 2, -100, target[0])
    weight = np.array([0.5, 2.0, 1.5])
    for w in ((), (weight,)):
        check_like_torch(
            lambda x, t, *w: F.focal_loss(x, t, *map(raw, w), reduction=reduction, gamma=0),
            lambda x, t, *w: T.cross_entropy(x, t, *(v.detach() for v in w), reduction=reduction),
            normal(*shape), target, *w, rtol=1e-11,
        )  # fmt: skip
    shares = np.random.default_rng(1).uniform(0, 1, shape)
    check_like_torch(
        lambda x, t, w: F.focal_loss(x, t, w, reduction=reduction, gamma=0),
        lambda x, t, w: T.cross_entropy(x, t, w, reduction=reduction),
        normal(*shape), shares, weight, rtol=1e-11,
    )  # fmt: skip


def of_classes(x, t, gamma):
    logs = torch.log_softmax(x, 1).gather(1, t[:, None])[:, 0]
    return -((1 - torch.exp(logs)) ** gamma) * logs


@pytest.mark.parametrize("gamma", GAMMAS)
def test_classes_are_weighed_by_how_sure_they_are(gamma):
    target = np.random.default_rng(1).integers(0, 3, (2, 4))
    check_like_torch(
        lambda x, t: F.focal_loss(x, t, reduction="none", gamma=gamma),
        lambda x, t: of_classes(x, t, gamma), normal(2, 3, 4), target, rtol=1e-9,
    )  # fmt: skip
    one_hot = np.moveaxis(np.eye(3)[target], -1, 1)
    x = normal(2, 3, 4)
    want = F.focal_loss(x, target, gamma=gamma)
    for form in (target[:, None], one_hot, one_hot.astype("int32"), one_hot.astype(bool)):
        np.testing.assert_allclose(F.focal_loss(x, form, gamma=gamma), want, rtol=1e-14)
    check_gradients(lambda x: F.focal_loss(x, target, gamma=gamma), x)
    check_gradients(lambda x, t: F.focal_loss(x, t, gamma=gamma, reduction="none"), x, one_hot + 0.1)


def test_what_is_ignored_does_not_count():
    x, target = normal(1, 3, 8), np.array([[0, 1, 7, 2, 7, 1, 0, 2]])
    x[..., 2] = np.nan
    kept = target[0] != 7
    want = F.focal_loss(x[..., kept], target[:, kept])
    leaf = tensor(x, requires_grad=True)
    y = F.focal_loss(leaf, target, ignore_index=7)
    np.testing.assert_allclose(y.data, want, rtol=1e-14)
    assert not grad(y, leaf)[0].data[..., ~kept].any()
    assert np.isnan(F.focal_loss(x, np.full((1, 8), 7), ignore_index=7))
    assert F.focal_loss(x, np.full((1, 8), 7), ignore_index=7, reduction="sum") == 0
    assert F.focal_loss(np.zeros((0, 3, 4)), np.zeros((0, 4), int), reduction="none").shape == (0, 4)
    assert F.sigmoid_focal_loss(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)


def test_an_impossible_class_counts_no_more_than_its_share():
    x = np.array([[0.0, 1.0, -np.inf]])
    assert np.isfinite(F.focal_loss(x, np.array([1])))
    assert F.focal_loss(x, np.array([2])) == np.inf


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype):
    pytest.importorskip("ml_dtypes")
    x, t = normal(4, 3, 20).astype(dtype), np.random.default_rng(1).integers(0, 3, (4, 20))
    for y, exact in (
        (F.focal_loss(x, t), F.focal_loss(x.astype("float64"), t)),
        (F.sigmoid_focal_loss(x[:, 0], t > 0, reduction="mean"),
         F.sigmoid_focal_loss(x[:, 0].astype("float64"), t > 0, reduction="mean")),
    ):  # fmt: skip
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, np.asarray(exact).astype(dtype))


def test_every_backend_gives_the_same():
    x, target = normal(2, 3, 5).astype("float32"), np.random.default_rng(1).integers(0, 3, (2, 5))
    for call in (lambda: F.focal_loss(x, target, reduction="none"), lambda: F.sigmoid_focal_loss(x[:, 0], target > 0)):
        results = []
        for name in ("reference", "cpu", "emulated"):
            if name == "emulated":
                require("plain")
            with use_backend(name):
                results.append(call())
        np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=1e-5, atol=1e-6)


def test_layers_pass_their_options_on():
    x, target, weight = normal(2, 3, 4), np.array([[0, 1, 2, 1]] * 2), np.array([1.0, 2.0, 3.0])
    layer = nn.FocalLoss(weight, 1, "sum", gamma=1.5)
    np.testing.assert_array_equal(layer(x, target), F.focal_loss(x, target, weight, 1, "sum", gamma=1.5))
    layer = nn.SigmoidFocalLoss(0.4, 1.0, "none")
    np.testing.assert_array_equal(layer(x, x > 0), F.sigmoid_focal_loss(x, x > 0, 0.4, 1.0))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.sigmoid_focal_loss(x, x[:1]), ShapeError, "sigmoid_focal_loss: targets"),
        (lambda x: F.sigmoid_focal_loss(x, x, alpha=2), ShapeError, "sigmoid_focal_loss: alpha: got 2"),
        (lambda x: F.sigmoid_focal_loss(x, x, gamma=-1), ShapeError, "sigmoid_focal_loss: gamma: got -1"),
        (lambda x: F.sigmoid_focal_loss(x, x, gamma="a"), DTypeError, "sigmoid_focal_loss: gamma"),
        (lambda x: F.sigmoid_focal_loss(x, x, reduction="a"), ShapeError, "sigmoid_focal_loss: reduction"),
        (lambda x: F.sigmoid_focal_loss(x, x.astype("f4")), DTypeError, "sigmoid_focal_loss: targets: got float32"),
        (lambda x: F.sigmoid_focal_loss(x.astype(int), x), DTypeError, "sigmoid_focal_loss: inputs: got int64"),
        (lambda x: F.focal_loss(x, np.array([0, 3])), ShapeError, "focal_loss: target: got class 3"),
        (lambda x: F.focal_loss(x[:, :1], np.array([0, 0])), ShapeError, "focal_loss: input"),
        (lambda x: F.focal_loss(x[0], np.array(0)), ShapeError, "focal_loss: input"),
        (lambda x: F.focal_loss(x, np.array([0, 1]), gamma=None), DTypeError, "focal_loss: gamma"),
        (lambda x: nn.FocalLoss(reduction="a"), ShapeError, "FocalLoss: reduction"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(2, 3))
