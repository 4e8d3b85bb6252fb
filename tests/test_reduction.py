"""Reductions: PyTorch's values, dtypes, gradients and refusals, over every choice of axes."""

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.tolerance import assert_within, bound
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, same_dtype, to_numpy, torch

pytestmark = pytest.mark.filterwarnings(r"ignore:(var|std)\(\). degrees of freedom is <= 0:UserWarning")  # PyTorch's

FLOATS = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.93 of a bound
AXES = [None, 0, 1, -1, (0, 1), (2, 0), (-1, -2, 0)]
SMOOTH = ["sum", "mean", "var", "std", "logsumexp", "amax", "amin"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def both(name, **options):
    return (lambda x: getattr(F, name)(x, **options)), (lambda x: getattr(torch, name)(x, **options))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dim", AXES, ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
def test_reduction_is_pytorchs(name, dim, keepdim):
    x = normal(3, 4, 5)
    ours, theirs = both(name, dim=tuple(range(3)) if dim is None else dim, keepdim=keepdim)
    check_like_torch(ours, theirs, x)
    np.testing.assert_array_equal(getattr(F, name)(x, axis=dim, keepdims=keepdim), ours(x))
    check_gradients(ours, x)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min", "all", "any", "argmax", "argmin"])
@pytest.mark.parametrize("shape", [(3, 4), (1,), ()])
def test_reduction_to_one_element_is_pytorchs(name, shape):
    check_like_torch(getattr(F, name), getattr(torch, name), normal(*shape))


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize(
    "options", [{"correction": 0}, {"correction": 2}, {"unbiased": False}, {"correction": 5}], ids=str
)
def test_degrees_of_freedom_are_pytorchs(name, options):
    x = normal(3, 5)
    ours, theirs = both(name, dim=1, **options)
    check_like_torch(ours, theirs, x)


def test_no_spread_has_no_gradient():
    check_like_torch(lambda x: F.std(x, 1), lambda x: torch.std(x, 1), np.ones((2, 3)))
    check_like_torch(lambda x: F.var(x, 1), lambda x: torch.var(x, 1), np.ones((2, 1)))


def test_a_variance_far_from_zero_is_exact():
    x = (normal(1000) + 1e4).astype("float32")
    exact = x.astype("float64")
    want = exact.var(ddof=1)
    assert_within(F.var(x), want, bound(want, ((abs(exact - exact.mean()) + 1e-3) ** 2).mean(), 1000, "float32", 1))


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_extrema_along_an_axis_are_pytorchs(name, dim, keepdim):
    x = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(float)
    x[1, 2] = np.nan
    ours, theirs = both(name, dim=dim, keepdim=keepdim)
    check_like_torch(lambda v: ours(v).values, lambda v: theirs(v).values, x)
    check_like_torch(lambda v: ours(v)[1], lambda v: theirs(v)[1], x)
    y = ours(tensor(x, requires_grad=True))
    assert y.indices.dtype == np.int64 and not y.indices.requires_grad
    check_gradients(lambda v: ours(v)[0], normal(4, 3, 3))


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin"])
def test_equals_share_the_gradient(name):
    x = np.array([1.0, 3.0, 3.0, 0.0, 0.0, 3.0])
    check_like_torch(getattr(F, name), getattr(torch, name), x)
    x[2] = np.nan
    if name in ("max", "min"):
        check_like_torch(getattr(F, name), getattr(torch, name), x)


def test_max_of_two_arrays_is_maximum():
    check_like_torch(F.max, torch.max, normal(3, 4), normal(4, seed=1))
    check_like_torch(F.min, torch.min, normal(3, 4), normal(4, seed=1))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_argument_is_pytorchs(name, dim, keepdim):
    x = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(float)
    x[1, 2] = np.nan
    ours, theirs = both(name, dim=dim, keepdim=keepdim)
    check_like_torch(ours, theirs, x)
    check_like_torch(ours, theirs, x[2:].astype("int64"))


@pytest.mark.parametrize("name", ["all", "any"])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 1)], ids=str)
def test_truth_is_pytorchs(name, dim):
    x = np.random.default_rng(0).random((3, 4)) < 0.7
    x[:, 0], x[1] = True, False
    options = {} if dim is None else {"dim": dim}
    check_like_torch(*both(name, **options), x)
    check_like_torch(*both(name, **options), x.astype("float64"))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_integers_are_pytorchs(dtype):
    x = np.array([[1, 0, 1], [1, 1, 0]]).astype(dtype)
    for options in ({}, {"dim": 1}, {"dim": 0, "keepdim": True}, {"dtype": None}):
        check_like_torch(*both("sum", **options), x)
    if dtype != "bool":
        check_like_torch(F.amax, torch.amax, x)
    for name in ("mean", "var", "std"):
        with pytest.raises(DTypeError, match=name):
            getattr(F, name)(x)
    y, expected = F.sum(x, dtype="float64"), torch.sum(torch.from_numpy(x), dtype=torch.float64)
    assert same_dtype(y, expected) and y == expected.item()
    assert F.mean(x, dtype="float32").dtype == np.float32


