"""Padding: PyTorch's values, gradients and refusals in every mode, and the layers and convolutions that pad."""

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import nn
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, torch

# shape, padding
ANY_SHAPE = [
    ((), ()),
    ((4,), ()),
    ((4,), (1, 2)),
    ((4,), (-4, 5)),
    ((4,), (-2, -2)),
    ((0,), (1, 2)),
    ((3, 4), (1, 0, -1, 2)),
    ((2, 3, 4), (0, 0, -1, -1)),
    ((2, 0, 4), (1, 1, 1, 1)),
    ((2, 3, 4, 5), (1, 2, 0, 3, 0, 0, 1, 0)),
    ((2, 1, 2, 1, 3), (1,) * 10),
]
IMAGES = [
    ((3, 4), (1, 2)),
    ((2, 3, 4), (3, 0)),
    ((2, 3, 4), (-1, 2)),
    ((2, 3, 4), (0, -3)),
    ((3, 4, 5), (1, 2, 0, 3)),
    ((2, 3, 4, 5), (-1, 2, 1, -2)),
    ((2, 1, 1, 3), (1, 1, 0, 0)),
    ((0, 3, 4, 5), (1, 2, 3, 1)),
    ((3, 2, 4, 3), (1, 1, 1, 1, 1, 0)),
    ((2, 1, 3, 2, 4), (2, 1, 1, 1, 0, 2)),
    ((1, 2, 3, 2, 4), (-1, 1, 1, -1, 1, 2)),
]
# Only of this mode: an axis of one position; more than there is; nothing left of the input; no channels.
REPLICATED = [((2, 3, 1), (2, 1)), ((2, 3, 4), (6, 9)), ((2, 3, 4, 4), (-4, 5, 6, -5)), ((2, 1, 1), (-1, 2))]
WRAPPED = [((2, 3, 1), (1, 1)), ((2, 3, 4), (4, 4)), ((2, 0, 4), (1, 2)), ((2, 3, 4), (-2, -2)), ((2, 3, 0), (0, 0))]
CALLS = (
    [(shape, padding, ("constant", value)) for shape, padding in ANY_SHAPE for value in (None, 1.5)]
    + [(*case, (mode,)) for case in IMAGES for mode in ("constant", "reflect", "replicate", "circular")]
    + [(*case, ("replicate",)) for case in REPLICATED]
    + [(*case, ("circular",)) for case in WRAPPED]
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("shape, padding, options", CALLS, ids=str)
def test_values_and_gradients_are_pytorchs(shape, padding, options):
    x = normal(*shape)
    check_like_torch(lambda x: F.pad(x, padding, *options), lambda x: T.pad(x, padding, *options), x)
    if x.size:
        check_gradients(lambda x: F.pad(x, padding, *options), x)


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16, "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_every_dtype_is_pytorchs(dtype, mode):
    x = (4 * normal(2, 3, 4, 5)).astype(dtype)
    if dtype == "bool" and mode in ("reflect", "replicate"):
        with pytest.raises(DTypeError, match="pad: input: got bool"):
            F.pad(x, (1, 2, 2, 1), mode)
        return
    eps = float(ml_dtypes.finfo(dtype).eps) if np.dtype(dtype).kind in "fV" else 0
    leaf, other = tensor(x, requires_grad=eps > 0), as_torch(x, requires_grad=True)
    y, expected = F.pad(leaf, (1, 2, 2, -1), mode), T.pad(other, (1, 2, 2, -1), mode)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.data.astype("float64"), expected.detach().double().numpy())
    if eps:
        dy = normal(*y.shape, seed=1).astype(dtype)
        y.backward(dy)
        wide = tensor(x.astype("float64"), requires_grad=True)
        F.pad(wide, (1, 2, 2, -1), mode).backward(dy.astype("float64"))
        assert leaf.grad.dtype == x.dtype
        # Rounded once, however many copies of an element there are.
        np.testing.assert_allclose(leaf.grad.data.astype("float64"), wide.grad.data, rtol=eps, atol=1e-6)


@pytest.mark.parametrize(
    "dtype, value",
    [("int64", 1.7), ("int64", -1.7), ("uint8", 255), ("uint8", 2.0), ("bool", 0.5), ("bool", np.nan),
     ("float16", 65504), ("float16", np.inf), ("float32", -0.0), ("float32", np.nan), ("float32", True),
     ("float64", 1e300)],
)  # fmt: skip
def test_the_number_becomes_what_pytorch_makes_of_it(dtype, value):
    y = F.pad(np.ones((2, 2), dtype), (1, 0), value=value)
    expected = T.pad(torch.ones(2, 2).to(getattr(torch, dtype)), (1, 0), value=value).numpy()
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))


