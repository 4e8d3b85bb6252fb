"""Elementwise functions: PyTorch's values, dtypes, gradients and refusals; the same however arrays are stored."""

import itertools
import weakref

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.tolerance import assert_within, bound
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, same_dtype, to_numpy, torch

HALVES = ["float16", ml_dtypes.bfloat16]
FLOATS = [*HALVES, "float32", "float64"]
DTYPES = ["bool", "uint8", "int32", "int64", *FLOATS]
UNARY = ["abs", "cos", "erf", "exp", "expm1", "log", "log1p", "neg", "reciprocal", "rsqrt", "sigmoid", "sin", "sqrt",
         "square", "tanh"]  # fmt: skip
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
# No finite differences across the kink of abs, and none where a logarithm or root ends.
SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), ()), ((), (2, 2)), ((0, 3), (3,)), ((), ())]
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, np.inf, -np.inf, np.nan])


def positive(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.3, 2.0, shape)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 2), (40000,)])
def test_unary_is_pytorchs(name, shape):
    check_like_torch(getattr(F, name), getattr(torch, name), positive(*shape))


@pytest.mark.parametrize("name", UNARY)
def test_unary_derivatives(name):
    check_gradients(getattr(F, name), positive(4, 3))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unary_takes_special_values_as_pytorch(name, dtype):
    x = SPECIAL.astype(dtype)
    mine, other = tensor(x, requires_grad=True), as_torch(x, True)
    y, expected = getattr(F, name)(mine), getattr(torch, name)(other)
    np.testing.assert_allclose(y.data, to_numpy(expected), rtol=1e-6, atol=1e-7)
    (dx,) = grad(y, mine, tensor(np.ones_like(x)))
    (want,) = torch.autograd.grad(expected, other, torch.ones_like(expected))
    np.testing.assert_allclose(dx.data, to_numpy(want), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_is_rounded_once(name, dtype):
    x = positive(7, 6).astype(dtype)
    exact = x.astype("float64")
    mine, wide = tensor(x, requires_grad=True), as_torch(exact, True)
    y, expected = getattr(F, name)(mine), getattr(torch, name)(wide)
    want = to_numpy(expected)
    # Measured worst case: 0.44 of a bound.
    assert_within(y.data, want, bound(want, abs(want) + 1, 1, dtype, 1))
    (dx,) = grad(y, mine, tensor(np.ones_like(x)))
    (dwant,) = torch.autograd.grad(expected, wide, torch.ones_like(wide))
    # A rule that reads the result reads it rounded, so that 1 - y * y of tanh is off by eps_out of 1.
    # Measured worst case: 0.92 of a bound.
    assert_within(dx.data, to_numpy(dwant), float(ml_dtypes.finfo(dtype).eps) * (4 * abs(to_numpy(dwant)) + 1))
    assert y.dtype == dx.dtype == np.dtype(dtype)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_unary_of_integers(name, dtype):
    x = np.array([1, 0, 1, 1], dtype)
    if dtype == "bool" and name in ("neg", "abs", "square"):  # PyTorch squares bools, to int64
        with pytest.raises(DTypeError):
            getattr(F, name)(x)
        return
    y, expected = getattr(F, name)(x), getattr(torch, name)(torch.from_numpy(x))
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-6)
    assert same_dtype(y, expected)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_binary_is_pytorchs(name, shapes):
    arrays = [positive(*shape, seed=i) for i, shape in enumerate(shapes)]
    check_like_torch(getattr(F, name), getattr(torch, name), *arrays)
    check_gradients(getattr(F, name), *arrays)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("number", [2, 0.5, -1.5, 0, True, 3])
def test_binary_with_a_number_is_pytorchs(name, number):
    if name == "sub" and number is True:
        with pytest.raises(DTypeError, match="sub"):
            F.sub(positive(3, 4), number)
        return

    def theirs(x):
        return getattr(torch, name)(x, number if name not in ("maximum", "minimum") else torch.tensor(float(number)))

    def theirs_reflected(x):
        if name in ("maximum", "minimum"):
            return theirs(x)
        value = torch.tensor(number, dtype=x.dtype)
        return getattr(torch, name)(value, x)

    check_like_torch(lambda x: getattr(F, name)(x, number), theirs, positive(3, 4))
    check_like_torch(lambda x: getattr(F, name)(number, x), theirs_reflected, positive(3, 4))


