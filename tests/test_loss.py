"""Losses: PyTorch's values, gradients, NaN and refusals, for every reduction; one rounding for halves."""

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.cpu import loss_kernels
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.tolerance import assert_within
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, to_numpy, torch

REDUCTIONS = ["mean", "sum", "none"]


def normal(*shape, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal(shape)


def shares(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.02, 0.98, shape)


def both(name, **options):
    theirs = {k: as_torch(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return (lambda x, t: getattr(F, name)(x, t, **options)), (lambda x, t: getattr(T, name)(x, t, **theirs))


PAIRS = [
    ("mse_loss", {}),
    ("l1_loss", {}),
    ("smooth_l1_loss", {}),
    ("smooth_l1_loss", {"beta": 0.3}),
    ("smooth_l1_loss", {"beta": 0.0}),
    ("huber_loss", {}),
    ("huber_loss", {"delta": 2.5}),
    ("binary_cross_entropy_with_logits", {}),
    ("binary_cross_entropy_with_logits", {"weight": shares(4, seed=5)}),
    ("binary_cross_entropy_with_logits", {"weight": shares(3, 1, seed=5), "pos_weight": shares(4, seed=6) * 3}),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name, options", PAIRS, ids=str)
@pytest.mark.parametrize("lead", [(3,), (2, 3), (0, 3)], ids=str)
def test_pairs_are_pytorchs(name, options, reduction, lead):
    target = shares if "cross" in name else normal
    ours, theirs = both(name, **options, reduction=reduction)
    x, t = normal(*lead, 4), target(*lead, 4, seed=1)
    check_like_torch(ours, theirs, x, t)
    if x.size:
        check_gradients(ours, x, t)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_pairs_of_single_and_special_values_are_pytorchs(name):
    check_like_torch(*both(name), np.array(0.5), np.array(2.0))
    x = np.array([0.0, 1.0, np.inf, np.nan, 5.0, -np.inf])
    check_like_torch(*both(name, reduction="none"), x, np.array([0.0, 0.0, 1.0, 1.0, np.nan, 2.0]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, shares(4, seed=5)], ids=["even", "weighted"])
def test_binary_cross_entropy_is_pytorchs(reduction, weight):
    ours, theirs = both("binary_cross_entropy", weight=weight, reduction=reduction)
    check_like_torch(ours, theirs, shares(3, 4), shares(3, 4, seed=1))
    check_gradients(ours, shares(3, 4) * 0.6 + 0.2, shares(3, 4, seed=1))  # away from the poles of the logarithms


def test_certain_probabilities_are_pytorchs():
    x, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-40]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    # PyTorch keeps its least denominator, 1e-12, in float32.
    check_like_torch(*both("binary_cross_entropy", reduction="none"), x, t, rtol=1e-7)
    single = x.astype("float32"), t.astype("float32")
    check_like_torch(*both("binary_cross_entropy", reduction="none"), *single, rtol=1e-6)


def test_logits_do_not_overflow():
    x = np.array([800.0, -800.0, 800.0, -800.0, np.nan, 0.0])
    check_like_torch(*both("binary_cross_entropy_with_logits", reduction="none"), x, np.array([1.0, 0, 0, 1, 1, 0.5]))


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


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_halves_are_rounded_once(dtype, reduction):
    x, t = normal(30, 7).astype(dtype), np.random.default_rng(1).integers(0, 7, 30)
    second, p = normal(30, 7, seed=1).astype(dtype), shares(30, 7, seed=1).astype(dtype)
    eps = float(ml_dtypes.finfo(dtype).eps)
    for name, target, options in (
        ("cross_entropy", t, {"label_smoothing": 0.1}),
        ("nll_loss", t, {}),
        ("mse_loss", second, {}),
        ("l1_loss", second, {}),
        ("smooth_l1_loss", second, {}),
        ("huber_loss", second, {}),
        ("binary_cross_entropy_with_logits", p, {}),
    ):
        ours, theirs = both(name, reduction=reduction, **options)
        mine, exact = tensor(x, requires_grad=True), as_torch(x.astype("float64"), True)
        y = ours(mine, target)
        expected = theirs(exact, as_torch(target.astype("float64") if target is not t else t))
        want = to_numpy(expected)
        assert y.dtype == np.dtype(dtype)
        # Sums of 210 terms in float32: measured worst case 0.11 of a bound.
        assert_within(y.data, want, eps * abs(want) + 1e-7 * 15 * (abs(want) + 1))
        (dx,) = grad(y, mine, tensor(np.ones(y.shape, y.dtype)))
        (dwant,) = torch.autograd.grad(expected, exact, torch.ones_like(expected))
        assert dx.dtype == np.dtype(dtype)
        smallest = float(ml_dtypes.finfo(dtype).smallest_subnormal)  # a mean over 210 in float16 comes near it
        assert_within(
            dx.data, to_numpy(dwant), eps * abs(to_numpy(dwant)) + 2e-6 * abs(to_numpy(dwant)).max() + smallest
        )


def test_storage_changes_nothing():
    x, t = normal(6, 5), np.random.default_rng(1).integers(0, 5, 6)
    for storage, stored in storages(x):
        np.testing.assert_allclose(F.cross_entropy(stored, t), F.cross_entropy(x, t), rtol=1e-14, err_msg=storage)
        np.testing.assert_allclose(F.mse_loss(stored, x + 1), F.mse_loss(x, x + 1), rtol=1e-14, err_msg=storage)
    for storage, stored in storages(t):
        np.testing.assert_array_equal(F.cross_entropy(x, stored), F.cross_entropy(x, t), err_msg=storage)


def test_arrays_in_arrays_out_tensors_in_tensors_out():
    x, t, w = normal(6, 5), np.arange(6) % 5, shares(5)
    assert type(F.cross_entropy(x, t, w)) is np.ndarray
    for arguments in ((tensor(x), t, w), (x, tensor(t), w), (x, t, tensor(w))):
        assert isinstance(F.cross_entropy(*arguments), Tensor)
    assert type(F.mse_loss(x, x)) is np.ndarray
    assert isinstance(F.mse_loss(x, tensor(x, requires_grad=True)), Tensor)


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


@pytest.mark.parametrize("dtype, kernel", [("float32", "_exp_single"), ("float64", "_exp_double")])
def test_exponentials_are_within_two_units_in_the_last_place(dtype, kernel):
    x = np.concatenate([np.linspace(-800, 0, 40_000), np.linspace(-1, 1, 20_000), [-np.inf, np.nan]]).astype(dtype)
    function = getattr(loss_kernels, kernel)
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
        (lambda: F.mse_loss(X, X[:, :1]), ShapeError, r"mse_loss: target: got \[3, 1\], expected \[3, 4\]"),
        (lambda: F.mse_loss(X, X.astype("float32")), DTypeError, "mse_loss: target: got float32"),
        (lambda: F.mse_loss(X, 1.0), DTypeError, "mse_loss: target: got float"),
        (lambda: F.mse_loss(X.astype(int), X.astype(int)), DTypeError, "mse_loss: input: got int64"),
        (lambda: F.l1_loss(X, X, "average"), ShapeError, "l1_loss: reduction: got 'average'"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ShapeError, "smooth_l1_loss: beta: got -1"),
        (lambda: F.huber_loss(X, X, delta=0), ShapeError, "huber_loss: delta: got 0"),
        (lambda: F.huber_loss(X, X, delta="a"), DTypeError, "huber_loss: delta"),
        (lambda: F.binary_cross_entropy(X, X), ShapeError, "binary_cross_entropy: input: got"),
        (lambda: F.binary_cross_entropy(shares(3), shares(3), shares(4)), ShapeError, "weight"),
        (lambda: F.binary_cross_entropy(shares(3), shares(3), shares(2, 3)), ShapeError, "weight"),
        (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ShapeError, "binary_cross_entropy_with_logits: target"),
        (lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=X[:2]), ShapeError, "pos_weight"),
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
