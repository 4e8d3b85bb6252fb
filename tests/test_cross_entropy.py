"""Losses of classes: PyTorch's values, gradients, NaN and refusals, for every reduction and storage."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.cpu import elementwise_functions
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, to_numpy, torch

REDUCTIONS = ["mean", "sum", "none"]


def normal(*shape, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal(shape)


def shares(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.02, 0.98, shape)


def both(name, **options):
    theirs = {k: as_torch(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return (lambda x, t: getattr(F, name)(x, t, **options)), (lambda x, t: getattr(T, name)(x, t, **theirs))


SHAPES = [(6, 5), (5,), (2, 5, 4), (2, 5, 3, 4), (2, 1, 3), (1, 5)]

CLASSES = [
    {},
    {"ignore_index": 2},
    {"weight": True},
    {"weight": True, "ignore_index": 0},
]


def target_of(shape, seed=3):
    axis = min(len(shape) - 1, 1)
    return np.asarray(np.random.default_rng(seed).integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])), axis


def weighted(options, shape, axis):
    return {**options, "weight": shares(shape[axis], seed=7)} if options.get("weight") else options


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", CLASSES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy", "smoothed"])
def test_classes_are_pytorchs(name, shape, options, reduction):
    t, axis = target_of(shape)
    options = weighted(options, shape, axis)
    if name == "smoothed":
        name, options = "cross_entropy", {**options, "label_smoothing": 0.3}
    ours, theirs = both(name, **options, reduction=reduction)
    x = normal(*shape)
    check_like_torch(ours, theirs, x, t, atol=1e-12)
    if reduction != "mean" or (t != options.get("ignore_index", -100)).any():  # the mean of nothing is NaN
        check_gradients(lambda v: ours(v, t), x)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}, {"weight": True, "label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities_of_classes_are_pytorchs(shape, options, reduction):
    _, axis = target_of(shape)
    ours, theirs = both("cross_entropy", **weighted(options, shape, axis), reduction=reduction)
    t = shares(*shape, seed=1)
    check_like_torch(ours, theirs, normal(*shape), t / t.sum(axis, keepdims=True))
    check_gradients(ours, normal(*shape), t)


@pytest.mark.parametrize("dtypes", [("float32", "float64", "float32"), ("float64", "float32", "float16"),
                                    ("float32", "float16", "float64")], ids=str)  # fmt: skip
def test_probabilities_and_weights_of_other_dtypes_are_pytorchs(dtypes):
    x, t, w = (v.astype(d) for v, d in zip((normal(4, 3), shares(4, 3), shares(3, seed=2)), dtypes, strict=True))
    check_like_torch(F.cross_entropy, T.cross_entropy, x, t, w, rtol=1e-3, atol=1e-3)
    check_gradients(F.cross_entropy, normal(4, 3), shares(4, 3), shares(3, seed=2))


@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy"])
def test_one_class_of_scores_without_a_batch(name):
    for reduction in REDUCTIONS:
        ours, theirs = both(name, reduction=reduction)
        y, expected = ours(normal(4), np.array([2])), theirs(as_torch(normal(4)), torch.tensor([2]))
        assert y.shape == tuple(expected.shape) == ()
        np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12)


def test_means_over_no_class_are_pytorchs():
    for shape in ((0, 4), (2, 0), (2, 4, 0), (0,)):
        for reduction in REDUCTIONS:
            ours, theirs = both("cross_entropy", reduction=reduction)
            x = normal(*shape)
            np.testing.assert_array_equal(ours(x, x), theirs(as_torch(x), as_torch(x)).numpy())


@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy"])
def test_nothing_counted(name):
    x, ignored = normal(3, 4), np.full(3, -100)
    for reduction in REDUCTIONS:
        ours, theirs = both(name, reduction=reduction)
        check_like_torch(ours, theirs, x, ignored)
        np.testing.assert_array_equal(ours(x[:0], ignored[:0]), theirs(as_torch(x[:0]), as_torch(ignored[:0])).numpy())


def test_ignored_targets_hide_what_is_not_a_number():
    x = normal(3, 4)
    x[1, 2] = np.nan
    for smoothing in (0.0, 0.2):
        for reduction in REDUCTIONS:
            ours, theirs = both("cross_entropy", reduction=reduction, label_smoothing=smoothing, ignore_index=1)
            y, expected = ours(x, np.array([0, 1, 3])), theirs(as_torch(x), torch.tensor([0, 1, 3]))
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12)
    assert np.isnan(F.cross_entropy(x, np.array([0, 2, 3])))


def test_scores_do_not_overflow():
    x = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, 1e4], [0.0, -np.inf, 1.0]])
    check_like_torch(*both("cross_entropy", reduction="none"), x, np.array([1, 2, 2]))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_any_integers_are_classes(dtype):
    x, t = normal(4, 3), np.array([0, 2, 1, 2])
    np.testing.assert_array_equal(F.cross_entropy(x, t.astype(dtype)), F.cross_entropy(x, t))


@pytest.mark.parametrize("options", CLASSES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("shape", [(600, 3), (3, 70, 41, 3), (2, 3, 40, 17), (70, 1000)], ids=str)
def test_cross_entropy_in_blocks_and_both_formats(shape, dtype, tolerance, options):
    """Around the blocks of 512 positions and 64 rows, and the 16 lanes of a long row."""
    x = normal(*shape).astype(dtype)
    t, axis = target_of(shape)
    options = {k: v.astype(dtype) if k == "weight" else v for k, v in weighted(options, shape, axis).items()}
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for smoothing in (0.0, 0.2):
        ours, theirs = both("cross_entropy", **options, reduction="sum", label_smoothing=smoothing)
        other = as_torch(x, True)
        expected = theirs(other, as_torch(t))
        (want,) = torch.autograd.grad(expected, other)
        for stored in (x, last):
            mine = tensor(stored, requires_grad=True)
            y = ours(mine, t)
            np.testing.assert_allclose(y.data, to_numpy(expected), rtol=10 * tolerance)
            (dx,) = grad(y, mine)
            np.testing.assert_allclose(dx.data, to_numpy(want), rtol=tolerance, atol=tolerance)
            assert np.moveaxis(dx.data, 1, -1).flags.c_contiguous == np.moveaxis(stored, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponentials_are_within_two_units_in_the_last_place(dtype):
    x = np.concatenate([np.linspace(-800, 0, 40_000), np.linspace(-1, 1, 20_000), [-np.inf, np.nan]]).astype(dtype)
    function = elementwise_functions.functions(dtype).exp
    y = np.array([function(v) for v in x], dtype)
    exact = np.exp(x.astype(np.longdouble))
    assert y[-2] == 0
    assert np.isnan(y[-1])
    unit = np.spacing(np.maximum(exact[:-1].astype(dtype), np.finfo(dtype).smallest_normal))
    assert (np.abs(y[:-1] - exact[:-1]) <= 2 * unit).all()


def test_one_hot_is_pytorchs():
    t = np.array([[0, 2], [1, 2]])
    for options in ({}, {"num_classes": 5}):
        y, expected = F.one_hot(t, **options), T.one_hot(torch.from_numpy(t), **options)
        np.testing.assert_array_equal(y, expected.numpy())
        assert y.dtype == np.int64
    assert isinstance(F.one_hot(tensor(t)), Tensor)
    assert F.one_hot(t[:0], 3).shape == (0, 2, 3)


X = normal(3, 4)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.binary_cross_entropy(X, X), ShapeError, "binary_cross_entropy: input: got"),
        (
            lambda: F.cross_entropy(X, np.array([0, 4, 1])),
            ShapeError,
            "cross_entropy: target: got class 4, expected 0 to 3",
        ),
        (lambda: F.cross_entropy(X, np.array([0, -1, 1])), ShapeError, "target: got class -1"),
        (lambda: F.nll_loss(X, np.array([0, 9, 1])), ShapeError, "nll_loss: target: got class 9"),
        (lambda: F.nll_loss(X, np.zeros(2, int)), ShapeError, r"nll_loss: target: got \[2\], expected \[3\]"),
        (lambda: F.nll_loss(X, np.zeros((3, 4), int)), ShapeError, "nll_loss: target"),
        (lambda: F.nll_loss(X, np.zeros(3)), DTypeError, "nll_loss: target: got float64"),
        (lambda: F.nll_loss(X, np.zeros(3, bool)), DTypeError, "nll_loss: target: got bool"),
        (lambda: F.nll_loss(X, [0, 1, 2]), DTypeError, "nll_loss: target: got list"),
        (lambda: F.nll_loss(X, np.zeros(3, int), ignore_index=1.5), DTypeError, "nll_loss: ignore_index"),
        (lambda: F.nll_loss(X[0, 0], np.zeros((), int)), DTypeError, "nll_loss: input"),
        (lambda: F.nll_loss(np.array(1.0), np.zeros((), int)), ShapeError, "nll_loss: input"),
        (
            lambda: F.cross_entropy(X, np.zeros(3, int), tensor(X[0], requires_grad=True)),
            DTypeError,
            "cross_entropy: weight: got a Tensor that requires",
        ),
        (lambda: F.nll_loss(X[0], np.zeros(2, int)), ShapeError, "nll_loss: target"),
        (lambda: F.cross_entropy(X, X, X[0, :3]), ShapeError, r"cross_entropy: weight: got \[3\]"),
        (lambda: F.cross_entropy(X, np.zeros(3, int), X[0, :3]), ShapeError, r"cross_entropy: weight: got \[3\]"),
        (lambda: F.cross_entropy(X, np.zeros(3, int), np.ones(4, "f4")), DTypeError, "cross_entropy: weight"),
        (lambda: F.cross_entropy(X, np.zeros(3)), ShapeError, "cross_entropy: target"),
        (lambda: F.cross_entropy(X, X, ignore_index=1), ShapeError, "cross_entropy: ignore_index"),
        (lambda: F.cross_entropy(X, np.zeros(3, int), label_smoothing=1.5), ShapeError, "label_smoothing: got 1.5"),
        (lambda: F.cross_entropy(np.zeros((3, 0)), np.zeros(3, int)), ShapeError, "target: got class 0"),
        (lambda: F.one_hot(np.array([3]), 2), ShapeError, "one_hot: tensor: got class 3"),
        (lambda: F.one_hot(np.array([-1])), ShapeError, "one_hot: tensor: got class -1"),
        (lambda: F.one_hot(np.zeros(0, int)), ShapeError, "one_hot: num_classes"),
        (lambda: F.one_hot(np.zeros(2)), DTypeError, "one_hot: tensor: got float64"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
