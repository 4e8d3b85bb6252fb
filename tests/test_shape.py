"""Reshaping and reordering: PyTorch's results, gradients and refusals; views where NumPy has them."""

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import check_like_torch, torch


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# name, arguments, input shape
CASES = [
    ("reshape", ((6, 2),), (3, 4)),
    ("reshape", ((-1,),), (3, 4)),
    ("reshape", ((2, -1, 3),), (3, 4)),
    ("reshape", ((),), (1, 1)),
    ("reshape", ((0, 5),), (0, 3)),
    ("reshape", ((1,),), ()),
    ("permute", ((2, 0, 1),), (2, 3, 4)),
    ("permute", ((-1, 0, -2),), (2, 3, 4)),
    ("permute", ((),), ()),
    ("transpose", (0, 1), (2, 3)),
    ("transpose", (-1, 0), (2, 3, 4)),
    ("transpose", (0, -1), ()),
    ("movedim", (0, -1), (2, 3, 4)),
    ("movedim", (2, 0), (2, 3, 4)),
    ("movedim", ((0, 1), (-1, 0)), (2, 3, 4, 5)),
    ("flatten", (), (2, 3, 4)),
    ("flatten", (1,), (2, 3, 4)),
    ("flatten", (0, 1), (2, 3, 4)),
    ("flatten", (1,), (0, 3, 4)),
    ("flatten", (), ()),
    ("unflatten", (1, (2, 3)), (4, 6)),
    ("unflatten", (-1, (2, -1)), (4, 6)),
    ("unflatten", (0, (0, 2)), (0, 6)),
    ("squeeze", (), (1, 3, 1)),
    ("squeeze", (0,), (1, 3, 1)),
    ("squeeze", (1,), (1, 3, 1)),
    ("squeeze", ((0, -1),), (1, 3, 1)),
    ("squeeze", (0,), ()),
    ("unsqueeze", (0,), (3, 4)),
    ("unsqueeze", (-1,), (3, 4)),
    ("unsqueeze", (1,), (3, 4)),
    ("broadcast_to", ((2, 3, 4),), (3, 4)),
    ("broadcast_to", ((2, 3, 4),), (3, 1)),
    ("broadcast_to", ((2, 3),), ()),
    ("broadcast_to", ((3, 4),), (3, 4)),
    ("broadcast_to", ((0, 4),), (1, 4)),
    ("flip", ((0,),), (3, 4)),
    ("flip", ((0, -1),), (3, 4, 2)),
    ("clone", (), (3, 4)),
]
IDS = [f"{name}-{args}-{shape}" for name, args, shape in CASES]


@pytest.mark.parametrize("name, args, shape", CASES, ids=IDS)
def test_results_and_gradients_are_pytorchs(name, args, shape):
    check_like_torch(lambda x: getattr(F, name)(x, *args), lambda x: getattr(torch, name)(x, *args), normal(*shape))
    check_gradients(lambda x: getattr(F, name)(x, *args), normal(*shape))


@pytest.mark.parametrize("name, args, shape", CASES, ids=IDS)
def test_every_storage_and_dtype_is_moved_alike(name, args, shape):
    for dtype in ("float32", "float16", "int64", "bool"):
        x = np.asarray(normal(*shape) * 3).astype(dtype)
        want = getattr(F, name)(x, *args)
        assert want.dtype == x.dtype
        assert getattr(F, name)(tensor(x), *args).dtype == x.dtype
        if len(shape) == 0 or dtype == "bool":
            continue
        for storage, stored in storages(x):
            np.testing.assert_array_equal(getattr(F, name)(stored, *args), want, err_msg=storage)


@pytest.mark.parametrize("name, args, shape", [c for c in CASES if c[0] not in ("clone", "flip")], ids=str)
def test_results_are_views(name, args, shape):
    x = normal(*shape)
    y = getattr(F, name)(x, *args)
    assert y.size == 0 or np.shares_memory(x, y)


