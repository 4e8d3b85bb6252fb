"""Pooling on every backend that serves NumPy arrays: PyTorch's results, indices and gradients, and every refusal."""

import inspect
import itertools
import re

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import nn, reference
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window
from tests.storage import assert_same, storages

torch = pytest.importorskip("torch", reason="PyTorch is the specification of these functions")

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.31 of a bound

SIZES = {1: (13,), 2: (9, 7), 3: (5, 6, 4)}
# kernel_size, stride, padding, dilation, ceil_mode: an int, or three of which each rank takes the first
WINDOWS = [
    (2, None, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 2, 1, 1, True),
    (1, 1, 0, 1, False),
    (1, 3, 0, 1, True),
    (2, 5, 1, 1, True),
    ((3, 2, 4), (1, 3, 2), (1, 0, 2), 1, True),
    (2, 1, 1, 2, False),
    ((2, 3, 2), (2, 1, 3), 0, (4, 2, 1), True),
]
UNDILATED = [w for w in WINDOWS if w[3] == 1]
ADAPTIVE = [1, (3, 2, 3), (None, 3, 2), (13, 7, 4), (20, 11, 5)]


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def engine(request):
    """Every test runs on each backend."""
    with fastconv.use_backend(request.param):
        yield request.param


def function(stem, rank, module=F):
    return getattr(module, f"{stem}_pool{rank}d")


def of_rank(values, rank):
    return tuple(v[:rank] if isinstance(v, tuple) else v for v in values)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def with_ties(*shape):
    """Few distinct values, so that many windows hold their maximum more than once; NaNs and infinities too."""
    x = np.random.default_rng(5).integers(-2, 2, shape).astype(float)
    x.flat[::17], x.flat[3::11], x.flat[5::13] = np.nan, -np.inf, np.inf
    return x


def leaf(array):
    return fastconv.tensor(array, requires_grad=True)


def torch_leaf(array):
    return torch.tensor(array, requires_grad=True)


def check_max(ours, theirs, x, arguments):
    """Values, indices and gradient of a max pooling are PyTorch's."""
    mine, other = leaf(x), torch_leaf(x)
    y, indices = ours(mine, *arguments, return_indices=True)
    expected, expected_indices = theirs(other, *arguments, return_indices=True)
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    np.testing.assert_array_equal(indices.numpy(), expected_indices.numpy())
    assert indices.dtype == np.int64
    assert not indices.requires_grad
    alone = ours(mine, *arguments)
    np.testing.assert_array_equal(alone.detach().numpy(), expected.detach().numpy())
    dy = normal(*y.shape, seed=1)
    y.backward(dy)
    expected.backward(torch.from_numpy(dy))
    scale = reference.pool_scatter(abs(dy), expected_indices.numpy(), x.shape[2:])
    assert_within(mine.grad.numpy(), other.grad.numpy(), bound(other.grad, scale, dy[0, 0].size, "float64", C))


def check_linear(ours, theirs, x, arguments, length):
    """Values and gradient of an average pooling are PyTorch's, and so is the gradient's gradient."""
    mine, other = leaf(x), torch_leaf(x)
    y, expected = ours(mine, *arguments), theirs(other, *arguments)
    scale = abs(theirs(torch.from_numpy(abs(x)), *arguments).numpy())
    want = expected.detach().numpy()
    assert_within(y.detach().numpy(), want, bound(want, scale, length, "float64", C))

    dy, ddx = normal(*y.shape, seed=1), normal(*x.shape, seed=2)
    my_dy = leaf(dy)
    (dx,) = fastconv.grad(y, mine, my_dy, create_graph=True)
    (want,) = torch.autograd.grad(expected, other, torch.from_numpy(dy), retain_graph=True)
    (scale,) = torch.autograd.grad(expected, other, torch.from_numpy(abs(dy)))
    assert_within(dx.detach().numpy(), want.numpy(), bound(want, abs(scale.numpy()), length, "float64", C))

    (ddy,) = fastconv.grad(dx, my_dy, fastconv.tensor(ddx))  # pooling is linear: its transpose transposed
    want = theirs(torch.from_numpy(ddx), *arguments).numpy()
    scale = abs(theirs(torch.from_numpy(abs(ddx)), *arguments).numpy())
    assert_within(ddy.numpy(), want, bound(want, scale, length, "float64", C))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("values", [normal, with_ties])