def test_infinities_and_nan_are_pytorchs():
    x = np.array([[np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf]])
    for name in ("sum", "mean", "var", "logsumexp", "amax"):
        ours, theirs = both(name, dim=1)
        np.testing.assert_array_equal(ours(x), theirs(as_torch(x)).numpy())
    finite = np.array([[800.0, 801.0], [-1000.0, -999.0], [-np.inf, 1.0]])
    check_like_torch(*both("logsumexp", dim=1), finite)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_nothing_to_reduce(shape):
    x = np.zeros(shape)
    for name in ("sum", "mean", "var", "logsumexp"):
        ours, theirs = both(name, dim=0)
        np.testing.assert_array_equal(ours(x), theirs(as_torch(x)).numpy())
    (dx,) = grad(F.sum(leaf := tensor(x, requires_grad=True)), leaf)
    assert dx.shape == shape
    for name in ("amax", "max", "argmax"):
        if shape[0] == 0:
            with pytest.raises(ShapeError, match=f"{name}: input"):
                getattr(F, name)(x, dim=0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "logsumexp"])
@pytest.mark.parametrize("dim", [0, 1, (0, 1), (0, 2), 2], ids=str)
def test_every_dtype_is_summed_in_its_accumulator(name, dtype, dim):
    x = normal(300, 3, 70).astype(dtype)
    exact = as_torch(x.astype("float64"), True)
    ours, theirs = both(name, dim=dim)
    mine = tensor(x, requires_grad=True)
    y, expected = ours(mine), theirs(exact)
    length = x.size // y.data.size
    scale = {"sum": torch.sum(abs(exact), dim), "mean": torch.mean(abs(exact), dim)}.get(name, abs(expected) + 1)
    want = to_numpy(expected)
    assert y.dtype == np.dtype(dtype)
    assert_within(y.data, want, bound(want, to_numpy(scale), length, dtype, C))
    dy = normal(*y.shape, seed=1).astype(dtype)
    (dx,) = grad(y, mine, tensor(dy))
    (dwant,) = torch.autograd.grad(expected, exact, as_torch(dy.astype("float64")))
    dwant = to_numpy(dwant)
    eps = float(ml_dtypes.finfo(dtype).eps)
    allowed = bound(dwant, abs(dwant) + abs(dwant).mean(), length, dtype, 4)
    if name == "std":
        # Differences from the mean are off by a rounding of x, which matters where they are small beside it.
        keep = [to_numpy(v) for v in (torch.amax(abs(exact), dim, keepdim=True), theirs_kept(name, exact, dim))]
        allowed = allowed + eps * keep[0] / keep[1] * (abs(dwant) + abs(dy_like(dy, keep[1])) / length)
    # Results read by a rule were rounded: off by eps_out times what they scale.
    assert_within(dx.data, dwant, allowed + 8 * eps * abs(dwant))