def test_a_number_that_is_not_added_may_be_any():
    np.testing.assert_array_equal(F.pad(np.ones(3, "uint8"), (-1, 0), value=300), np.ones(2))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_any_storage_of_the_same_numbers(mode):
    x = normal(2, 3, 4, 5).astype("float32")
    expected = F.pad(x, (1, 2, -1, 2), mode)
    for storage, stored in storages(x):
        y = F.pad(stored, (1, 2, -1, 2), mode)
        np.testing.assert_array_equal(y, expected, err_msg=storage)
        assert y.dtype.isnative


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(1, 2, 2, 1), (-1, 2, 1, 2)])
def test_the_format_of_the_input_is_kept(mode, padding):
    x = tensor(channels_last(normal(2, 3, 4, 5)), requires_grad=True)
    y = F.pad(x, padding, mode)
    assert np.moveaxis(y.data, 1, -1).flags.c_contiguous
    y.backward(channels_last(normal(*y.shape)))
    assert np.moveaxis(x.grad.data, 1, -1).flags.c_contiguous
    assert F.pad(np.ascontiguousarray(x.data), padding, mode).flags.c_contiguous


def test_the_result_is_no_view():
    x = normal(3, 4)
    for padding in ((0, 0), (-1, 0), ()):
        assert not np.shares_memory(F.pad(x, padding), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_not_a_number_goes_where_it_is_copied_to(mode):
    x = normal(1, 1, 5, 5)
    x[0, 0, 1, 1], x[0, 0, 4, 0] = np.nan, np.inf
    np.testing.assert_array_equal(F.pad(x, (2, 1, 3, 2), mode), T.pad(as_torch(x), (2, 1, 3, 2), mode).numpy())


X = normal(2, 3, 4, 5)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.pad(X, (1,)), ShapeError, r"pad: pad: got \[1\]"),
        (lambda: F.pad(X[0, 0, 0], (1, 1, 1, 1)), ShapeError, "pad: pad: got .* for up to 1 axes"),
        (lambda: F.pad(X, 1), DTypeError, "pad: pad: got int 1"),
        (lambda: F.pad(X, (1.0, 2)), DTypeError, "pad: pad: got float"),
        (lambda: F.pad(X, (True, 2)), DTypeError, "pad: pad: got tuple"),
        (lambda: F.pad(X, (-3, -3)), ShapeError, "pad: pad: .* the 5 positions of axis 3 cut off"),
        (lambda: F.pad(X, (-6, 7)), ShapeError, r"pad: pad: got \(-6, 7\)"),
        (lambda: F.pad(X, (1, 1), "mirror"), ShapeError, "pad: mode: got 'mirror'"),
        (lambda: F.pad(X, (1, 1), None), DTypeError, "pad: mode: got NoneType"),
        (lambda: F.pad(X, (1, 1), value="a"), DTypeError, "pad: value: got str"),
        (lambda: F.pad(X, (1, 1), value=1j), DTypeError, "pad: value: got complex"),
        (lambda: F.pad(X.astype("uint8"), (1, 1), value=-1), ShapeError, "pad: value: got -1, expected 0 to 255"),
        (lambda: F.pad(X.astype("int64"), (1, 1), value=np.nan), ShapeError, "pad: value: got nan"),
        (lambda: F.pad(X.astype("int64"), (1, 1), value=np.inf), ShapeError, "pad: value: got inf"),
        (lambda: F.pad(X.astype("float16"), (1, 1), value=65519), ShapeError, "pad: value: got 65519"),
        (lambda: F.pad(X.astype("float32"), (1, 1), value=1e39), ShapeError, "pad: value: got 1e"),
        (lambda: F.pad(X[0, 0, 0], (1, 1), "reflect"), ShapeError, r"pad: pad: got 2 numbers for \[5\]"),
        (lambda: F.pad(X, (1, 1), "circular"), ShapeError, r"pad: pad: got 2 numbers for \[2, 3, 4, 5\]"),
        (lambda: F.pad(X, (), "replicate"), ShapeError, "pad: pad: got 0 numbers"),
        (lambda: F.pad(X, (1, 1, 1, 1), "reflect", 1), ShapeError, "pad: value: got 1"),
        (lambda: F.pad(X, (5, 0, 1, 1), "reflect"), ShapeError, "pad: pad: .* expected at most 4 on axis 3"),
        (lambda: F.pad(X, (1, 6, 1, 1), "circular"), ShapeError, "pad: pad: .* expected at most 5 on axis 3"),
        (lambda: F.pad(X, (3, -3, 1, 1), "circular"), ShapeError, "pad: pad: .* expected at most 2 on axis 3"),
        (lambda: F.pad(X, (-3, -3, 1, 1), "circular"), ShapeError, "pad: pad: .* 5 positions of axis 3"),
        (lambda: F.pad(X, (1, 1, -5, 0), "reflect"), ShapeError, "pad: pad: .* at least one position left"),
        (lambda: F.pad(X, (-5, 0, -4, 0), "replicate"), ShapeError, "pad: pad: .* at least one position left"),
        (lambda: F.pad(X[:, :0], (1, 1, 1, 1), "replicate"), ShapeError, r"pad: input: got \[2, 0, 4, 5\]"),
        (lambda: F.pad(X[:0, 0], (1, 1, 1, 1), "reflect"), ShapeError, r"pad: input: got \[0, 4, 5\]"),
        (lambda: F.pad(X[..., :0], (1, 1, 1, 1), "reflect"), ShapeError, r"pad: input: got \[2, 3, 4, 0\]"),
        (lambda: F.pad(X.astype(complex), (1, 1)), DTypeError, "pad: input: got complex128"),
        (lambda: F.pad([1.0], (1, 1)), DTypeError, "pad: input: got list"),
        (lambda: nn.CircularPad2d((1, 1))(X[0, 0]), ShapeError, "CircularPad2d: input: got"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), ShapeError, "Conv2d: padding_mode: got 'mirror'"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ShapeError, "ConvTranspose2d: padding_mode"),
        (lambda: nn.Conv2d(3, 1, 3, padding=4, padding_mode="reflect")(X.astype("float32")), ShapeError, "on axis 2"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


LAYERS = [
    (f"{kind}Pad{rank}d", (padding, 1.5) if kind == "Constant" else (padding,), rank)
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for rank in (1, 2, 3)
    for padding in (1, tuple([1, 2, 0, -1, 1, 1][: 2 * rank]))
]


@pytest.mark.parametrize("name, arguments, rank", LAYERS, ids=str)
def test_layers_are_pytorchs(name, arguments, rank):
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    for x in (normal(2, 3, *(4, 3, 5)[:rank]), normal(3, *(4, 3, 5)[:rank])):
        check_like_torch(ours, theirs, x)
    assert repr(ours) == repr(theirs)
    assert ours.padding == theirs.padding
    assert issubclass(nn.ZeroPad2d, nn.ConstantPad2d)


CONVOLUTIONS = [
    (1, dict(kernel_size=3, padding=2)),
    (1, dict(kernel_size=4, padding="same", dilation=2)),
    (2, dict(kernel_size=(3, 2), padding=(2, 1), stride=2)),
    (2, dict(kernel_size=(4, 3), padding="same", dilation=(1, 2), groups=2)),
    (2, dict(kernel_size=3, padding="valid", bias=False)),
    (3, dict(kernel_size=(1, 3, 2), padding=(0, 1, 2))),
    (3, dict(kernel_size=2, padding="same")),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch's, of a copy that it makes
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank, options", CONVOLUTIONS, ids=str)
def test_convolutions_pad_as_pytorchs_do(rank, options, mode):
    options = {**options, "padding_mode": mode}
    ours = getattr(nn, f"Conv{rank}d")(4, 6, **options, dtype="float64")
    theirs = getattr(torch.nn, f"Conv{rank}d")(4, 6, **options, dtype=torch.float64)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
    for lead in ((2,), ()):
        x = normal(*lead, 4, *(7, 6, 5)[:rank])
        leaf, other = tensor(x, requires_grad=True), as_torch(x, requires_grad=True)
        y, expected = ours(leaf), theirs(other)
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-11, atol=1e-12)
        dy = normal(*y.shape, seed=1)
        y.backward(dy)
        expected.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(leaf.grad.data, other.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_convolutions_pad_each_side_by_its_own():
    x = normal(2, 3, 5, 6)
    layer = nn.Conv2d(3, 4, 3, padding=((1, 2), (0, 3)), padding_mode="circular", dtype="float64")
    padded = F.pad(x, (0, 3, 1, 2), "circular")
    np.testing.assert_array_equal(layer(x).data, F.conv2d(padded, layer.weight.data, layer.bias.data))
