"""Losses: PyTorch's values, gradients, NaN and refusals, for every reduction; one rounding for halves."""

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.cpu import elementwise_functions
from fastconv.cpu.threads import num_threads
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
    ("kl_div", {}),
    ("kl_div", {"log_target": True}),
    ("poisson_nll_loss", {}),
    ("gaussian_nll_loss", {"var": 0.7, "full": True}),
]
POSITIVE = [  # of expectations and counts
    ("poisson_nll_loss", {"full": True}),
    ("poisson_nll_loss", {"log_input": False, "eps": 0.25}),
    ("poisson_nll_loss", {"log_input": False, "full": True}),
]
ADVICE = "ignore:reduction. 'mean' divides"


@pytest.mark.filterwarnings(ADVICE)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name, options", PAIRS, ids=str)
@pytest.mark.parametrize("lead", [(3,), (2, 3), (0, 3)], ids=str)
def test_pairs_are_pytorchs(name, options, reduction, lead):
    target = shares if "cross" in name or "kl" in name else normal
    ours, theirs = both(name, **options, reduction=reduction)
    x, t = normal(*lead, 4), target(*lead, 4, seed=1)
    check_like_torch(ours, theirs, x, t)
    if x.size:
        check_gradients(ours, x, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name, options", POSITIVE, ids=str)
def test_poisson_of_expectations_is_pytorchs(name, options, reduction):
    ours, theirs = both(name, **options, reduction=reduction)
    x, t = shares(3, 4), shares(3, 4, seed=1) * 4
    check_like_torch(ours, theirs, x, t)
    check_gradients(ours, x, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(3, 4), (3, 1), (3,), (1, 4)], ids=str)