def test_max_pool_is_pytorchs(rank, window, values):
    x = values(2, 3, *SIZES[rank])
    check_max(function("max", rank), function("max", rank, torch.nn.functional), x, of_rank(window, rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("output_size", ADAPTIVE)
@pytest.mark.parametrize("values", [normal, with_ties])
def test_adaptive_max_pool_is_pytorchs(rank, output_size, values):
    if rank == 1 and isinstance(output_size, tuple) and output_size[0] is None:
        output_size = (13,)  # torch's adaptive_max_pool1d knows no None
    x = values(2, 3, *SIZES[rank])
    name = "adaptive_max"
    check_max(function(name, rank), function(name, rank, torch.nn.functional), x, of_rank([output_size], rank))


@pytest.mark.parametrize("rank, divisor", [(1, None), (2, None), (2, 5), (3, None), (3, -2)])
@pytest.mark.parametrize("window", UNDILATED)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_is_pytorchs(rank, divisor, window, count_include_pad):
    kernel, stride, padding, _, ceil_mode = of_rank(window, rank)
    arguments = (kernel, stride, padding, ceil_mode, count_include_pad)
    if rank > 1:  # avg_pool1d has no divisor_override
        arguments += (divisor,)
    theirs = function("avg", rank, torch.nn.functional)
    taps = np.prod(kernel) if isinstance(kernel, tuple) else kernel**rank
    check_linear(function("avg", rank), theirs, normal(2, 3, *SIZES[rank]), arguments, taps)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("output_size", ADAPTIVE)
def test_adaptive_avg_pool_is_pytorchs(rank, output_size):
    if rank == 1 and isinstance(output_size, tuple) and output_size[0] is None:
        output_size = (13,)  # torch's adaptive_avg_pool1d knows no None
    x = normal(2, 3, *SIZES[rank])
    name = "adaptive_avg"
    theirs = function(name, rank, torch.nn.functional)
    # A window holds, and windows hold one element, at most so often.
    length = max(x[0, 0].size, np.prod(theirs(torch.from_numpy(x), *of_rank([output_size], rank)).shape[2:]))
    check_linear(function(name, rank), theirs, x, of_rank([output_size], rank), length)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_indices_come_with_the_maxima_from_functions_of_that_name(rank):
    x = normal(2, 3, *SIZES[rank])
    for stem, arguments in (("max", (3, 2, 1, 1, True)), ("adaptive_max", (3,))):
        ours = getattr(F, f"{stem}_pool{rank}d_with_indices")
        for a, b in zip(ours(x, *arguments), function(stem, rank)(x, *arguments, return_indices=True), strict=True):
            np.testing.assert_array_equal(a, b)
        theirs = getattr(torch.nn.functional, f"{stem}_pool{rank}d_with_indices")
        mine, other = (inspect.signature(f).parameters.values() for f in (ours, theirs))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in other]


def test_every_pooling_layer_of_pytorch_is_here_with_its_parameters():
    names = [name for name in dir(torch.nn) if re.search(r"(Pool|Unpool)\dd$", name)]
    assert len(names) == 20
    for name in names:
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        mine, other = (inspect.signature(cls).parameters.values() for cls in (ours, theirs))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in other], name
        mine, other = (inspect.signature(cls.forward).parameters.values() for cls in (ours, theirs))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in other], name
        arguments = (2, 3) if name.startswith(("LP", "Fractional")) else (2,)
        assert repr(ours(*arguments)) == repr(theirs(*arguments))


def test_the_mean_of_an_empty_axis_is_nan():
    for rank, shape in ((1, (2, 3, 0)), (2, (2, 3, 0, 4)), (2, (3, 0, 4)), (3, (2, 3, 4, 0, 4))):
        x = np.zeros(shape)
        expected = function("adaptive_avg", rank, torch.nn.functional)(torch.from_numpy(x), 1).numpy()
        np.testing.assert_array_equal(function("adaptive_avg", rank)(x, 1), expected)


def test_padding_of_each_side_is_padding_beforehand():
    x = normal(2, 3, 6, 7)
    padding = ((1, 0), (0, 1))
    padded = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=-np.inf)
    np.testing.assert_array_equal(F.max_pool2d(x, 2, 2, padding), F.max_pool2d(padded, 2, 2))
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    y, want = F.avg_pool2d(x, 2, 2, padding), F.avg_pool2d(padded, 2, 2)
    assert_within(y, want, bound(want, F.avg_pool2d(abs(padded), 2, 2), 4, "float64", C))
    ones = np.ones_like(x)
    np.testing.assert_array_equal(F.avg_pool2d(ones, 2, 2, padding, count_include_pad=False), np.ones((2, 3, 3, 4)))


