"""Losses of overlap: their definitions in loops and in PyTorch, images and volumes, every kind of target."""

import numpy as np
import pytest

import fastconv.functional as F
from fastconv import nn
from fastconv.autograd import Tensor, grad
from fastconv.backend import use_backend
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

SIZES = [(5,), (4, 3), (3, 2, 4), ()]


def probabilities(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).uniform(0.05, 0.95, shape))


def classes(*shape, count=3, seed=1):
    return np.random.default_rng(seed).integers(0, count, shape)


def one_hot(target, count):
    return np.moveaxis(np.eye(count)[target], -1, 1)


def by_loops(p, t, alpha, beta, nr, dr, batch=False):
    """1 - TP / (TP + alpha * FP + beta * FN) of each sample and class."""
    losses = np.empty(p.shape[:2])
    for n in range(p.shape[0]):
        for c in range(p.shape[1]):
            rows = range(p.shape[0]) if batch else [n]
            pairs = [(a, b) for i in rows for a, b in zip(p[i, c].ravel(), t[i, c].ravel(), strict=True)]
            tp = sum(a * b for a, b in pairs)
            fp, fn = sum(a * (1 - b) for a, b in pairs), sum((1 - a) * b for a, b in pairs)
            losses[n, c] = 1 - (tp + nr) / (tp + alpha * fp + beta * fn + dr)
    return losses[0] if batch else losses


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [False, True])
def test_both_are_their_definitions(size, batch):
    p, target = probabilities(2, 3, *size), classes(2, *size)
    t = one_hot(target, 3)
    for alpha, beta in ((0.5, 0.5), (0.3, 0.7), (1.0, 0.0)):
        want = by_loops(p, t, alpha, beta, 0.1, 0.2, batch)
        options = dict(alpha=alpha, beta=beta, smooth_nr=0.1, smooth_dr=0.2, batch=batch)
        for form in (target, target[:, None], t, t.astype(int), t.astype(bool)):
            np.testing.assert_allclose(F.tversky_loss(p, form, reduction="none", **options), want, rtol=1e-12)
        np.testing.assert_allclose(F.tversky_loss(p, target, **options), want.mean(), rtol=1e-12)
        np.testing.assert_allclose(F.tversky_loss(p, target, reduction="sum", **options), want.sum(), rtol=1e-12)
    dice = F.dice_loss(p, target, reduction="none", batch=batch, smooth_nr=0.2, smooth_dr=0.4)
    np.testing.assert_allclose(dice, by_loops(p, t, 0.5, 0.5, 0.1, 0.2, batch), rtol=1e-12)


def in_torch(x, t, activation, squared, jaccard, background, weight, reduction):
    p = {"sigmoid": torch.sigmoid, "softmax": lambda v: torch.softmax(v, 1), None: lambda v: v}[activation](x)
    if not background:
        p, t = p[:, 1:], t[:, 1:]
    axes = tuple(range(2, p.ndim))
    both = (p * t).sum(axes)
    union = (p**2).sum(axes) + (t**2).sum(axes) if squared else p.sum(axes) + t.sum(axes)
    if jaccard:
        union = 2 * (union - both)
    loss = (1 - (2 * both + 1e-5) / (union + 1e-5)) * (weight if background else weight[1:])
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
@pytest.mark.parametrize(
    "squared, jaccard, background, reduction",
    [
        (False, False, True, "mean"),
        (True, False, False, "none"),
        (False, True, False, "sum"),
        (True, True, True, "none"),
    ],
)
def test_dice_of_every_option_is_pytorchs_composition(activation, squared, jaccard, background, reduction):
    x = probabilities(2, 3, 4, 5) * (1 if activation is None else 8) - (0 if activation is None else 4)
    options = {activation: True} if activation else {}
    check_like_torch(
        lambda x, t, w: F.dice_loss(x, t, w, reduction=reduction, include_background=background,
                                    squared_pred=squared, jaccard=jaccard, **options),
        lambda x, t, w: in_torch(x, t, activation, squared, jaccard, background, w, reduction),
        x, probabilities(2, 3, 4, 5, seed=2), probabilities(3, seed=3), rtol=1e-11,
    )  # fmt: skip