def test_contiguous_and_clone_copy():
    x = tensor(normal(3, 4), requires_grad=True)
    assert F.contiguous(x) is x
    y = F.contiguous(x.T)
    assert y.data.flags.c_contiguous
    (dx,) = grad(y, x, tensor(np.arange(12.0).reshape(4, 3)))
    np.testing.assert_array_equal(dx.data, np.arange(12.0).reshape(4, 3).T)
    assert not np.shares_memory(F.clone(x).data, x.data)
    last = np.moveaxis(normal(2, 4, 5, 3), -1, 1)
    assert np.moveaxis(F.clone(last), 1, -1).flags.c_contiguous
    check_gradients(lambda v: F.contiguous(F.transpose(v, 0, 1)), normal(3, 4))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.reshape(x, (5, 2)), ShapeError, r"reshape: shape: got \[5, 2\]"),
        (lambda x: F.reshape(x, (-1, -1)), ShapeError, "reshape: shape"),
        (lambda x: F.reshape(x, (-2, 6)), ShapeError, "reshape: shape"),
        (lambda x: F.reshape(x[:0], (0, -1)), ShapeError, "reshape: shape"),
        (lambda x: F.reshape(x, (1.5, 8)), DTypeError, "reshape: shape: got float"),
        (lambda x: F.reshape([1.0], (1,)), DTypeError, "reshape: input: got list"),
        (lambda x: F.permute(x, (0, 0)), ShapeError, "permute: dims"),
        (lambda x: F.permute(x, (0,)), ShapeError, "permute: dims"),
        (lambda x: F.permute(x, (0, 2)), ShapeError, "permute: dims: got 2"),
        (lambda x: F.transpose(x, 0, 2), ShapeError, "transpose: dim1: got 2"),
        (lambda x: F.transpose(x, "a", 0), DTypeError, "transpose: dim0"),
        (lambda x: F.movedim(x, (0, 0), (0, 1)), ShapeError, "movedim"),
        (lambda x: F.movedim(x, (0, 1), (0,)), ShapeError, "movedim"),
        (lambda x: F.flatten(x, 1, 0), ShapeError, "flatten: start_dim"),
        (lambda x: F.flatten(x, 0, 5), ShapeError, "flatten: end_dim: got 5"),
        (lambda x: F.unflatten(x, 1, (3, 2)), ShapeError, "unflatten: sizes"),
        (lambda x: F.unflatten(x, 1, (-1, -1)), ShapeError, "unflatten: sizes"),
        (lambda x: F.unflatten(x, 1, ()), ShapeError, "unflatten: sizes"),
        (lambda x: F.squeeze(x, 2), ShapeError, "squeeze: dim: got 2"),
        (lambda x: F.unsqueeze(x, 4), ShapeError, "unsqueeze: dim: got 4"),
        (lambda x: F.unsqueeze(x, None), DTypeError, "unsqueeze: dim"),
        (lambda x: F.broadcast_to(x, (3, 5)), ShapeError, "broadcast_to: shape"),
        (lambda x: F.broadcast_to(x, (4,)), ShapeError, "broadcast_to: shape"),
        (lambda x: F.broadcast_to(x, (-1, 3, 4)), ShapeError, "broadcast_to: shape"),
        (lambda x: F.flip(x, 3), ShapeError, "flip: dims: got 3"),
        (lambda x: F.contiguous(None), DTypeError, "contiguous: input"),
        (lambda x: F.clone("a"), DTypeError, "clone: input"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(3, 4))


def test_methods_are_these_functions():
    x = normal(2, 3, 4)
    t = tensor(x)
    for got, want in (
        (t.reshape(6, 4), x.reshape(6, 4)), (t.reshape((4, -1)), x.reshape(4, -1)), (t.view(-1), x.reshape(-1)),
        (t.permute(2, 0, 1), x.transpose(2, 0, 1)), (t.permute((1, 0, 2)), x.transpose(1, 0, 2)), (t.T, x.T),
        (t.mT, x.swapaxes(1, 2)), (t.transpose(0, 2), x.swapaxes(0, 2)), (t.flatten(1), x.reshape(2, -1)),
        (t.unsqueeze(1), x[:, None]), (t.unsqueeze(0).squeeze(), x), (t.expand(5, -1, 3, 4), np.stack([x] * 5)),
        (t.unflatten(2, (2, 2)), x.reshape(2, 3, 2, 2)), (t.contiguous(), x), (t.clone(), x), (t.flip(0), x[::-1]),
        (t.float(), x.astype("f4")), (t.double(), x), (t.half(), x.astype("f2")), (t.to("float32"), x.astype("f4")),
        (t.astype("int32"), x.astype("i4")), (t.type_as(tensor(x.astype("f2"))), x.astype("f2")), (t.to("cpu"), x),
        (t.to(tensor(x.astype("f2"))), x.astype("f2")), (t.to("cpu", "float32"), x.astype("f4")), (t.bool(), x != 0),
    ):  # fmt: skip
        np.testing.assert_array_equal(got.data, want)
        assert got.dtype == want.dtype
    assert t.size() == (2, 3, 4) and t.size(-1) == 4 and t.dim() == 3 and t.numel() == 24
    with pytest.raises(ShapeError, match="size: dim"):
        t.size(3)


def test_tensors_of_one_number_and_of_a_row_of_numbers():
    for made, want in (
        (fastconv.full((2, 3), 1.5), torch.full((2, 3), 1.5)),
        (fastconv.full((2,), 7), torch.full((2,), 7)),
        (fastconv.full([2], True), torch.full([2], True)),
        (fastconv.full_like(np.ones(3, "int32"), 4), torch.full((3,), 4, dtype=torch.int32)),
        (fastconv.full_like(np.ones(3), 4, dtype="float16"), torch.full((3,), 4, dtype=torch.float16)),
        (fastconv.zeros_like(np.ones(3), dtype="int64"), torch.zeros(3, dtype=torch.int64)),
        (fastconv.ones(2, 3, device="cpu"), torch.ones(2, 3)),
        (fastconv.arange(5), torch.arange(5)),
        (fastconv.arange(2, 9, 3), torch.arange(2, 9, 3)),
        (fastconv.arange(1, 0, -0.25), torch.arange(1, 0, -0.25)),
        (fastconv.arange(3, dtype="float64"), torch.arange(3, dtype=torch.float64)),
        (fastconv.arange(0), torch.arange(0)),
    ):
        assert made.dtype.name == str(want.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(made.data, want.numpy())
    assert fastconv.full((2,), 1.0, requires_grad=True).requires_grad
    for call in (lambda: fastconv.arange(3, 0), lambda: fastconv.arange(0, 3, 0)):
        with pytest.raises(ShapeError, match="arange: step"):
            call()