@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS])
@pytest.mark.parametrize("first", DTYPES, ids=str)
@pytest.mark.parametrize("zero_dim", [False, True])
def test_dtypes_mix_as_in_pytorch(name, first, zero_dim):
    a = np.array([1, 1, 0]).astype(first)
    for second in DTYPES:
        b = np.array(1).astype(second) if zero_dim else np.array([1, 0, 1]).astype(second)
        other = as_torch(a), as_torch(b)
        try:
            expected = getattr(torch, name)(*other)
        except RuntimeError:
            with pytest.raises(DTypeError):
                getattr(F, name)(a, b)
            continue
        y = getattr(F, name)(a, b)
        assert same_dtype(y, expected), (a.dtype, b.dtype, y.dtype, expected.dtype)
        np.testing.assert_array_equal(y.astype("float64"), to_numpy(expected).astype("float64"))


@pytest.mark.parametrize("name", ["add", "mul", "div", "maximum"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("number", [True, 2, 0.5, np.float64(0.5), np.float32(0.5), np.int64(2)], ids=repr)
def test_numbers_promote_nothing(name, dtype, number):
    x = np.array([1, 0, 1]).astype(dtype)
    python = number.item() if isinstance(number, np.generic) else number
    if name == "maximum":
        expected = torch.result_type(as_torch(x), python)
    else:
        expected = getattr(torch, name)(as_torch(x), python).dtype
    y = getattr(F, name)(x, number)
    assert y.dtype.name == str(expected).removeprefix("torch.")


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient_and_nan_gives_it_to_both(name):
    a, b = (np.array(list(v)) for v in zip(*itertools.product([0.0, 1.0, np.inf, np.nan], repeat=2), strict=True))
    check_like_torch(getattr(F, name), getattr(torch, name), a, b)


@pytest.mark.parametrize("name", ["pow", "div", "mul"])
def test_binary_takes_special_values_as_pytorch(name):
    pairs = itertools.product(SPECIAL[:8], SPECIAL[:8])
    a, b = (np.array(list(v)) for v in zip(*pairs, strict=True))
    check_like_torch(getattr(F, name), getattr(torch, name), a, b)


def test_integers_to_a_negative_power_are_refused():
    with pytest.raises(DTypeError, match="pow"):
        F.pow(np.arange(3), -1)
    np.testing.assert_array_equal(F.pow(np.arange(3), 2), [0, 1, 4])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", BINARY)
def test_gradients_of_halves_are_rounded_once(name, dtype):
    a, b = positive(5, 4).astype(dtype), positive(4, seed=1).astype(dtype)
    dy = positive(5, 4, seed=2).astype(dtype)
    mine = [tensor(v, requires_grad=True) for v in (a, b)]
    other = [as_torch(v.astype("float64"), True) for v in (a, b)]
    y = getattr(F, name)(*mine)
    want = torch.autograd.grad(getattr(torch, name)(*other), other, as_torch(dy.astype("float64")))
    for got, expected in zip(grad(y, mine, tensor(dy)), want, strict=True):
        expected = to_numpy(expected)
        assert got.dtype == np.dtype(dtype)
        # Measured worst case: 0, the rounding of the exact gradient.
        assert_within(got.data, expected, bound(expected, abs(expected) + 1, 5, dtype, 1))


@pytest.mark.parametrize("limits", [(0.5, None), (None, 0.7), (-0.2, 0.6), (2, 1), (0, 0)])
def test_clamp_is_pytorchs(limits):
    x = np.random.default_rng(0).standard_normal((4, 5))
    x[0] = [limits[0] or 0, limits[1] or 0, np.nan, np.inf, -np.inf]
    check_like_torch(lambda x: F.clamp(x, *limits), lambda x: torch.clamp(x, *limits), x)


def test_clamp_by_arrays_is_pytorchs():
    values = itertools.product([0.0, 1.0, 2.0, np.nan], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    x, low, high = (np.array(v) for v in zip(*values, strict=True))
    check_like_torch(F.clamp, torch.clamp, x, low, high)
    check_like_torch(lambda x, low: F.clamp(x, low), lambda x, low: torch.clamp(x, low), x, low)
    check_like_torch(lambda x, high: F.clamp(x, max=high), lambda x, high: torch.clamp(x, max=high), x, high)
    # PyTorch 2.13 fails on the gradients of limits that have more axes than the input.
    check_gradients(F.clamp, positive(3, 1), positive(4, seed=1), positive(2, 1, 1, seed=2))


def test_clamp_of_integers():
    assert F.clamp(np.arange(4), 1, 2).dtype == np.int64
    y = F.clamp(np.arange(4), 1.5)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [1.5, 1.5, 2, 3])
    with pytest.raises(ShapeError, match="clamp"):
        F.clamp(np.arange(4))


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), ()), ((4,), (3, 4), (2, 1, 1))], ids=str)
def test_where_is_pytorchs(shapes):
    condition = np.random.default_rng(0).random(shapes[0]) < 0.5
    arrays = [positive(*s, seed=i) for i, s in enumerate(shapes[1:])]
    check_like_torch(F.where, torch.where, condition, *arrays)
    check_gradients(lambda x, w: F.where(condition, x, w), *arrays)