@pytest.mark.parametrize("call", [
    lambda x, t: F.dice_loss(x, t, softmax=True, squared_pred=True),
    lambda x, t: F.dice_loss(x, t, sigmoid=True, jaccard=True, reduction="none", batch=True),
    lambda x, t: F.tversky_loss(x, t, softmax=True, alpha=0.3, beta=0.7, gamma=0.75, reduction="none"),
    lambda x, t: F.tversky_loss(x, t, sigmoid=True, gamma=2),
])  # fmt: skip
def test_derivatives(call):
    check_gradients(call, probabilities(2, 3, 4), probabilities(2, 3, 4, seed=1))
    target = classes(2, 4)
    target[0, 1] = -100
    check_gradients(lambda x: call(x, target), probabilities(2, 3, 4))


def test_one_channel_is_the_foreground():
    p, target = probabilities(2, 1, 4, 3), classes(2, 4, 3, count=2)
    want = F.dice_loss(np.concatenate([1 - p, p], 1), target, include_background=False)
    for form in (target, target[:, None], target > 0, target[:, None] > 0, target[:, None].astype("float64")):
        np.testing.assert_allclose(F.dice_loss(p, form), want, rtol=1e-14)
        np.testing.assert_allclose(F.dice_loss(p, form, include_background=False), want, rtol=1e-14)
    with pytest.raises(ShapeError, match="dice_loss: target: got class 2"):
        F.dice_loss(p, target + 1)


@pytest.mark.parametrize("ignored", [-100, 1, 255])
@pytest.mark.parametrize("loss", [F.dice_loss, F.tversky_loss])
def test_what_is_ignored_does_not_count(loss, ignored):
    p, target = probabilities(1, 3, 10), classes(1, 10)
    away = np.array([2, 5, 6])
    target[0, away] = ignored
    kept = np.setdiff1d(np.arange(10), np.flatnonzero(target[0] == ignored))
    for form in (target, target.astype("uint8" if ignored > 0 else "int16")):
        x = tensor(p, requires_grad=True)
        y = loss(x, form, ignore_index=ignored, reduction="none")
        np.testing.assert_allclose(y.data, loss(p[..., kept], target[:, kept], reduction="none"), rtol=1e-13)
        (dx,) = grad(y, x, tensor(np.ones((1, 3))))
        assert not dx.data[..., away].any()
    p[..., away] = np.nan
    for options in ({}, {"softmax": True}, {"sigmoid": True}):
        x = tensor(p, requires_grad=True)
        y = loss(x, target, ignore_index=ignored, **options)
        assert np.isfinite(y.data)
        assert np.isfinite(grad(y, x)[0].data).all()
    shares = one_hot(np.where(np.isin(np.arange(10), away), 0, target % 3), 3).astype(int)
    shares[..., away] = ignored
    if ignored != 1:
        np.testing.assert_allclose(loss(p, shares, ignore_index=ignored), loss(p, target, ignore_index=ignored))


def test_nothing_over_nothing_is_no_loss():
    p, t = np.zeros((2, 1, 4)), np.zeros((2, 1, 4))
    for loss in (F.dice_loss, F.tversky_loss):
        np.testing.assert_allclose(loss(p, t), 0, atol=1e-15)
        np.testing.assert_allclose(loss(p, t + 1), 1, rtol=1e-4)
        assert np.isnan(loss(p, t, smooth_nr=0, smooth_dr=0))
        assert loss(np.zeros((0, 2, 3)), np.zeros((0, 2, 3)), reduction="none").shape == (0, 2)
        assert loss(np.zeros((0, 2, 3)), np.zeros((0, 3), int), reduction="sum") == 0


def test_a_perfect_segmentation_has_no_slope_that_is_not_finite():
    t = one_hot(classes(2, 6), 3)
    x = tensor(t.copy(), requires_grad=True)
    y = F.tversky_loss(x, t, gamma=0.75)
    np.testing.assert_allclose(y.data, 0, atol=1e-3)
    assert np.isfinite(grad(y, x)[0].data).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_dtypes_are_rounded_once(dtype):
    pytest.importorskip("ml_dtypes")
    x, target = (8 * probabilities(2, 3, 400) - 4).astype(dtype), classes(2, 400)
    for loss in (F.dice_loss, F.tversky_loss):
        t = tensor(x, requires_grad=True)
        y = loss(t, target, softmax=True)
        assert y.dtype == x.dtype
        exact = loss(x.astype("float64"), target, softmax=True)
        np.testing.assert_array_equal(y.data, np.asarray(exact).astype(dtype)) if dtype != "float32" else None
        np.testing.assert_allclose(y.data.astype("float64"), exact, rtol=1e-2 if dtype != "float32" else 1e-6)
        assert grad(y, t)[0].dtype == x.dtype


