"""Batch normalisation on every backend that serves NumPy arrays: PyTorch's results, gradients, running statistics."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.tolerance import assert_within, batch_norm_scales, bound
from tests.storage import assert_same, storages
from tests.witness import as_torch, to_numpy

torch = pytest.importorskip("torch", reason="PyTorch is the specification of this function")

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.34 of a bound
SHAPES = [(2, 1), (7, 5), (2, 3, 1), (1, 4, 13), (3, 5, 4, 7), (2, 17, 1, 3), (2, 3, 2, 5, 3), (2, 2, 2, 1, 3, 2)]


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def engine(request):
    """Every test runs on each backend."""
    with fastconv.use_backend(request.param):
        yield request.param


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def problem(shape, dtype="float64"):
    """x, dy and, one a channel, running mean, running variance, w, b; x has a mean far from 0."""
    channels = shape[1]
    arrays = [normal(*shape) + 3, normal(*shape, seed=1), normal(channels, seed=2), normal(channels, seed=3) ** 2 + 0.5]
    arrays += [normal(channels, seed=4), normal(channels, seed=5)]
    return [a.astype(dtype) for a in arrays]


def leaf(array):
    return fastconv.tensor(array, requires_grad=True)


def forward_and_gradients(x, dy, mean, variance, w, b, training, momentum=0.1, eps=1e-5):
    """y, dx and, where there are w and b, dw and db."""
    leaves = [leaf(a) for a in (x, w, b) if a is not None]
    parameters = leaves[1:] if w is not None else (None, None)
    y = F.batch_norm(leaves[0], mean, variance, *parameters, training, momentum, eps)
    y.backward(dy)
    return [y.detach().numpy(), *(v.grad.numpy() for v in leaves)]


def scales_of(x, dy, mean, variance, w, b, training, eps=1e-5):
    if training:
        axes = (0, *range(2, x.ndim))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
    return batch_norm_scales(dy, x, mean, variance, w, b, eps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum, eps", [(0.1, 1e-5), (0.75, 0.25)])
def test_results_gradients_and_running_statistics_are_pytorchs(shape, training, affine, momentum, eps):
    x, dy, mean, variance, w, b = problem(shape)
    w, b = (w, b) if affine else (None, None)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, b) if a is not None]
    their_running = [torch.tensor(mean), torch.tensor(variance)]
    parameters = theirs[1:] if affine else (None, None)
    ty = torch.nn.functional.batch_norm(theirs[0], *their_running, *parameters, training, momentum, eps)
    ty.backward(torch.from_numpy(dy))

    count = x.size // shape[1]
    scales = scales_of(x, dy, mean, variance, w, b, training, eps)
    mean_before = mean.copy()
    got = forward_and_gradients(x, dy, mean, variance, w, b, training, momentum, eps)
    for actual, want, scale in zip(got, [ty.detach(), *(v.grad for v in theirs)], scales, strict=False):
        assert_within(actual, want.numpy(), bound(want, scale, count, "float64", C))
    axes = (0, *range(2, x.ndim))
    for actual, want, scale in zip(
        (mean, variance), their_running, (abs(x).mean(axis=axes), x.var(axis=axes) * 2), strict=True
    ):
        assert_within(actual, want.numpy(), bound(want, scale + abs(want.numpy()), count, "float64", C))
    assert (mean != mean_before).all() == training


@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 4), (2, 3, 2, 3)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_second_derivatives_are_pytorchs(shape, training, affine):
    x, dy, mean, variance, w, b = problem(shape)
    ddx = normal(*shape, seed=6)
    arrays = (x, w, b) if affine else (x,)

    def gradients_of_gradients(tensor, batch_norm, grad):
        leaves = [tensor(a) for a in arrays]
        incoming = tensor(dy)
        running = () if training else (mean, variance)
        y = batch_norm(leaves, running)
        first = grad(y, leaves, incoming, True)
        # The gradients do not depend on b, and dx alone only on dy where the statistics are constants.
        inputs = [incoming, *leaves[:2]] if training or affine else [incoming]
        weights = [ddx, normal(shape[1], seed=7), normal(shape[1], seed=8)][: len(first)]
        return [*first, *grad(first, inputs, weights, False)]

    def mine():
        def batch_norm(leaves, running):
            return F.batch_norm(leaves[0], *(running or (None, None)), *leaves[1:], training=training)

        def grad(outputs, inputs, weights, create):
            weights = [fastconv.tensor(a) for a in weights] if isinstance(weights, list) else weights
            return fastconv.grad(outputs, inputs, weights, create_graph=create)

        return gradients_of_gradients(leaf, batch_norm, grad)

    def theirs():
        def batch_norm(leaves, running):
            running = [torch.tensor(a) for a in running] or (None, None)
            return torch.nn.functional.batch_norm(leaves[0], *running, *leaves[1:], training=training)

        def grad(outputs, inputs, weights, create):
            weights = [torch.tensor(a) for a in weights] if isinstance(weights, list) else weights
            return torch.autograd.grad(outputs, inputs, weights, create_graph=create)

        return gradients_of_gradients(lambda a: torch.tensor(a, requires_grad=True), batch_norm, grad)

    for got, want in zip(mine(), theirs(), strict=True):
        want = want.detach().numpy()
        # Three nested sums of at most 12 values of the order of 10: rounding is far below, a wrong term far above.
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-10, atol=1e-10)


def test_eps_may_be_zero_without_training():
    x, _, mean, variance, w, b = problem((3, 2, 4))
    want = torch.nn.functional.batch_norm(*map(torch.from_numpy, (x, mean, variance, w, b)), eps=0.0).numpy()
    scale, *_ = scales_of(x, x, mean, variance, w, b, False, 0.0)
    assert_within(F.batch_norm(x, mean, variance, w, b, eps=0.0), want, bound(want, scale, 1, "float64", C))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 6, 7)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_recorded_gradient_is_the_references(shape, affine, training, dtype):
    x, dy, mean, variance, w, b = problem(shape, dtype)
    w, b = (w, b) if affine else (None, None)
    wide = [None if a is None else a.astype("float64") for a in (x, dy, mean, variance, w, b)]
    scales = scales_of(*wide, training)[1:]
    with fastconv.use_backend("reference"):
        _, *expected = forward_and_gradients(*wide, training)
    leaves = [leaf(a) for a in (x, w, b) if a is not None]
    y = F.batch_norm(leaves[0], mean, variance, *leaves[1:], training=training)
    composed = fastconv.grad(y, leaves, fastconv.tensor(dy), create_graph=True)
    for got, want, scale in zip(composed, expected, scales, strict=False):
        assert got.dtype == np.dtype(dtype)
        assert_within(got.detach().numpy(), want, bound(want, scale, x.size // shape[1], dtype, C))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("running", ["same", "accumulator"])
def test_every_dtype_is_the_reference_within_its_rounding(dtype, training, running):
    x, dy, mean, variance, w, b = problem((3, 5, 6, 7), dtype)
    kept = np.dtype(dtype if running == "same" else "float64" if dtype == "float64" else "float32")
    mean, variance = mean.astype(kept), variance.astype(kept)
    wide = [a.astype("float64") for a in (x, dy, mean, variance, w, b)]
    scales = scales_of(*wide, training)
    with fastconv.use_backend("reference"):
        want = forward_and_gradients(*wide, training)
    got = forward_and_gradients(x, dy, mean, variance, w, b, training)
    for actual, expected, scale in zip(got, want, scales, strict=True):
        assert actual.dtype == np.dtype(dtype)
        assert_within(actual, expected, bound(expected, scale, x[:, 0].size, dtype, C))
    assert mean.dtype == variance.dtype == kept
    for actual, expected in zip((mean, variance), wide[2:4], strict=True):
        assert_within(actual, expected, bound(expected, 10 * abs(expected), x[:, 0].size, kept, C))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_storage_changes_no_result_and_no_argument(dtype, training):
    x, dy, mean, variance, w, b = problem((2, 3, 4, 5), dtype)
    running = mean.copy(), variance.copy()
    want = forward_and_gradients(x, dy, *running, w, b, training)
    for stored in zip(*map(storages, (x, w, b, mean, variance)), strict=True):
        storage, (x_, w_, b_, mean_, variance_) = stored[0][0], [array for _, array in stored]
        if training and storage == "read_only":
            mean_, variance_ = mean.copy(), variance.copy()
        before = x_.tobytes(), w_.tobytes(), b_.tobytes()
        got = forward_and_gradients(x_, dy, mean_, variance_, w_, b_, training)
        for actual, expected in zip(got, want, strict=True):
            assert_same(actual, expected, storage)
            assert actual.dtype == expected.dtype and actual.dtype.isnative
        assert_same(mean_, running[0], storage)
        assert_same(variance_, running[1], storage)
        assert (x_.tobytes(), w_.tobytes(), b_.tobytes()) == before


@pytest.mark.parametrize("training", [True, False])
def test_the_result_keeps_channels_last(engine, training):
    if engine == "reference":
        pytest.skip("the reference always gives C order")
    x, dy, mean, variance, w, b = problem((2, 3, 4, 5), "float32")
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, *_ = forward_and_gradients(x, dy, mean, variance, w, b, training)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 5), (2, 3, 0)])
@pytest.mark.parametrize("training", [True, False])
def test_no_values_give_no_result_zero_gradients_and_unchanged_statistics(shape, training):
    x, dy, mean, variance, w, b = problem(shape, "float32")
    before = mean.copy(), variance.copy()
    leaves = [leaf(a) for a in (x, w, b)]
    y = F.batch_norm(leaves[0], mean, variance, *leaves[1:], training)
    assert y.shape == shape
    for create_graph in (True, False):
        dx, dw, db = fastconv.grad(y, leaves, fastconv.tensor(dy), create_graph=create_graph)
        assert dx.shape == shape
        np.testing.assert_array_equal(dw.detach().numpy(), np.zeros(3))
        np.testing.assert_array_equal(db.detach().numpy(), np.zeros(3))
    np.testing.assert_array_equal(mean, before[0])
    np.testing.assert_array_equal(variance, before[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_spoils_its_channel_in_training_and_itself_otherwise(value):
    x, _, mean, variance, w, b = problem((2, 3, 4))
    x[1, 2, 3] = value
    y = F.batch_norm(x, None, None, w, b, training=True)
    assert np.isnan(y[:, 2]).all()
    assert np.isfinite(y[:, :2]).all()
    y = F.batch_norm(x, mean, variance, w, b)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(x))


def test_a_constant_channel_is_its_bias():
    x = np.full((4, 2, 3), 7.0, "float32")
    b = np.array([0.25, -1.0], "float32")
    y = F.batch_norm(x, None, None, np.ones(2, "float32"), b, training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None], x.shape))


def test_a_mean_far_from_zero_costs_no_accuracy_beyond_its_own_rounding():
    x = (normal(64, 2, 9) + 1000).astype("float32")
    want = F.batch_norm(x.astype("float64"), None, None, training=True)
    exact = x.astype("float64")
    scale, *_ = scales_of(exact, exact, None, None, None, None, True)
    assert_within(F.batch_norm(x, None, None, training=True), want, bound(want, scale, 64 * 9, "float32", C))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_running_statistics_may_be_tensors(momentum):
    x, _, mean, variance, _, _ = problem((3, 2, 4))
    tensors = fastconv.tensor(mean.copy()), fastconv.tensor(variance.copy())
    kept = [t.data for t in tensors]
    F.batch_norm(x, mean, variance, training=True, momentum=momentum)
    y = F.batch_norm(x, *tensors, training=True, momentum=momentum)
    assert type(y) is np.ndarray
    for tensor, data, expected in zip(tensors, kept, (mean, variance), strict=True):
        assert tensor.data is data
        np.testing.assert_array_equal(tensor.data, expected)


@pytest.mark.parametrize("create_graph", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_native_in_byte_order(create_graph, training):
    x, dy, mean, variance, w, b = problem((3, 2, 4), "float32")
    leaves = [leaf(a.astype(a.dtype.newbyteorder())) for a in (x, w, b)]
    y = F.batch_norm(leaves[0], mean, variance, *leaves[1:], training)
    for gradient in fastconv.grad(y, leaves, fastconv.tensor(dy), create_graph=create_graph):
        assert gradient.dtype == np.float32


def test_a_training_pass_leaves_an_earlier_evaluation_differentiable():
    x, dy, mean, variance, w, b = problem((3, 2, 4))
    want = forward_and_gradients(x, dy, mean.copy(), variance.copy(), w, b, False)
    leaves = [leaf(a) for a in (x, w, b)]
    y = F.batch_norm(leaves[0], mean, variance, *leaves[1:])
    F.batch_norm(x, mean, variance, training=True)
    y.backward(dy)
    for tensor, gradient in zip(leaves, want[1:], strict=True):
        np.testing.assert_array_equal(tensor.grad.numpy(), gradient)


def test_an_input_changed_in_place_is_noticed():
    x, dy, *_ = problem((3, 2, 4))
    y = F.batch_norm(leaf(x), None, None, training=True)
    x += 1
    with pytest.raises(GraphError, match="batch_norm: graph"):
        y.backward(dy)


def test_arrays_in_arrays_out_tensors_in_tensors_out():
    x, _, mean, variance, w, b = problem((3, 2, 4))
    assert type(F.batch_norm(x, mean, variance, w, b)) is np.ndarray
    assert type(F.batch_norm(x, mean, variance, w, b, training=True)) is np.ndarray
    assert isinstance(F.batch_norm(fastconv.tensor(x), mean, variance), fastconv.Tensor)
    assert F.batch_norm(x, mean, variance, leaf(w), b).requires_grad
    assert not F.batch_norm(fastconv.tensor(x), mean, variance, w, b).requires_grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("running", ["float16", "float32"])
def test_weight_and_bias_of_halves_may_be_float32(training, running):
    rng = np.random.default_rng(0)
    x, (mean, variance, w, b) = rng.standard_normal((3, 2, 5)).astype("float16"), np.ones((4, 2), "float32")
    running = [a.astype(running) for a in (mean, variance)]
    if running[0].dtype == "float16":  # PyTorch says no as well
        with pytest.raises(DTypeError, match="batch_norm: running_mean: got float16"):
            F.batch_norm(x, *running, w, b, training)
        return
    leaves = [leaf(x), leaf(w), leaf(b)]
    theirs = [as_torch(a, requires_grad=True) for a in (x, w, b)]
    their_running = [as_torch(a) for a in running]
    y = F.batch_norm(leaves[0], *running, *leaves[1:], training)
    expected = torch.nn.functional.batch_norm(theirs[0], *their_running, *theirs[1:], training)
    y.backward(x)
    expected.backward(as_torch(x))
    assert (y.dtype, *(v.grad.dtype for v in leaves)) == (x.dtype, x.dtype, w.dtype, b.dtype)
    pairs = [(y.data, expected), *((m.grad.data, t.grad) for m, t in zip(leaves, theirs, strict=True))]
    for got, want in pairs + list(zip(running, their_running, strict=True)):
        np.testing.assert_allclose(got.astype("float64"), to_numpy(want), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("training", [True, False])
def test_no_image_of_any_number_of_channels(training):
    nothing = np.zeros(0, "float32")
    for running in (nothing, np.ones(3, "float32"), None):
        if running is not None or training:
            y = F.batch_norm(leaf(nothing), running, running, training=training)
            assert y.shape == (0,)
            y.backward(nothing)


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def frozen(*shape):
    array = zeros(*shape)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "arguments, keywords, error, message",
    [
        (([[1.0]], None, None), {}, DTypeError, "input"),
        ((zeros(2, 3, dtype="int32"), None, None), {}, DTypeError, "input: got int32"),
        ((zeros(3), zeros(3), zeros(3)), {}, ShapeError, "input: got 1 axes"),
        ((zeros(1, 3), zeros(3), zeros(3)), dict(training=True), ShapeError, "input: .*more than 1 value a channel"),
        ((zeros(1, 3, 1, 1), None, None), dict(training=True), ShapeError, "input: .*more than 1 value a channel"),
        ((zeros(2, 3), None, None), {}, ShapeError, "running_mean: got None"),
        ((zeros(2, 3), zeros(3), None), {}, ShapeError, "running_var: got None"),
        ((zeros(2, 3), None, zeros(3)), dict(training=True), ShapeError, "running_mean: got None"),
        ((zeros(2, 3), zeros(3), None), dict(training=True), ShapeError, "running_var: got None"),
        ((zeros(2, 3), zeros(2), zeros(3)), {}, ShapeError, r"running_mean: got \[2\]"),
        ((zeros(2, 3), zeros(3), zeros(3, 1)), {}, ShapeError, r"running_var: got \[3, 1\]"),
        ((zeros(2, 3), zeros(3, dtype="float64"), zeros(3)), {}, DTypeError, "running_mean: got float64"),
        ((zeros(2, 3), zeros(3), [1.0, 1.0, 1.0]), {}, DTypeError, "running_var"),
        ((zeros(2, 3), frozen(3), zeros(3)), dict(training=True), ShapeError, "running_mean: got a read-only"),
        ((zeros(2, 3), zeros(3), zeros(3), zeros(2)), {}, ShapeError, r"weight: got \[2\]"),
        ((zeros(2, 3), zeros(3), zeros(3), zeros(3), zeros(1)), {}, ShapeError, r"bias: got \[1\]"),
        ((zeros(2, 3), zeros(3), zeros(3), zeros(3, dtype="float64")), {}, DTypeError, "weight: got float64"),
        ((zeros(2, 3), zeros(3), zeros(3), None, 1.0), {}, DTypeError, "bias"),
        ((zeros(2, 3), zeros(3), zeros(3)), dict(momentum=None), DTypeError, "momentum"),
        ((zeros(2, 3), zeros(3), zeros(3)), dict(eps="small"), DTypeError, "eps"),
        ((zeros(2, 3), zeros(3), zeros(3)), dict(eps=-1e-5), ShapeError, "eps"),
        ((zeros(2, 3), zeros(3), zeros(3)), dict(eps=np.nan), ShapeError, "eps"),
        ((zeros(2, 3), zeros(3), zeros(3)), dict(eps=0.0, training=True), ShapeError, "eps: got 0.0, expected more"),
    ],
)
def test_refusals_name_the_argument_and_change_nothing(arguments, keywords, error, message):
    before = [a.tobytes() for a in arguments if isinstance(a, np.ndarray)]
    with pytest.raises(error, match=f"batch_norm: {message}"):
        F.batch_norm(*arguments, **keywords)
    assert [a.tobytes() for a in arguments if isinstance(a, np.ndarray)] == before