def test_gaussian_is_pytorchs(shape, reduction):
    x, t, var = normal(3, 4), normal(3, 4, seed=1), shares(*shape, seed=2)
    var.flat[0] = 0.005  # less than eps
    options = {"reduction": reduction, "eps": 0.01}
    check_like_torch(
        lambda *v: F.gaussian_nll_loss(*v, **options), lambda *v: T.gaussian_nll_loss(*v, **options), x, t, var
    )
    check_gradients(lambda *v: F.gaussian_nll_loss(*v, **options), x, t, shares(*shape, seed=2) + 0.1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_margin_is_pytorchs(reduction):
    ours, theirs = both("soft_margin_loss", reduction=reduction)
    x, t = normal(3, 4), 1 - 2 * np.random.default_rng(1).integers(0, 2, (3, 4))
    check_like_torch(ours, theirs, x, t)
    check_gradients(lambda v: ours(v, t), x)
    check_like_torch(ours, theirs, x, t[:1])  # broadcast without a warning
    special = np.array([1e3, -1e3, np.nan, np.inf, -np.inf, 0.0])
    check_like_torch(ours, theirs, special, np.ones(6, int))


@pytest.mark.filterwarnings(ADVICE)
@pytest.mark.parametrize("shape", [(4, 3), (), (0, 3)], ids=str)
@pytest.mark.parametrize("log_target", [False, True])
def test_batchmean_is_pytorchs(shape, log_target):
    ours, theirs = both("kl_div", reduction="batchmean", log_target=log_target)
    check_like_torch(ours, theirs, np.asarray(normal(*shape)), np.asarray(shares(*shape)))


def test_divergences_from_zeros_are_pytorchs():
    x, t = np.array([-1.0, -np.inf, 0.5, 1.0]), np.array([0.0, 0.0, 0.25, -1.0])
    check_like_torch(*both("kl_div", reduction="none"), x, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_pairs_are_pytorchs(name, reduction):
    def call(library):
        return lambda x, t, w: getattr(library, name)(x, t, reduction=reduction, weight=w)

    x, t, w = normal(3, 4), normal(3, 4, seed=1), shares(3, 4, seed=2)
    check_like_torch(call(F), call(T), x, t, w)
    check_gradients(call(F), x, t, w)


BROADCAST = "ignore:.* differs from the input size", "ignore:Using a target size"
PROMOTING = [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss",
    "binary_cross_entropy_with_logits",
]  # fmt: skip


@pytest.mark.filterwarnings(ADVICE, *BROADCAST)
@pytest.mark.parametrize("name", PROMOTING)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_operands_of_two_dtypes_are_pytorchs(name, reduction):
    ours, theirs = both(name, reduction=reduction)
    for first, second in (("float32", "float64"), ("float64", "float32"), ("float16", "float32"), ("float32", "int64")):
        if second == "int64" and name in ("kl_div", "binary_cross_entropy_with_logits"):
            continue
        x, t = shares(3, 4).astype(first), (shares(3, 4, seed=1) * 2).astype(second)
        y, expected = ours(x, t), theirs(as_torch(x), as_torch(t))
        assert y.dtype.name == str(expected.dtype).removeprefix("torch.")
        np.testing.assert_allclose(y, to_numpy(expected), rtol=2e-3 if "16" in first else 1e-6)
        if name != "huber_loss" and ("int" in second or name != "soft_margin_loss"):  # PyTorch has no gradient
            check_like_torch(ours, theirs, x, t, rtol=2e-2 if "16" in first else 1e-5, atol=1e-4)


@pytest.mark.filterwarnings(ADVICE, *BROADCAST)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss"])
def test_shapes_that_broadcast_are_pytorchs(name):
    for first, second in (((3, 4), (4,)), ((3, 1), (3, 4)), ((3, 4), ()), ((3,), (3, 1))):
        x, t = (
            normal(3, 4)[tuple(slice(n) for n in (3, *first)[-2:])].reshape(-1)[: np.prod(first, dtype=int)],
            shares(12),
        )
        x, t = x.reshape(first), t[: np.prod(second, dtype=int)].reshape(second)
        for reduction in REDUCTIONS:
            check_like_torch(*both(name, reduction=reduction), x, np.asarray(t))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_broadcasting_is_warned_of(name):
    with pytest.warns(UserWarning, match="differs from the input size"):
        getattr(F, name)(X, X[:, :1])


OLDER = [(a, r) for a in (None, True, False) for r in (None, True, False) if (a, r) != (None, None)]


@pytest.mark.parametrize("average, reduce", OLDER)
@pytest.mark.parametrize("name", ["mse_loss", "kl_div", "binary_cross_entropy", "poisson_nll_loss", "nll_loss"])
def test_the_older_spelling_of_reduction_is_pytorchs(name, average, reduce):
    ours, theirs = both(name, size_average=average, reduce=reduce)
    x, t = shares(3, 4), np.array([0, 3, 1]) if name == "nll_loss" else shares(3, 4, seed=1)
    with pytest.warns(UserWarning, match="size_average and reduce args will be deprecated"):
        y = ours(x, t)
        expected = theirs(as_torch(x), as_torch(t))
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12)
    with pytest.warns(UserWarning, match="elementwise_mean"):
        F.mse_loss(x, x, reduction="elementwise_mean")


def test_absolute_differences_of_integers_are_pytorchs():
    x, t = np.arange(6).reshape(2, 3), np.array([[4, 0, 1]])
    for reduction in ("sum", "none"):
        with pytest.warns(UserWarning, match="size"):
            expected = T.l1_loss(torch.from_numpy(x), torch.from_numpy(t), reduction=reduction)
        y = F.l1_loss(x, t, reduction=reduction)
        np.testing.assert_array_equal(y, expected.numpy())
        assert y.dtype == np.int64


@pytest.mark.parametrize(
    "name, function", [("mse_loss", "square"), ("binary_cross_entropy_with_logits", "entropy_of_logits")]
)
def test_sums_do_not_depend_on_threads_and_are_exact_enough(name, function):
    x, t = normal(3, 70_001).astype("float32"), shares(3, 70_001, seed=1).astype("float32")
    with num_threads(1):
        alone = getattr(F, name)(x, t, reduction="sum")
    with num_threads(2):
        assert getattr(F, name)(x, t, reduction="sum").tobytes() == alone.tobytes()
    exact = getattr(F, name)(x.astype("float64"), t.astype("float64"), reduction="sum")
    assert abs(alone - exact) < 2e-6 * exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logarithms_are_within_three_units_in_the_last_place(dtype):
    log, log1p = elementwise_functions.functions(dtype).log, elementwise_functions.functions(dtype).log1p_wide
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    low, high = np.log(float(info.smallest_subnormal)) + 1, np.log(float(info.max)) - 1
    spread = np.exp(rng.uniform(low, high, 4000).astype(np.longdouble))
    x = np.concatenate([spread, rng.uniform(0.5, 2, 4000), 1 + rng.standard_normal(1000) * 1e-5]).astype(dtype)
    for function, exact, values in ((log, np.log, x), (log1p, np.log1p, np.concatenate([x, -x[x < 1]]))):
        y = np.array([function(v) for v in values], dtype)
        expected = exact(values.astype(np.longdouble))
        unit = np.spacing(np.maximum(abs(expected).astype(dtype), info.smallest_normal))
        assert (abs(y - expected) <= 3 * unit).all()
    special = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.array([log(v) for v in special]), np.log(special))
        np.testing.assert_array_equal(np.array([log1p(v) for v in special]), np.log1p(special))


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


