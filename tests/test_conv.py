"""The public convolutions: PyTorch's results and gradients, every way to call them, every refusal."""

import importlib

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.errors import DeviceError, DTypeError, ShapeError
from fastconv.window import Window
from tests.gradients import check_gradients

torch = pytest.importorskip("torch", reason="PyTorch is the specification of these functions")

CONV = {1: (F.conv1d, torch.conv1d), 2: (F.conv2d, torch.conv2d), 3: (F.conv3d, torch.conv3d)}
TRANSPOSE = {
    1: (F.conv_transpose1d, torch.conv_transpose1d),
    2: (F.conv_transpose2d, torch.conv_transpose2d),
    3: (F.conv_transpose3d, torch.conv_transpose3d),
}
# rank, channels, filters, size, kernel, stride, padding, dilation, groups
PROBLEMS = [
    (1, 3, 5, (13,), (3,), 1, 1, 1, 1),
    (1, 4, 6, (17,), (4,), 3, 2, 2, 2),
    (2, 1, 1, (1, 1), (1, 1), 1, 0, 1, 1),
    (2, 3, 15, (9, 11), (3, 3), 1, 1, 1, 1),
    (2, 5, 33, (8, 7), (3, 2), (2, 1), (1, 0), 1, 1),
    (2, 8, 16, (9, 9), (1, 1), 2, 0, 1, 1),
    (2, 6, 6, (10, 9), (3, 3), 1, 1, 1, 6),
    (2, 6, 12, (10, 9), (5, 5), 2, 2, 1, 6),
    (2, 6, 4, (12, 9), (3, 3), 4, 2, 2, 2),
    (3, 2, 3, (5, 6, 4), (3, 3, 3), 1, 1, 1, 1),
    (3, 4, 4, (5, 7, 6), (2, 3, 1), (2, 2, 1), (0, 1, 0), 1, 2),
    (3, 3, 3, (5, 7, 6), (3, 3, 3), (1, 2, 2), 1, 1, 3),
]


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def as_torch(*arrays):
    return [torch.from_numpy(np.array(a)).requires_grad_() for a in arrays]


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_conv_and_gradients_are_pytorchs(problem, last):
    rank, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, channels, *size))
    w = rng.standard_normal((filters, channels // groups, *kernel))
    b = rng.standard_normal(filters)
    ours, theirs = CONV[rank]
    expected = theirs(*(inputs := as_torch(x, w, b)), stride, padding, dilation, groups)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.from_numpy(dy))

    tensors = [fastconv.tensor(a, requires_grad=True) for a in (channels_last(x) if last else x, w, b)]
    y = ours(*tensors, stride, padding, dilation, groups)
    y.backward(dy)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-11, atol=1e-11)
    for mine, reference in zip(tensors, inputs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), reference.grad.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_conv_transpose_and_gradients_are_pytorchs(problem):
    rank, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, channels, *size))
    w = rng.standard_normal((channels, filters // groups, *kernel))
    b = rng.standard_normal(filters)
    ours, theirs = TRANSPOSE[rank]
    extra = min(stride) - 1 if isinstance(stride, tuple) else stride - 1
    rest = (stride, padding, extra, groups, dilation)
    try:
        expected = theirs(*(inputs := as_torch(x, w, b)), *rest)
    except RuntimeError:
        with pytest.raises(ShapeError):
            ours(x, w, b, *rest)
        return
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.from_numpy(dy))
    tensors = [fastconv.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = ours(*tensors, *rest)
    y.backward(dy)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-11, atol=1e-11)
    for mine, reference in zip(tensors, inputs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), reference.grad.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("problem", PROBLEMS[::3])
def test_second_derivatives(problem):
    rank, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, channels, *size))
    w = rng.standard_normal((filters, channels // groups, *kernel))
    b = rng.standard_normal(filters)
    check_gradients(lambda x, w, b: CONV[rank][0](x, w, b, stride, padding, dilation, groups), x, w, b)


def test_second_derivatives_of_transposed():
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((2, 4, 5, 4)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(6)
    check_gradients(lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, groups=2), x, w, b)


def test_padding_a_side_is_padding_the_array():
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((2, 3, 7, 8)), rng.standard_normal((4, 3, 3, 3))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1)))
    np.testing.assert_array_equal(F.conv2d(x, w, padding=((1, 2), (0, 1))), F.conv2d(padded, w))
    assert F.conv2d(x, w, padding="same").shape == (2, 4, 7, 8)