def theirs_kept(name, exact, dim):
    return getattr(torch, name)(exact, dim=dim, keepdim=True)


def dy_like(dy, kept):
    return dy.astype("float64").reshape(kept.shape)


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((100_000, 3), 0),
        ((50, 2000, 2), (0, 1)),
        ((1000, 4, 999), (0, 2)),
        ((257,), 0),
        ((16, 8, 100, 50), (0, 2, 3)),
        ((3, 100_001), 1),
    ],
    ids=str,
)
def test_a_long_sum_of_equal_terms_stays_accurate(shape, axes):
    """Adding 0.1 to a float32 a hundred thousand times, one after the other, is off by a thousandth."""
    x = np.full(shape, 0.1, "float32")
    count = x.size // F.sum(x, axes).size
    want = np.full(F.sum(x, axes).shape, np.float64(np.float32(0.1)) * count)
    for stored in (x, np.asfortranarray(x), np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)):
        assert_within(F.sum(stored, axes), want, bound(want, want, count, "float32", C))
        assert_within(F.mean(stored, axes), want / count, bound(want / count, want / count, count, "float32", C))


def test_a_sum_is_the_same_every_time():
    x = normal(513, 7, 31).astype("float32")
    first = F.sum(x, (0, 2))
    for _ in range(5):
        np.testing.assert_array_equal(F.sum(x.copy(), (0, 2)), first)


@pytest.mark.parametrize("name", ["sum", "var", "amax", "logsumexp", "argmax"])
def test_storage_changes_no_argument_and_no_result_but_by_rounding(name):
    x = normal(20, 3, 17, 6)
    for dim in (0, 1, (1, 3)) if name != "argmax" else (0, 1):
        want = getattr(F, name)(x, dim)
        for storage, stored in storages(x):
            before = stored.tobytes()
            y = getattr(F, name)(stored, dim)
            np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12, err_msg=storage)
            assert y.dtype == want.dtype and y.dtype.isnative
            assert stored.tobytes() == before


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.sum([1.0]), DTypeError, "sum: input: got list"),
        (lambda x: F.sum(x, 3), ShapeError, "sum: dim: got 3"),
        (lambda x: F.mean(x, -4), ShapeError, "mean: dim: got -4"),
        (lambda x: F.var(x, (0, 0)), ShapeError, "var: dim"),
        (lambda x: F.sum(x, (0, -3)), ShapeError, "sum: dim"),
        (lambda x: F.sum(x, 1.0), DTypeError, "sum: dim: got float"),
        (lambda x: F.sum(x, "a"), DTypeError, "sum: dim: got str"),
        (lambda x: F.sum(x, 0, axis=1), ShapeError, "sum: axis"),
        (lambda x: F.max(x, (0, 1)), DTypeError, "max: dim"),
        (lambda x: F.argmax(x, 5), ShapeError, "argmax: dim: got 5"),
        (lambda x: F.logsumexp(x, 3), ShapeError, "logsumexp: dim"),
        (lambda x: F.var(x, correction="a"), DTypeError, "var: correction"),
        (lambda x: F.sum(x, dtype="text"), DTypeError, "sum: dtype"),
        (lambda x: F.sum(np.array(["a"])), DTypeError, "sum: input"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(2, 3, 4))


def test_methods_are_these_functions():
    x = normal(3, 4)
    t = tensor(x)
    for got, want in (
        (t.sum(), x.sum()), (t.sum(0), x.sum(0)), (t.sum(axis=1, keepdims=True), x.sum(1, keepdims=True)),
        (t.mean(dim=1), x.mean(1)), (t.var(), x.var(ddof=1)), (t.std(unbiased=False), x.std()), (t.max(), x.max()),
        (t.min(1).values, x.min(1)), (t.argmax(), x.argmax()), (t.amax((0, 1)), x.max()), ((t > -9).all(), True),
        ((t > 9).any(), False), (t.mean((0, 1), True), x.mean(keepdims=True)),
    ):  # fmt: skip
        np.testing.assert_allclose(got.data, want, rtol=1e-13)