X = normal(3, 4)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.mse_loss(X, X[:2]), ShapeError, r"mse_loss: input and target: got \[3, 4\] and \[2, 4\]"),
        (lambda: F.mse_loss(X, 1.0), DTypeError, "mse_loss: target: got float"),
        (lambda: F.mse_loss(X.astype(int), X.astype(int)), DTypeError, "mse_loss: input: got int64"),
        (lambda: F.l1_loss(X, X, reduction="average"), ShapeError, "l1_loss: reduction: got 'average'"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ShapeError, "smooth_l1_loss: beta: got -1"),
        (lambda: F.huber_loss(X, X, delta=0), ShapeError, "huber_loss: delta: got 0"),
        (lambda: F.huber_loss(X, X, delta="a"), DTypeError, "huber_loss: delta"),
        (
            lambda: F.huber_loss(tensor(X, requires_grad=True), X.astype("f4")).backward(),
            DTypeError,
            "huber_loss: target",
        ),
        (lambda: F.soft_margin_loss(tensor(X, requires_grad=True), X > 0).backward(), DTypeError, "soft_margin_loss"),
        (lambda: F.mse_loss(X > 0, X, weight=X), DTypeError, "mse_loss: input: got bool"),
        (lambda: F.poisson_nll_loss(X > 0, X, log_input=False), DTypeError, "poisson_nll_loss: input"),
        (lambda: F.huber_loss(X.astype(int), X), DTypeError, "huber_loss: input"),
        (lambda: F.l1_loss(X, X > 0), DTypeError, "l1_loss: target: got bool"),
        (lambda: F.l1_loss(X.astype(int), X.astype(int)), DTypeError, "l1_loss: input: got integers"),
        (lambda: F.mse_loss(X, X, weight=X[0]), ShapeError, "mse_loss: weight"),
        (lambda: F.kl_div(X, X.astype(int), reduction="sum"), DTypeError, "kl_div: target: got int64"),
        (lambda: F.kl_div(X, X, reduction=3), ShapeError, "kl_div: reduction"),
        (lambda: F.mse_loss(X, X, reduction="batchmean"), ShapeError, "mse_loss: reduction"),
        (lambda: F.poisson_nll_loss(X, X, eps="a"), DTypeError, "poisson_nll_loss: eps"),
        (lambda: F.soft_margin_loss(X, tensor(X, requires_grad=True)), DTypeError, "soft_margin_loss: target"),
        (lambda: F.soft_margin_loss(X[0], X), ShapeError, "soft_margin_loss: target"),
        (lambda: F.gaussian_nll_loss(X, X, -1.0), ShapeError, "gaussian_nll_loss: var"),
        (lambda: F.gaussian_nll_loss(X, X, -abs(X)), ShapeError, "gaussian_nll_loss: var"),
        (lambda: F.gaussian_nll_loss(X, X, abs(X[0])), ShapeError, "gaussian_nll_loss: var"),
        (lambda: F.gaussian_nll_loss(X, X, 1), DTypeError, "gaussian_nll_loss: var"),
        (lambda: F.binary_cross_entropy(shares(3), shares(3) + 2), ShapeError, "binary_cross_entropy: target: got"),
        (lambda: F.binary_cross_entropy(shares(3) * np.nan, shares(3)), ShapeError, "binary_cross_entropy: input: got"),
        (
            lambda: F.binary_cross_entropy(shares(3), shares(3), tensor(shares(3), requires_grad=True)),
            DTypeError,
            "binary_cross_entropy: weight",
        ),
        (lambda: F.binary_cross_entropy(shares(3), shares(3), shares(4)), ShapeError, "weight"),
        (lambda: F.binary_cross_entropy(shares(3), shares(3), shares(2, 3)), ShapeError, "weight"),
        (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ShapeError, "binary_cross_entropy_with_logits: target"),
        (lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=X[:2]), ShapeError, "pos_weight"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