def test_transposed_padding_a_side_cuts_the_result():
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((3, 4, 3, 3))
    full = F.conv_transpose2d(x, w, stride=2)
    np.testing.assert_array_equal(F.conv_transpose2d(x, w, stride=2, padding=((1, 0), (2, 1))), full[:, :, 1:, 2:-1])


def test_arrays_give_arrays_and_tensors_tensors():
    x, w = np.ones((1, 2, 4, 4), "f4"), np.ones((3, 2, 3, 3), "f4")
    assert type(F.conv2d(x, w)) is np.ndarray
    assert isinstance(F.conv2d(fastconv.tensor(x), w), fastconv.Tensor)
    y = F.conv2d(x, fastconv.tensor(w, requires_grad=True))
    assert y.requires_grad
    with fastconv.no_grad():
        assert not F.conv2d(x, fastconv.tensor(w, requires_grad=True)).requires_grad


def test_without_a_batch():
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal((3, 6, 5)), rng.standard_normal((4, 3, 3, 3))
    y = F.conv2d(x, w)
    assert y.shape == (4, 4, 3)
    np.testing.assert_array_equal(y, F.conv2d(x[None], w)[0])
    wt = rng.standard_normal((3, 4, 3, 3))
    np.testing.assert_array_equal(F.conv_transpose2d(x, wt), F.conv_transpose2d(x[None], wt)[0])


@pytest.mark.parametrize("groups", [1, 4])
def test_memory_format_is_kept(groups):
    rng = np.random.default_rng(7)
    x = channels_last(rng.standard_normal((2, 4, 6, 5)).astype("f4"))
    w = rng.standard_normal((8, 4 // groups, 3, 3)).astype("f4")
    y = F.conv2d(x, w, groups=groups)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    assert F.conv2d(np.ascontiguousarray(x), w, groups=groups).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype):
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), dtype, dtype))
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal((2, 40, 6, 6)).astype(dtype), rng.standard_normal((5, 40, 3, 3)).astype(dtype)
    y = F.conv2d(x, w, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, F.conv2d(x.astype("f4"), w.astype("f4"), padding=1).astype(dtype))