def test_indices_reach_the_gradient_of_the_gradient():
    x, dy, ddx = normal(2, 3, 6, 5), normal(2, 3, 3, 2, seed=1), normal(2, 3, 6, 5, seed=2)
    mine, my_dy, my_ddx = leaf(x), leaf(dy), leaf(ddx)
    y, indices = F.max_pool2d(mine, 2, return_indices=True)
    (dx,) = fastconv.grad(y, mine, my_dy, create_graph=True)
    (ddy,) = fastconv.grad(dx, my_dy, my_ddx, create_graph=True)
    (dddx,) = fastconv.grad(ddy, my_ddx, my_dy, create_graph=True)
    gathered = np.take_along_axis(ddx.reshape(2, 3, 30), indices.numpy().reshape(2, 3, 6), 2).reshape(2, 3, 3, 2)
    np.testing.assert_array_equal(ddy.detach().numpy(), gathered)
    np.testing.assert_array_equal(dddx.detach().numpy(), dx.detach().numpy())


def every_function():
    """(name, call on x [N, 3, 8, 6], products that an element sums, whether it only moves elements)."""
    return [
        ("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), 4, True),
        ("avg_pool2d", lambda x: F.avg_pool2d(x, (3, 2), 2, 1, True, False), 6, False),
        ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (3, 4)), 4, True),
        ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 4)), 9, False),
    ]


def forward_and_gradient(call, x, dy=None):
    mine = leaf(x)
    y = call(mine)
    if dy is None:
        dy = normal(*y.shape, seed=1).astype(x.dtype.newbyteorder("="))
    y.backward(dy)
    return y.detach().numpy(), mine.grad.numpy(), dy


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_the_reference_within_its_rounding(dtype):
    x = normal(2, 3, 8, 6).astype(dtype)
    for _, call, length, moves in every_function():
        y, dx, dy = forward_and_gradient(call, x)
        assert y.dtype == dx.dtype == np.dtype(dtype)
        with fastconv.use_backend("reference"):
            want, dwant, _ = forward_and_gradient(call, x.astype("float64"), dy.astype("float64"))
            scale, _, _ = forward_and_gradient(call, abs(x.astype("float64")))
            # Where the maximum is depends on the sign of x, so that its gradient keeps x and takes |dy|.
            _, dscale, _ = forward_and_gradient(call, x.astype("float64"), abs(dy.astype("float64")))
        if moves:
            np.testing.assert_array_equal(y, want.astype(dtype))
        else:
            assert_within(y, want, bound(want, scale, length, dtype, C))
        assert_within(dx, dwant, bound(dwant, dscale, length, dtype, C))


@pytest.mark.parametrize("dtype", DTYPES)
def test_storage_changes_no_result_and_no_argument(dtype):
    x = normal(2, 3, 8, 6).astype(dtype)
    for name, call, _, _ in every_function():
        want, dwant, dy = forward_and_gradient(call, x)
        for (storage, stored), (_, stored_dy) in zip(storages(x), storages(dy), strict=True):
            before = stored.tobytes()
            if stored_dy.dtype.isnative:  # an incoming gradient has the dtype of the result
                dy = stored_dy
            y, dx, _ = forward_and_gradient(call, stored, dy)
            assert_same(y, want, storage, name)
            assert_same(dx, dwant, storage, name)
            assert y.dtype == want.dtype and y.dtype.isnative
            assert stored.tobytes() == before


def test_the_result_keeps_channels_last(engine):
    if engine == "reference":
        pytest.skip("the reference always gives C order")
    x = np.moveaxis(normal(2, 8, 6, 3).astype("float32"), -1, 1)
    for name, call, _, _ in every_function():
        y, dx, _ = forward_and_gradient(call, x)
        assert np.moveaxis(y, 1, -1).flags.c_contiguous, name
        assert dx.shape == x.shape


@pytest.mark.parametrize("batch, channels", [(0, 3), (2, 1)])
def test_sizes_zero_and_one(batch, channels):
    for _, call, _, _ in every_function():
        y, dx, _ = forward_and_gradient(call, normal(batch, channels, 8, 6).astype("float32"))
        assert y.shape[:2] == (batch, channels)
        assert dx.shape == (batch, channels, 8, 6)
    for stem in ("max", "avg"):
        for rank in (1, 2, 3):
            x = normal(batch, channels, *(1,) * rank)
            np.testing.assert_array_equal(function(stem, rank)(x, 1), x)
            np.testing.assert_array_equal(function(f"adaptive_{stem}", rank)(x, 1), x)


