"""Layer, group and instance normalisation: PyTorch's results, gradients, running statistics and refusals."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.tolerance import assert_within, bound, group_norm_scales
from tests.gradients import check_gradients
from tests.storage import assert_same, storages
from tests.witness import as_torch, to_numpy

torch = pytest.importorskip("torch", reason="PyTorch is the specification of these functions")

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.44 of a bound
# Function, its second argument, shape of input, shape of weight
CALLS = [
    ("layer_norm", (7,), (7,), (7,)),
    ("layer_norm", [5], (3, 4, 5), (5,)),
    ("layer_norm", (3, 2), (4, 3, 2), (3, 2)),
    ("layer_norm", (2, 3, 2), (2, 3, 2), (2, 3, 2)),
    ("group_norm", 2, (3, 4), (4,)),
    ("group_norm", 3, (2, 6, 5), (6,)),
    ("group_norm", 1, (2, 3, 4, 3), (3,)),
    ("group_norm", 4, (2, 4, 2, 3, 2), (4,)),
    ("instance_norm", None, (2, 3, 7), (3,)),
    ("instance_norm", None, (3, 2, 4, 5), (2,)),
    ("instance_norm", None, (1, 2, 2, 3, 2), (2,)),
]


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def engine(request):
    """Every test runs on each backend."""
    with fastconv.use_backend(request.param):
        yield request.param


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def problem(shape, parameters, dtype="float64"):
    """x, dy, w and b; x has a mean far from 0."""
    arrays = normal(*shape) + 3, normal(*shape, seed=1), normal(*parameters, seed=2), normal(*parameters, seed=3)
    return [a.astype(dtype) for a in arrays]


def called(library, function, second, x, w, b, **keywords):
    """The function of fastconv.functional or torch.nn.functional."""
    if function != "instance_norm":
        return getattr(library, function)(x, second, w, b, **keywords)
    return library.instance_norm(x, weight=w, bias=b, **keywords)


def leaf(array):
    return fastconv.tensor(array, requires_grad=True)


def scales_of(function, second, x, dy, w, b, eps=1e-5):
    groups = {"layer_norm": 1, "group_norm": second, "instance_norm": x.shape[1] if x.ndim > 1 else None}[function]
    shape = x.shape
    if function == "layer_norm":
        length = w.size
        x, dy = (a.reshape(-1, length) for a in (x, dy))
        w, b = w.reshape(-1), b.reshape(-1)
    grouped = x.reshape(x.shape[0], groups, -1)
    y, dx, dw, db = group_norm_scales(dy, x, grouped.mean(axis=2), grouped.var(axis=2), groups, w, b, eps)
    return y.reshape(shape), dx.reshape(shape), dw, db


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affine, eps", [(True, 1e-5), (False, 0.25)])
def test_results_and_gradients_are_pytorchs(call, dtype, affine, eps):
    function, second, shape, parameters = call
    x, dy, w, b = problem(shape, parameters, dtype)
    scales = scales_of(function, second, *(a.astype("float64") for a in (x, dy, w, b)), eps)
    theirs = [torch.tensor(a, requires_grad=True) for a in ((x, w, b) if affine else (x,))]
    mine = [leaf(t.detach().numpy().copy()) for t in theirs]
    results = []
    for library, leaves, incoming in ((torch.nn.functional, theirs, torch.tensor(dy)), (F, mine, dy)):
        y = called(library, function, second, leaves[0], *(leaves[1:] or (None, None)), eps=eps)
        y.backward(incoming)
        results.append([y.detach().numpy(), *(t.grad.numpy() for t in leaves)])
    for want, got, scale in zip(*results, scales, strict=False):
        assert got.dtype == want.dtype
        want = want.astype("float64")
        assert_within(got, want, bound(want, scale.reshape(want.shape), x.size, dtype, C))


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_derivatives_are_those_of_differences(call, affine):
    function, second, shape, parameters = call
    x, _, w, b = problem(shape, parameters)
    arrays = (x, w, b) if affine else (x,)
    check_gradients(lambda x, w=None, b=None: called(F, function, second, x, w, b, eps=0.1), *arrays, tolerance=1e-5)


@pytest.mark.parametrize("call", [CALLS[1], CALLS[5], CALLS[9]], ids=str)
def test_second_derivatives_are_pytorchs(call):
    function, second, shape, parameters = call
    x, dy, w, b = problem(shape, parameters)
    weights = normal(*shape, seed=4), normal(*parameters, seed=5), normal(*parameters, seed=6)

    def twice(library, tensor, grad):
        leaves, incoming = [tensor(a) for a in (x, w, b)], tensor(dy)
        first = grad(called(library, function, second, *leaves), leaves, incoming, create_graph=True)
        loss = sum((g * plain).sum() for g, plain in zip(first, weights, strict=True))
        return [*first, *grad(loss, [incoming, *leaves[:2]])]

    weights = [fastconv.tensor(a) for a in weights]
    mine = twice(F, leaf, fastconv.grad)
    weights = [torch.tensor(a.numpy()) for a in weights]
    theirs = twice(torch.nn.functional, lambda a: torch.tensor(a, requires_grad=True), torch.autograd.grad)
    for got, want in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", [CALLS[2], CALLS[5], CALLS[9]], ids=str)
def test_the_recorded_gradient_is_the_fused_one(call, dtype):
    function, second, shape, parameters = call
    x, dy, w, b = problem(shape, parameters, dtype)
    scales = scales_of(function, second, *(a.astype("float64") for a in (x, dy, w, b)))
    gradients = []
    for create_graph in (True, False):
        leaves = [leaf(a) for a in (x, w, b)]
        y = called(F, function, second, *leaves)
        assert y.dtype == np.dtype(dtype)
        gradients.append(fastconv.grad(y, leaves, fastconv.tensor(dy), create_graph=create_graph))
    for composed, fused, scale in zip(*gradients, scales[1:], strict=True):
        assert composed.dtype == fused.dtype == np.dtype(dtype)
        want = fused.detach().numpy().astype("float64")
        limit = bound(want, scale.reshape(want.shape), x.size, dtype, C)
        assert_within(composed.detach().numpy(), want, 2 * limit)


@pytest.mark.parametrize("momentum", [0.1, 1.0])
@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 2, 3)])
def test_running_statistics_are_pytorchs(shape, momentum):
    x, _, w, b = problem(shape, (shape[1],))
    mean, variance = normal(shape[1], seed=7), normal(shape[1], seed=8) ** 2 + 0.5
    theirs = torch.tensor(mean), torch.tensor(variance)
    keywords = dict(momentum=momentum)
    want = torch.nn.functional.instance_norm(torch.tensor(x), *theirs, *map(torch.tensor, (w, b)), True, **keywords)
    running = fastconv.tensor(mean), variance
    got = F.instance_norm(x, *running, w, b, True, **keywords)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mean, theirs[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(variance, theirs[1].numpy(), rtol=1e-12)
    want = torch.nn.functional.instance_norm(torch.tensor(x), *theirs, *map(torch.tensor, (w, b)), False)
    got = F.instance_norm(x, mean, variance, w, b, use_input_stats=False)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-10, atol=1e-10)


def test_derivatives_by_running_statistics_are_those_of_differences():
    x, _, w, b = problem((3, 2, 4), (2,))
    mean, variance = normal(2, seed=7), normal(2, seed=8) ** 2 + 0.5
    check_gradients(
        lambda x, w, b: F.instance_norm(x, mean, variance, w, b, use_input_stats=False), x, w, b, tolerance=1e-5
    )


@pytest.mark.parametrize("call", [CALLS[2], CALLS[5], CALLS[9]], ids=str)
@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_weight_and_bias_of_halves_may_be_float32(call, dtype):
    function, second, shape, parameters = call
    x, dy, w, b = problem(shape, parameters, "float32")
    narrow = [a.astype(dtype) for a in (x, dy)]
    leaves = [leaf(narrow[0]), leaf(w), leaf(b)]
    y = called(F, function, second, *leaves)
    y.backward(narrow[1])
    theirs = [as_torch(a, requires_grad=True) for a in (narrow[0], w, b)]
    expected = called(torch.nn.functional, function, second, *theirs)
    expected.backward(as_torch(narrow[1]))
    assert (y.dtype, *(v.grad.dtype for v in leaves)) == (narrow[0].dtype, narrow[0].dtype, w.dtype, b.dtype)
    tolerance = 4 * float(ml_dtypes.finfo(dtype).eps)
    for got, want in ((y.data, expected), *((m.grad.data, t.grad) for m, t in zip(leaves, theirs, strict=True))):
        want = to_numpy(want)
        np.testing.assert_allclose(got.astype("float64"), want, rtol=tolerance, atol=tolerance * abs(want).max())


def test_the_variance_may_be_less_than_a_negative_eps():
    x = normal(2, 4, 3)
    for function, second in (("layer_norm", (3,)), ("group_norm", 2), ("instance_norm", None)):
        want = called(torch.nn.functional, function, second, torch.tensor(x), None, None, eps=-0.5).numpy()
        got = called(F, function, second, x, None, None, eps=-0.5)
        assert np.isnan(want).any()
        np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("call", [CALLS[1], CALLS[5], CALLS[9]], ids=str)
def test_storage_changes_no_result_and_no_argument(call):
    function, second, shape, parameters = call
    x, _, w, b = problem(shape, parameters, "float32")
    want = called(F, function, second, x, w, b)
    for (storage, x_), (_, w_), (_, b_) in zip(*map(storages, (x, w, b)), strict=True):
        before = x_.tobytes()
        assert_same(called(F, function, second, x_, w_, b_), want, storage)
        assert x_.tobytes() == before


@pytest.mark.parametrize("function, second", [("group_norm", 3), ("instance_norm", None)])
def test_the_result_keeps_channels_last(engine, function, second):
    if engine == "reference":
        pytest.skip("the reference always gives C order")
    x, dy, w, b = problem((2, 6, 4, 5), (6,), "float32")
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    leaves = [leaf(a) for a in (last, w, b)]
    y = called(F, function, second, *leaves)
    y.backward(np.moveaxis(np.ascontiguousarray(np.moveaxis(dy, 1, -1)), -1, 1))
    for a in (y.detach().numpy(), leaves[0].grad.numpy()):
        assert np.moveaxis(a, 1, -1).flags.c_contiguous


@pytest.mark.parametrize(
    "function, second, shape, parameters",
    [
        ("layer_norm", (5,), (0, 5), (5,)),
        ("layer_norm", (0,), (2, 0), (0,)),
        ("group_norm", 2, (0, 4, 3), (4,)),
        ("group_norm", 2, (2, 4, 0), (4,)),
        ("group_norm", 2, (2, 0, 3), (0,)),
        ("instance_norm", None, (0, 4, 3), (4,)),
        ("instance_norm", None, (2, 4, 0), (4,)),
        ("instance_norm", None, (2, 0, 3), (0,)),
    ],
)
@pytest.mark.parametrize("create_graph", [True, False])
def test_no_values_give_no_result_and_zero_gradients(function, second, shape, parameters, create_graph):
    x, dy, w, b = problem(shape, parameters, "float32")
    leaves = [leaf(a) for a in (x, w, b)]
    y = called(F, function, second, *leaves)
    assert y.shape == shape
    dx, dw, db = fastconv.grad(y, leaves, fastconv.tensor(dy), create_graph=create_graph)
    assert dx.shape == shape
    np.testing.assert_array_equal(dw.detach().numpy(), np.zeros(parameters))
    np.testing.assert_array_equal(db.detach().numpy(), np.zeros(parameters))


def test_no_values_leave_running_statistics_unchanged():
    mean, variance = np.ones(4, "float32"), np.ones(4, "float32")
    F.instance_norm(np.zeros((0, 4, 3), "float32"), mean, variance)
    np.testing.assert_array_equal(mean, np.ones(4))
    np.testing.assert_array_equal(variance, np.ones(4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [CALLS[1], CALLS[5], CALLS[9]], ids=str)
def test_a_value_that_is_not_finite_spoils_what_it_is_normalised_with(call, value):
    function, second, shape, parameters = call
    x, _, w, b = problem(shape, parameters)
    x[(0,) * x.ndim] = value
    want = called(torch.nn.functional, function, second, *map(torch.tensor, (x, w, b))).numpy()
    np.testing.assert_array_equal(np.isnan(called(F, function, second, x, w, b)), np.isnan(want))


def test_a_mean_far_from_zero_costs_no_accuracy_beyond_its_own_rounding():
    x = (normal(4, 600) + 1000).astype("float32")
    want = F.layer_norm(x.astype("float64"), (600,))
    w, b = np.ones(600), np.zeros(600)
    scale, *_ = scales_of("layer_norm", (600,), x.astype("float64"), x, w, b)
    assert_within(F.layer_norm(x, (600,)), want, bound(want, scale, 600, "float32", C))


def test_weight_and_bias_are_optional_one_by_one():
    x, dy, w, b = problem((2, 6, 5), (6,))
    for pair in ((w, None), (None, b)):
        leaves = [None if a is None else leaf(a) for a in (x, *pair)]
        F.group_norm(leaves[0], 3, *leaves[1:]).backward(dy)
        whole = (x, np.ones(6) if pair[0] is None else w, np.zeros(6) if pair[1] is None else b)
        theirs = [torch.tensor(a, requires_grad=True) for a in whole]
        torch.nn.functional.group_norm(theirs[0], 3, *theirs[1:]).backward(torch.tensor(dy))
        for got, want in zip(leaves, theirs, strict=True):
            if got is not None:
                np.testing.assert_allclose(got.grad.numpy(), want.grad.numpy(), rtol=1e-9, atol=1e-9)


def test_arrays_in_arrays_out_tensors_in_tensors_out():
    x, _, w, b = problem((2, 6, 5), (6,))
    for function, second in (("group_norm", 3), ("instance_norm", None)):
        assert type(called(F, function, second, x, w, b)) is np.ndarray
        assert called(F, function, second, x, leaf(w), b).requires_grad
    assert type(F.layer_norm(x, (5,))) is np.ndarray
    assert isinstance(F.layer_norm(fastconv.tensor(x), (5,)), fastconv.Tensor)


def test_an_input_changed_in_place_is_noticed():
    x, dy, w, b = problem((2, 6, 5), (6,))
    y = F.group_norm(leaf(x), 2, w, b)
    x += 1
    with pytest.raises(GraphError, match="group_norm: graph"):
        y.backward(dy)


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def frozen(*shape):
    array = zeros(*shape)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "function, arguments, keywords, error, message",
    [
        ("layer_norm", ([1.0], (1,)), {}, DTypeError, "input"),
        ("layer_norm", (zeros(2, 5, dtype="int32"), (5,)), {}, DTypeError, "input: got int32"),
        ("layer_norm", (zeros(2, 5), 5), {}, DTypeError, "normalized_shape: got int 5"),
        ("layer_norm", (zeros(2, 5), (5.0,)), {}, DTypeError, "normalized_shape"),
        ("layer_norm", (zeros(2, 5), ()), {}, ShapeError, "normalized_shape"),
        ("layer_norm", (zeros(2, 5), (4,)), {}, ShapeError, r"input: got \[2, 5\]"),
        ("layer_norm", (zeros(5), (2, 5)), {}, ShapeError, r"input: got \[5\]"),
        ("layer_norm", (zeros(2, 5), (5,), zeros(4)), {}, ShapeError, r"weight: got \[4\]"),
        ("layer_norm", (zeros(2, 5), (5,), None, zeros(5, dtype="float64")), {}, DTypeError, "bias: got float64"),
        ("layer_norm", (zeros(2, 5), (5,)), dict(eps="small"), DTypeError, "eps"),
        ("group_norm", (zeros(4), 2), {}, ShapeError, "input: got 1 axes"),
        ("group_norm", (zeros(2, 5), 2), {}, ShapeError, "num_groups: got 2, expected .*divides the 5 channels"),
        ("group_norm", (zeros(2, 4), 0), {}, ShapeError, "num_groups: got 0"),
        ("group_norm", (zeros(2, 4), -2), {}, ShapeError, "num_groups: got -2"),
        ("group_norm", (zeros(2, 4), 2.0), {}, DTypeError, "num_groups: got float 2.0"),
        ("group_norm", (zeros(2, 4), True), {}, DTypeError, "num_groups"),
        ("group_norm", (zeros(1, 4), 4), {}, ShapeError, "input: .*more than 1 value"),
        ("group_norm", (zeros(2, 4), 2, zeros(3)), {}, ShapeError, r"weight: got \[3\]"),
        ("group_norm", (zeros(2, 4), 2, zeros(4), zeros(4, dtype="float64")), {}, DTypeError, "bias: got float64"),
        ("group_norm", (zeros(2, 4, dtype="f2"), 2, zeros(4), zeros(4, dtype="f2")), {}, DTypeError, "bias"),
        ("instance_norm", (zeros(4),), {}, ShapeError, "input: got 1 axes"),
        ("instance_norm", (zeros(2, 4),), {}, ShapeError, "input: .*more than 1 value"),
        ("instance_norm", (zeros(2, 4, 1),), {}, ShapeError, "input: .*more than 1 value"),
        ("instance_norm", (zeros(2, 4, 3),), dict(use_input_stats=False), ShapeError, "running_mean: got None"),
        ("instance_norm", (zeros(2, 4, 3), zeros(4)), {}, ShapeError, "running_var: got None"),
        ("instance_norm", (zeros(2, 4, 3), zeros(3), zeros(4)), {}, ShapeError, r"running_mean: got \[3\]"),
        ("instance_norm", (zeros(2, 4, 3), frozen(4), zeros(4)), {}, ShapeError, "running_mean: got a read-only"),
        ("instance_norm", (zeros(2, 4, 3), zeros(4, dtype="float64"), zeros(4)), {}, DTypeError, "running_mean"),
        ("instance_norm", (zeros(2, 4, 3),), dict(weight=zeros(3)), ShapeError, r"weight: got \[3\]"),
        ("instance_norm", (zeros(2, 4, 3),), dict(momentum=None), DTypeError, "momentum"),
    ],
)
def test_refusals_name_the_argument(function, arguments, keywords, error, message):
    with pytest.raises(error, match=f"{function}: {message}"):
        getattr(F, function)(*arguments, **keywords)