def test_where_with_numbers_is_pytorchs():
    condition = np.array([True, False])
    for pair in ((1.0, 0.0), (1, 0), (1, 0.5), (True, False)):
        y, expected = F.where(condition, *pair), torch.where(torch.from_numpy(condition), *pair)
        np.testing.assert_array_equal(y, expected.numpy())
        assert same_dtype(y, expected)
    check_like_torch(lambda x: F.where(condition, x, 2), lambda x: torch.where(torch.from_numpy(condition), x, 2),
                     positive(3, 2))  # fmt: skip


def test_where_stops_what_it_did_not_choose():
    """A gradient of infinity times 0 would be NaN."""
    x = tensor(np.array([0.0, 1.0]), requires_grad=True)
    y = F.where(x.data > 0, F.log(x), 0.0)
    (dx,) = grad(y.sum(), x)
    np.testing.assert_array_equal(dx.data, [np.nan, 1.0])  # 0 / 0, as in PyTorch: the gradient of log itself
    y = F.where(np.array([True, False]), x, x * np.inf)
    (dx,) = grad(y, x, tensor(np.array([1.0, np.inf])))
    assert dx.data[0] != dx.data[0] or dx.data[0] == 1.0


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_are_pytorchs(name):
    a, b = (np.array(v) for v in zip(*itertools.product([0.0, 1.0, np.nan, np.inf], repeat=2), strict=True))
    y = getattr(F, name)(tensor(a, requires_grad=True), b)
    assert y.dtype == bool and not y.requires_grad
    np.testing.assert_array_equal(y.data, getattr(torch, name)(as_torch(a), as_torch(b)).numpy())
    assert type(getattr(F, name)(a, 0.5)) is np.ndarray
    np.testing.assert_array_equal(getattr(F, name)(a, 0.5), getattr(torch, name)(as_torch(a), 0.5).numpy())


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite", "sign", "bitwise_not"])
@pytest.mark.parametrize("dtype", ["bool", "int64", *FLOATS], ids=str)
def test_tests_are_pytorchs(name, dtype):
    x = np.array([0, 1, 1]).astype(dtype) if np.dtype(dtype).kind in "bi" else SPECIAL.astype(dtype)
    if (name, dtype) == ("sign", "bool") or (name == "bitwise_not" and dtype in FLOATS):
        with pytest.raises(DTypeError):
            getattr(F, name)(x)
        return
    expected = getattr(torch, name)(as_torch(x))
    y = getattr(F, name)(x)
    assert same_dtype(y, expected)
    want = to_numpy(expected)
    np.testing.assert_array_equal(y.astype("float64"), want.astype("float64"))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bitwise_is_pytorchs(name):
    for dtype in ("bool", "int64"):
        a, b = np.array([0, 1, 1, 0]).astype(dtype), np.array([0, 1, 0, 1]).astype(dtype)
        check_like_torch(getattr(F, name), getattr(torch, name), a, b)
    with pytest.raises(DTypeError):
        getattr(F, name)(np.ones(2), np.ones(2))