def test_an_adaptive_pool_to_nothing_is_empty():
    assert F.adaptive_avg_pool2d(normal(2, 3, 4, 5), (0, 2)).shape == (2, 3, 0, 2)
    y, indices = F.adaptive_max_pool2d(normal(2, 3, 4, 5), (0, 2), return_indices=True)
    assert y.shape == indices.shape == (2, 3, 0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_reaches_its_windows_and_nothing_else(value):
    x = normal(1, 1, 6, 6)
    finite = F.avg_pool2d(x, 2)
    x[0, 0, 2, 3] = value
    y = F.avg_pool2d(x, 2)
    reached = np.zeros(y.shape, bool)
    reached[0, 0, 1, 1] = True
    np.testing.assert_array_equal(y[reached], [value])
    np.testing.assert_array_equal(y[~reached], finite[~reached])


def test_sums_of_halves_do_not_overflow():
    x = np.full((1, 1, 4, 4), 60000, "float16")
    assert (F.avg_pool2d(x, 4) == 60000).all()
    assert (F.adaptive_avg_pool2d(x, 1) == 60000).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stem", ["max", "avg", "adaptive_max", "adaptive_avg"])
def test_without_a_batch(rank, stem):
    x = normal(3, *SIZES[rank])
    pool = function(stem, rank)
    batched = pool(x[None], 2)
    np.testing.assert_array_equal(pool(x, 2), batched[0])
    if stem.endswith("max"):
        y, indices = pool(leaf(x), 2, return_indices=True)
        np.testing.assert_array_equal(indices.numpy(), pool(x[None], 2, return_indices=True)[1][0])
    else:
        y = pool(leaf(x), 2)
    mine = leaf(x)
    pool(mine, 2).backward(np.ones(y.shape))
    assert mine.grad.shape == x.shape


def test_arrays_in_arrays_out_tensors_in_tensors_out():
    x = normal(1, 2, 4, 4)
    for _, call, _, _ in every_function():
        assert type(call(x)) is np.ndarray
        assert isinstance(call(fastconv.tensor(x)), fastconv.Tensor)
        assert not call(fastconv.tensor(x)).requires_grad
        assert call(leaf(x)).requires_grad
    assert all(type(a) is np.ndarray for a in F.max_pool2d(x, 2, return_indices=True))
    assert all(isinstance(a, fastconv.Tensor) for a in F.max_pool2d(leaf(x), 2, return_indices=True))


def test_a_stride_left_out_is_the_kernel():
    x = normal(1, 1, 7, 7)
    for stride in (None, (), []):
        np.testing.assert_array_equal(F.max_pool2d(x, 3, stride), F.max_pool2d(x, 3, 3))
        np.testing.assert_array_equal(F.avg_pool2d(x, 3, stride), F.avg_pool2d(x, 3, 3))


def test_indices_changed_in_place_are_noticed():
    x = leaf(normal(1, 1, 4, 4))
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    indices.data[...] = 0
    with pytest.raises(GraphError, match="max_pool2d: graph"):
        y.backward(np.ones(y.shape))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_exactly_the_windows_without_an_element_are_refused(size):
    x = normal(1, 1, size)
    for kernel, dilation, stride, before, after, ceil_mode in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2, 3), (0, 1), (0, 1), (False, True)
    ):
        arguments = kernel, stride, ((before, after),), dilation, ceil_mode
        try:
            window = Window.pool("max_pool1d", x, *arguments, 1)
        except ShapeError:
            continue  # refused for another reason
        if (reference.max_pool_forward(x, window)[1] < 0).any():
            with pytest.raises(ShapeError, match="max_pool1d: dilation"):
                F.max_pool1d(x, *arguments)
        else:
            assert np.isfinite(F.max_pool1d(x, *arguments)).all()