def test_any_storage_of_the_same_numbers():
    rng = np.random.default_rng(9)
    x, w = rng.standard_normal((2, 4, 6, 7)).astype("f4"), rng.standard_normal((5, 4, 3, 3)).astype("f4")
    expected = F.conv2d(x, w)
    wide = np.zeros((2, 4, 12, 14), "f4")
    wide[:, :, ::2, 1::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for same in (wide[:, :, ::2, 1::2], x[::-1][::-1], np.asfortranarray(x), x.astype(">f4"), frozen, x.copy()[:, :]):
        y = F.conv2d(same, w)
        assert y.dtype == np.dtype("f4")
        np.testing.assert_array_equal(np.ascontiguousarray(y), expected)
    np.testing.assert_array_equal(F.conv2d(x, w.astype(">f4")), expected)
    np.testing.assert_array_equal(F.conv2d(x, np.asfortranarray(w)), expected)
    assert not frozen.flags.writeable
    # A channel taken out of a wider array, and an axis that repeats one element.
    np.testing.assert_array_equal(F.conv2d(np.broadcast_to(x[:, :1], x.shape), w), F.conv2d(x[:, [0] * 4], w))


def test_nothing_in_nothing_out():
    w = np.ones((5, 4, 3, 3), "f4")
    x = fastconv.tensor(np.ones((0, 4, 6, 6), "f4"), requires_grad=True)
    weight = fastconv.tensor(w, requires_grad=True)
    y = F.conv2d(x, weight)
    assert y.shape == (0, 5, 4, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(weight.grad.numpy(), np.zeros_like(w))
    # An empty sum is zero, so what is left is the bias.
    y = F.conv2d(np.ones((2, 0, 6, 6), "f4"), np.ones((5, 0, 3, 3), "f4"), np.arange(5, dtype="f4"))
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(5, dtype="f4")[:, None, None], (2, 5, 4, 4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_nan_and_inf_reach_just_what_sees_them(bad, last, groups):
    rng = np.random.default_rng(10)
    x = rng.standard_normal((1, 3, 12, 20)).astype("f4")
    w = np.abs(rng.standard_normal((6, 3 // groups, 3, 3))).astype("f4")
    x[0, 1, 5, 7] = bad
    expected = torch.conv2d(torch.from_numpy(x), torch.from_numpy(w), None, 1, 1, 1, groups).numpy()
    y = F.conv2d(channels_last(x) if last else x, w, None, 1, 1, 1, groups)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.isposinf(y), np.isposinf(expected))
    np.testing.assert_allclose(y[np.isfinite(y)], expected[np.isfinite(expected)], rtol=1e-5, atol=1e-5)


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(11)
    before = fastconv.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            fastconv.set_num_threads(threads)
            rng = np.random.default_rng(11)
            run = []
            for groups in (1, 2, 24):
                x = fastconv.tensor(rng.standard_normal((3, 24, 31, 33)).astype("f4"), requires_grad=True)
                w = fastconv.tensor(rng.standard_normal((48, 24 // groups, 3, 3)).astype("f4"), requires_grad=True)
                y = F.conv2d(x, w, stride=2, padding=1, groups=groups)
                y.backward(np.cos(y.detach().numpy()))
                run += [y.detach().numpy(), x.grad.numpy(), w.grad.numpy()]
            results.append(run)
    finally:
        fastconv.set_num_threads(before)
    for run in results[1:]:
        for a, b in zip(run, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_refusals_name_operator_and_argument():
    x, w = np.ones((1, 2, 4, 4), "f4"), np.ones((3, 2, 3, 3), "f4")
    with pytest.raises(ShapeError, match=r"conv2d: weight: got \[3, 5, 3, 3\], expected \[K, 2, \.\.\.\]"):
        F.conv2d(x, np.ones((3, 5, 3, 3), "f4"))
    with pytest.raises(ShapeError, match="conv2d: input: got 2 axes"):
        F.conv2d(x[0, 0], w)
    with pytest.raises(DTypeError, match="conv2d: weight: got float64, expected float32, the dtype of input"):
        F.conv2d(x, w.astype("f8"))
    with pytest.raises(DTypeError, match="conv2d: input: got list"):
        F.conv2d(x.tolist(), w)
    with pytest.raises(DTypeError, match="conv2d: weight: got NoneType"):
        F.conv2d(x, None)
    with pytest.raises(ShapeError, match="conv_transpose2d: weight"):
        F.conv_transpose2d(x, np.ones((3, 2, 3, 3), "f4"))
    with fastconv.use_backend("cuda"), pytest.raises(DeviceError, match="cuda backend"):
        F.conv2d(x, w)


def test_freed_and_changed_graphs_are_refused():
    x = np.ones((1, 2, 4, 4), "f4")
    w = fastconv.tensor(np.ones((3, 2, 3, 3), "f4"), requires_grad=True)
    y = F.conv2d(x, w).sum()
    y.backward()
    with pytest.raises(fastconv.GraphError, match="freed"):
        y.backward()
    y = F.conv2d(x, w).sum()
    x *= 2
    with pytest.raises(fastconv.GraphError, match=r"conv2d: graph: got an array .* changed in place"):
        y.backward()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_activations_of_the_contract_are_pytorchs(activation, backend):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 9, 8)) * 3, rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(6)
    window = Window.conv(x, w, b, 1, 1, 1, 2, 2)
    y = importlib.import_module(f"fastconv.{backend}").conv_forward(x, w, b, window, activation)
    sums = torch.conv2d(*map(torch.tensor, (x, w, b)), padding=1, groups=2)
    np.testing.assert_allclose(y, getattr(torch.nn.functional, activation)(sums).numpy(), rtol=1e-12, atol=1e-12)