def test_every_backend_gives_the_same():
    x, target = (8 * probabilities(2, 3, 5, 4) - 4).astype("float32"), classes(2, 5, 4)
    for loss in (F.dice_loss, F.tversky_loss):
        results = []
        for name in ("reference", "cpu", "emulated"):
            if name == "emulated":
                require("plain")
            with use_backend(name):
                results.append(loss(x, target, softmax=True, reduction="none"))
        np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=1e-5)


@pytest.mark.parametrize("name, options", [
    ("DiceLoss", dict(softmax=True, include_background=False, squared_pred=True, batch=True)),
    ("DiceLoss", dict(jaccard=True, sigmoid=True, smooth_nr=1, smooth_dr=1, reduction="sum", ignore_index=2)),
    ("TverskyLoss", dict(softmax=True, alpha=0.2, beta=0.8, gamma=0.75, reduction="none")),
])  # fmt: skip
def test_layers_pass_their_options_on(name, options):
    function = {"DiceLoss": F.dice_loss, "TverskyLoss": F.tversky_loss}[name]
    x, target, weight = probabilities(2, 3, 4), classes(2, 4), probabilities(3, seed=5)
    layer = getattr(nn, name)(weight, **options)
    want = function(x, target, weight, **options)
    np.testing.assert_array_equal(layer(x, target), want)
    y = layer(tensor(x), target)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, want)
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x, t: F.dice_loss(x[0, 0], t), ShapeError, r"dice_loss: input: got \[4\]"),
        (lambda x, t: F.dice_loss(x.astype(int), t), DTypeError, "dice_loss: input: got int64"),
        (lambda x, t: F.dice_loss(x, t[:, :3]), ShapeError, "dice_loss: target"),
        (lambda x, t: F.dice_loss(x, t + 3), ShapeError, "dice_loss: target: got class 3"),
        (lambda x, t: F.dice_loss(x, -t), ShapeError, "dice_loss: target: got class -"),
        (lambda x, t: F.dice_loss(x, t > 0), DTypeError, "dice_loss: target: got bool"),
        (lambda x, t: F.dice_loss(x, x.astype("f4")), DTypeError, "dice_loss: target: got float32"),
        (lambda x, t: F.dice_loss(x, x[:, 0]), ShapeError, "dice_loss: target"),
        (lambda x, t: F.dice_loss(x, t, x[0, :2, 0]), ShapeError, "dice_loss: weight"),
        (lambda x, t: F.dice_loss(x, t, ignore_index=1.5), DTypeError, "dice_loss: ignore_index"),
        (lambda x, t: F.dice_loss(x, t, reduction="median"), ShapeError, "dice_loss: reduction: got 'median'"),
        (lambda x, t: F.dice_loss(x, t, sigmoid=True, softmax=True), ShapeError, "dice_loss: softmax"),
        (lambda x, t: F.dice_loss(x[:, :1], t > 0, softmax=True), ShapeError, "dice_loss: softmax"),
        (lambda x, t: F.dice_loss(x, t, smooth_nr=-1), ShapeError, "dice_loss: smooth_nr: got -1"),
        (lambda x, t: F.tversky_loss(x, t, alpha="a"), DTypeError, "tversky_loss: alpha"),
        (lambda x, t: F.tversky_loss(x, t, gamma=float("nan")), ShapeError, "tversky_loss: gamma"),
        (lambda x, t: nn.DiceLoss(reduction="median"), ShapeError, "DiceLoss: reduction"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(probabilities(2, 3, 4), classes(2, 4) * 0 + np.arange(4) % 3)


def test_pytorch_learns_the_same_from_it():
    x, target = 4 * probabilities(2, 3, 6) - 2, classes(2, 6)
    leaf = as_torch(x, True)
    loss = in_torch(leaf, as_torch(one_hot(target, 3)), "softmax", False, False, True, torch.ones(3), "mean")
    mine = tensor(x, requires_grad=True)
    (dx,) = grad(F.dice_loss(mine, target, softmax=True), mine)
    np.testing.assert_allclose(dx.data, torch.autograd.grad(loss, leaf)[0].numpy(), rtol=1e-10, atol=1e-14)
