"""Losses of boxes: their definitions, gradients, reductions and refusals."""

import numpy as np
import pytest

import fastconv.functional as F
from fastconv import backend, ops
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.test_box import boxes, pair

LOSSES = {
    "generalized_box_iou_loss": "generalized_box_iou",
    "distance_box_iou_loss": "distance_box_iou",
    "complete_box_iou_loss": "complete_box_iou",
}


def near(a, seed=2):
    return a + np.random.default_rng(seed).uniform(-0.8, 0.8, a.shape)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_their_definitions(name, axes):
    if name == "complete_box_iou_loss" and axes == 3:
        pytest.skip("it has no counterpart in three axes")
    function, a = getattr(F, name), boxes(6, axes=axes)
    b = near(a)
    b[0] = a[0] + 100  # apart from each other
    expected = np.array([1 - pair(LOSSES[name], x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(function(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(function(a, b, "sum"), expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(function(a, b, reduction="mean"), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(function(a[1], b[1]), expected[1], rtol=1e-6)
    np.testing.assert_allclose(function(a, b[1]), function(a, np.broadcast_to(b[1], b.shape)))
    for dtype in ("float16", "int64"):
        assert function(a.astype(dtype), b.astype(dtype)).dtype == np.float32
    if name != "complete_box_iou_loss":  # whose factor has no gradient
        check_gradients(lambda x, y: function(x, y, "sum"), a, b)
        check_gradients(function, a[1:], b[1:])
    with backend.use_backend("reference"):
        np.testing.assert_allclose(function(a, b), expected, rtol=1e-6)


def test_equal_boxes_lose_nothing():
    a = boxes(4)
    for name in LOSSES:
        np.testing.assert_allclose(getattr(F, name)(a, a), 0, atol=1e-6)
        np.testing.assert_allclose(getattr(F, name)(a, a, eps=0.0), 0, atol=1e-6)


def test_known_values():
    a, b = np.array([0.0, 0, 2, 2]), np.array([1.0, 1, 3, 3])
    np.testing.assert_allclose(F.generalized_box_iou_loss(a, b, eps=0), 1 - 1 / 7 + 2 / 9)
    np.testing.assert_allclose(F.distance_box_iou_loss(a, b, eps=0), 1 - 1 / 7 + 2 / 18)
    np.testing.assert_allclose(F.complete_box_iou_loss(a, b), 1 - 1 / 7 + 2 / 18, rtol=1e-6)
    np.testing.assert_allclose(F.distance_box_iou_loss(a, b, eps=1.0), 1 - 1 / 8 + 2 / 19)


@pytest.mark.parametrize("name", LOSSES)
def test_no_boxes(name):
    none, function = np.zeros((0, 4)), getattr(F, name)
    assert function(none, none).shape == (0,)
    for reduction in ("mean", "sum"):
        x = tensor(none, requires_grad=True)
        y = function(x, none, reduction)
        assert y.item() == 0
        y.backward()
        assert x.grad.shape == (0, 4)


def test_ops_has_these_functions():
    for name in LOSSES:
        assert getattr(ops, name) is getattr(F, name)


X, WIDE = boxes(3), boxes(3, axes=3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((X, X[:2]), ShapeError, "boxes1 and boxes2: got"),
        ((X[0], X), ShapeError, r"boxes2: got \[3, 4\]"),
        ((X, WIDE), ShapeError, r"boxes2: got \[3, 6\]"),
        ((X[:, :2], X[:, :2]), ShapeError, r"boxes1: got \[3, 2\]"),
        ((X, X, "average"), ShapeError, "reduction: got 'average'"),
        ((X, X, "none", None), DTypeError, "eps: got NoneType"),
        ((X, X.tolist()), DTypeError, "boxes2: got list"),
    ],
)
def test_refusals(name, arguments, error, message):
    with pytest.raises(error, match=f"{name}: {message}"):
        getattr(F, name)(*arguments)


def test_the_complete_loss_has_two_axes():
    with pytest.raises(ShapeError, match=r"complete_box_iou_loss: boxes1: got \[3, 6\]"):
        F.complete_box_iou_loss(WIDE, WIDE)