def images(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.max_pool2d([[1.0]], 2), DTypeError, "max_pool2d: input"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4, dtype="bool"), 2), DTypeError, "max_pool2d: input: got bool"),
        (lambda: F.max_pool1d(images(1, 1, 4, dtype="int64"), 2), DTypeError, "max_pool1d: input: got int64"),
        (lambda: F.max_pool2d(images(2, 0, 4, 4), 2), ShapeError, "max_pool2d: input"),
        (lambda: F.max_pool1d(images(0, 4), 2), ShapeError, "max_pool1d: input"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, ceil_mode=1), DTypeError, "max_pool2d: ceil_mode"),
        (lambda: F.avg_pool3d(images(2, 0, 4, 4, 4), 2), ShapeError, "avg_pool3d: input"),
        (lambda: F.avg_pool3d(images(1, 1, 4, 4, 2), 3, padding=1), ShapeError, "avg_pool3d: kernel_size"),
        (lambda: F.avg_pool2d(images(1, 1, 4, 4), 2, ceil_mode=None), DTypeError, "avg_pool2d: ceil_mode"),
        (lambda: F.avg_pool1d(images(1, 1, 4), 2, count_include_pad=1), DTypeError, "avg_pool1d: count_include_pad"),
        (lambda: F.avg_pool2d(images(1, 1, 4, 4), 2, divisor_override=True), DTypeError, "divisor_override"),
        (lambda: F.adaptive_avg_pool2d(images(1, 1, 4, 4), None), DTypeError, "adaptive_avg_pool2d: output_size"),
        (lambda: F.adaptive_max_pool1d(images(1, 1, 4), (None,)), DTypeError, "adaptive_max_pool1d: output_size"),
        (lambda: F.adaptive_avg_pool2d(images(1, 1, 0, 4), (1, 2)), ShapeError, "adaptive_avg_pool2d: input"),
        (lambda: F.adaptive_avg_pool3d(images(1, 0, 2, 2, 2), 2), ShapeError, "adaptive_avg_pool3d: input"),
        (lambda: F.adaptive_max_pool2d(images(1, 0, 4, 4), 1), ShapeError, "adaptive_max_pool2d: input"),
        (lambda: F.max_pool2d(images(4, 4), 2), ShapeError, "max_pool2d: input: got 2 axes"),
        (lambda: F.max_pool3d(images(1, 1, 4), 2), ShapeError, "max_pool3d: input: got 3 axes"),
        (lambda: F.max_pool1d(images(1, 1, 4, 4), 2), ShapeError, "max_pool1d: input: got 4 axes"),
        (lambda: F.max_pool2d(images(1, 1, 0, 4), 2), ShapeError, "max_pool2d: input"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 5), ShapeError, "max_pool2d: kernel_size"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 0), ShapeError, "max_pool2d: kernel_size"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2.0), DTypeError, "max_pool2d: kernel_size"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), (2, 2, 2)), ShapeError, "max_pool2d: kernel_size"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, 0), ShapeError, "max_pool2d: stride"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, 1, 2), ShapeError, "max_pool2d: padding"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, 1, -1), ShapeError, "max_pool2d: padding"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, 1, "same"), DTypeError, "max_pool2d: padding"),
        (lambda: F.max_pool2d(images(1, 1, 4, 4), 2, 1, 0, 0), ShapeError, "max_pool2d: dilation"),
        (lambda: F.max_pool2d(images(1, 1, 2, 2), 2, 1, 1, 3), ShapeError, "max_pool2d: dilation"),
        (lambda: F.avg_pool2d(images(1, 1, 4, 4), 2, 1, 2), ShapeError, "avg_pool2d: padding"),
        (lambda: F.avg_pool1d(images(1, 1, 4), 5), ShapeError, "avg_pool1d: kernel_size"),
        (lambda: F.avg_pool2d(images(1, 1, 4, 4), 2, divisor_override=0), ShapeError, "avg_pool2d: divisor_override"),
        (lambda: F.avg_pool3d(images(1, 1, 4, 4, 4), 2, divisor_override=1.5), DTypeError, "divisor_override"),
        (lambda: F.adaptive_avg_pool2d(images(1, 1, 4, 4), -1), ShapeError, "adaptive_avg_pool2d: output_size"),
        (lambda: F.adaptive_avg_pool2d(images(1, 1, 4, 4), 2.5), DTypeError, "adaptive_avg_pool2d: output_size"),
        (lambda: F.adaptive_avg_pool2d(images(1, 1, 4, 4), (1, 2, 3)), ShapeError, "adaptive_avg_pool2d: output_size"),
        (lambda: F.adaptive_max_pool2d(images(1, 1, 0, 4), 1), ShapeError, "adaptive_max_pool2d: input"),
        (lambda: F.adaptive_max_pool2d(images(4, 4), 1), ShapeError, "adaptive_max_pool2d: input: got 2 axes"),
        (lambda: F.adaptive_max_pool1d(images(1, 2, 3, dtype="int32"), 1), DTypeError, "adaptive_max_pool1d: input"),
    ],
)
def test_refusals_name_the_function_and_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