def test_cast():
    x = tensor(positive(3), requires_grad=True)
    y = F.cast(x, "float16")
    assert y.dtype == np.float16
    assert F.cast(y, "float16") is y
    y.backward(np.array([1, 2, 3], "float16"))
    assert x.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.data, [1, 2, 3])
    assert not F.cast(x, "int32").requires_grad
    assert F.cast(positive(3), "bfloat16").dtype.name == "bfloat16"
    check_gradients(lambda v: F.cast(F.cast(v, "float64"), "float64") ** 2, positive(3))
    for wrong in ("float8", None, "complex64", object, "U3", 7):
        with pytest.raises(DTypeError, match="cast"):
            F.cast(x, wrong)


@pytest.mark.parametrize("function", [F.exp, F.square, F.sigmoid, lambda x: F.add(x, x), lambda x: F.clamp(x, 0.5, 1)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_storage_changes_no_result_and_no_argument(function, dtype):
    for shape in ((2, 3, 4, 5), (20, 3, 17, 33)):  # the second in blocks
        x = positive(*shape).astype(dtype)
        want = function(x)
        (dwant,) = grad(function(mine := tensor(x, requires_grad=True)).sum(), mine)
        for name, stored in storages(x):
            before = stored.tobytes()
            mine = tensor(stored, requires_grad=True)
            y = function(mine)
            np.testing.assert_array_equal(y.data, want, err_msg=name)
            np.testing.assert_array_equal(grad(y.sum(), mine)[0].data, dwant.data, err_msg=name)
            assert y.dtype == want.dtype and y.dtype.isnative
            assert stored.tobytes() == before
        broadcast = np.broadcast_to(x[:1], x.shape)
        np.testing.assert_array_equal(function(broadcast), function(broadcast.copy()))


def test_the_result_keeps_channels_last():
    x = np.moveaxis(positive(2, 30, 40, 16), -1, 1)
    for y in (F.exp(x), F.add(x, 1), F.mul(x, x), F.clamp(x, 0.5), F.relu(x)):
        assert np.moveaxis(y, 1, -1).flags.c_contiguous


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.exp([1.0]), DTypeError, "exp: input: got list"),
        (lambda: F.exp("a"), DTypeError, "exp: input: got str"),
        (lambda: F.exp(2.0), DTypeError, "exp: input: got float"),
        (lambda: F.exp(None), DTypeError, "exp: input: got NoneType"),
        (lambda: F.exp(np.array([None])), DTypeError, "exp: input: got object"),
        (lambda: F.exp(np.ones(2, "complex64")), DTypeError, "exp: input: got complex64"),
        (lambda: F.exp(np.ma.ones(2)), DTypeError, "exp: input"),
        (lambda: F.add(1, 2), DTypeError, "add: input: got numbers only"),
        (lambda: F.add(np.ones(2), "b"), DTypeError, "add: other: got str"),
        (lambda: F.add(np.ones(2), [1.0]), DTypeError, "add: other: got list"),
        (lambda: F.add(np.ones(2), 1j), DTypeError, "add: other: got complex"),
        (lambda: F.add(np.ones(2), np.array(["b"])), DTypeError, "add: other"),
        (lambda: F.add(np.ones((2, 3)), np.ones((3, 2))), ShapeError, r"\[2, 3\] and \[3, 2\]"),
        (lambda: F.add(np.ones(2, "uint8"), 300), DTypeError, "add: other: got 300"),
        (lambda: F.sub(np.ones(2, bool), np.ones(2, bool)), DTypeError, "sub: input, other: got bool"),
        (lambda: F.add(np.ones(2, "uint64"), np.ones(2, "int8")), DTypeError, "add"),
        (lambda: F.where(np.ones(2), 1.0, 0.0), DTypeError, "where: condition: got float64"),
        (lambda: F.where(np.ones(2, bool), np.ones(3), 0.0), ShapeError, r"\[2\] and \[3\]"),
        (lambda: F.clamp(np.ones(2), "a"), DTypeError, "clamp: min: got str"),
        (lambda: F.clamp(np.ones(2), np.ones(3)), ShapeError, "clamp"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_operators_of_tensors_are_these_functions():
    a, b = positive(3, 4), positive(4, seed=1)
    x, w = tensor(a), tensor(b)
    for got, want in (
        (x + w, a + b), (x + 1, a + 1), (1 + x, 1 + a), (a + w, a + b), (x - b, a - b), (1 - x, 1 - a), (a - w, a - b),
        (x * 2, a * 2), (2 * x, a * 2), (x / w, a / b), (2 / x, 2 / a), (a / w, a / b), (-x, -a), (abs(-x), a),
        (x**2, a**2), (2**x, 2**a), (x**w, a**b), (a**w, a**b), (x < 1, a < 1), (x > 1, a > 1), (x == w, a == b),
        (x != w, a != b), (x >= w, a >= b), (~(x > 1), ~(a > 1)), ((x > 1) & (x < 2), (a > 1) & (a < 2)),
        ((x > 1) | (a < 0.5), (a > 1) | (a < 0.5)), (True ^ (x > 1), ~(a > 1)), (np.float32(2) * x, a * 2),
    ):  # fmt: skip
        assert isinstance(got, Tensor)
        np.testing.assert_array_equal(got.data, want)
    for wrong in (lambda: x + "a", lambda: [1.0] * x, lambda: x / None, lambda: x < "a"):
        with pytest.raises(TypeError):
            wrong()
    assert x.__eq__(None) is NotImplemented
    assert len({x, w, x}) == 2


def test_only_what_a_gradient_reads_may_not_change():
    a, b = positive(3), positive(3, seed=1)
    x = tensor(a, requires_grad=True)
    y = x * b
    a += 1  # no gradient of b is wanted
    y.backward(np.ones(3))
    np.testing.assert_array_equal(x.grad.data, b)
    y = x * b
    b += 1
    with pytest.raises(GraphError, match="mul"):
        y.backward(np.ones(3))
    for function in (lambda v: v + b, lambda v: v - 1, lambda v: F.exp(v), lambda v: -v, lambda v: F.relu(v)):
        x = tensor(a, requires_grad=True)
        y = function(x)
        a += 1
        y.backward(np.ones(3))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
def test_large_halves_are_rounded_as_by_numpy(name, dtype):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((3, 5000)).astype(dtype) for _ in "xw")
    x[0, :4], w[1, :4] = [np.nan, np.inf, -np.inf, 0], [np.inf, np.nan, 0, -0.0]
    function, ours = (
        getattr(np, {"sub": "subtract", "mul": "multiply", "div": "divide"}.get(name, name)),
        getattr(F, name),
    )
    number = np.asarray(0.5, dtype)
    with np.errstate(all="ignore"):
        for a, b in ((x, w), (x.T, w.T), (x, number), (number, w)):
            y, expected = ours(a, b), function(a, b)
            assert y.dtype == expected.dtype
            np.testing.assert_array_equal(y.astype("float32"), expected.astype("float32"))
            if a.ndim:
                assert y.strides == a.strides


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_large_arrays_are_combined_as_numpy_combines_them(name, dtype):
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal((4, 9, 130, 131)).astype(dtype) for _ in range(2))
    x[0, 0, 0, :4], w[0, 0, 0, :4] = (np.inf, np.nan, 0, -0.0), (np.inf, 1, 0, 0)
    numpys = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    with np.errstate(all="ignore"):
        views = [lambda a: a, lambda a: a.transpose(0, 2, 3, 1), lambda a: a[1:], lambda a: a[..., ::2]]
        for a, b in [(view(x), view(w)) for view in views]:
            y, expected = getattr(F, name)(a, b), numpys(a, b)
            assert np.array_equal(y, expected, equal_nan=True) and y.dtype == expected.dtype
            signs = np.isnan(expected) | (np.signbit(y) == np.signbit(expected))
            assert signs.all()


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "exp"])
def test_a_function_whose_gradient_reads_the_result_lets_go_of_its_input(name):
    x = tensor(np.ones(3), requires_grad=True) * 2
    alive = weakref.ref(x)
    y = getattr(F, name)(x)
    del x
    assert alive() is None and y.requires_grad
