"""Indexing and joining: NumPy's indices, PyTorch's results, gradients that add up in order, every refusal."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, GraphError, ShapeError
from fastconv.functional.indexing import pick, scatter_by_position
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import check_like_torch, torch


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


MASK = np.random.default_rng(1).random((4, 5)) < 0.5
INDICES = {
    "int": 1,
    "negative": -1,
    "slice": slice(1, 3),
    "step": slice(None, None, 2),
    "backwards": slice(None, None, -1),
    "pair": (1, 2),
    "new axis": (None, slice(None), 0),
    "ellipsis": (..., 0),
    "all": (),
    "list": [0, 2, 2],
    "array": np.array([3, 0, 0, 1]),
    "int32": np.array([3, 0, 0, 1], "int32"),
    "matrix": np.array([[0, 1], [1, 3]]),
    "two arrays": (np.array([0, 0, 3]), np.array([1, 1, 4])),
    "arrays and slice": (np.array([0, 0, 3]), slice(None), np.array([1, 1, 2])),
    "broadcast arrays": (np.array([[0], [2]]), np.array([1, 1, 4])),
    "mask": MASK,
    "mask of rows": np.array([True, False, True, True]),
    "mask and int": (np.array([True, False, True, True]), 2),
    "mask and array": (np.array([True, False, True, True]), np.array([1, 1, 2])),
    "empty": np.zeros(0, "int64"),
    "numpy int": np.int64(2),
    "zero-axis array": np.array(2),
}


@pytest.mark.parametrize("name", INDICES)
def test_getitem_and_its_gradient_are_numpys(name):
    index, x = INDICES[name], normal(4, 5, 3)
    mine = tensor(x, requires_grad=True)
    y = mine[index]
    np.testing.assert_array_equal(y.data, x[index])
    plain = F.getitem(x, index)
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain, x[index])
    dy = np.asarray(normal(*y.shape, seed=2))
    (dx,) = grad(y, mine, tensor(dy))
    want = np.zeros_like(x)
    np.add.at(want, index, dy)
    np.testing.assert_array_equal(dx.data, want)
    check_gradients(lambda v: F.getitem(v, index), x)


def test_tensors_are_indices():
    x = tensor(normal(4, 5), requires_grad=True)
    rows = tensor(np.array([0, 2, 2]))
    for got, want in ((x[rows], x.data[[0, 2, 2]]), (x[rows, 1], x.data[[0, 2, 2], 1]), (x[x > 0], x.data[x.data > 0])):
        assert isinstance(got, Tensor) and got.requires_grad
        np.testing.assert_array_equal(got.data, want)


def test_an_index_changed_in_place_is_noticed():
    x, rows = tensor(normal(4, 5), requires_grad=True), np.array([0, 2])
    y = x[rows]
    rows[0] = 1
    with pytest.raises(GraphError, match="getitem"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
def test_equal_indices_add_up_in_the_accumulator(dtype):
    """A sum of 5000 ones ends at 2048 in float16 and at 256 in bfloat16."""
    x = tensor(np.zeros((3, 2), dtype), requires_grad=True)
    (dx,) = grad(x[np.ones(5000, "int64")].sum(), x)
    assert dx.dtype == x.dtype
    np.testing.assert_array_equal(dx.data, np.array([[0, 0], [5000, 5000], [0, 0]]).astype(dtype))


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_scatter_by_position_is_the_same(engine):
    """What CuPy arrays take, whose own scatter adds in whatever order threads arrive."""
    for index in INDICES.values():
        parts = index if isinstance(index, tuple) else (index,)
        dy = normal(*normal(4, 5, 3)[parts].shape, seed=2)
        if dy.size == 0:
            continue
        want = np.zeros((4, 5, 3))
        np.add.at(want, parts, dy)
        with fastconv.use_backend(engine):
            np.testing.assert_allclose(scatter_by_position(np.asarray(dy), parts, (4, 5, 3)), want, rtol=1e-14)


def test_pick_and_its_transpose():
    x = normal(3, 4, 5)
    indices = np.random.default_rng(3).integers(0, 4, (3, 1, 5))
    np.testing.assert_array_equal(pick(x, indices, 1), np.take_along_axis(x, indices, 1))
    check_gradients(lambda v: pick(v, indices, 1), x)


JOINS = [
    ("cat", (0,), [(2, 3), (4, 3)]),
    ("cat", (-1,), [(2, 3), (2, 1), (2, 0)]),
    ("cat", (1,), [(2, 3, 4)]),
    ("stack", (0,), [(2, 3), (2, 3)]),
    ("stack", (-1,), [(2, 3), (2, 3), (2, 3)]),
    ("stack", (1,), [(2,), (2,)]),
    ("stack", (0,), [(), ()]),
]


@pytest.mark.parametrize("name, args, shapes", JOINS, ids=str)
def test_joins_are_pytorchs(name, args, shapes):
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    check_like_torch(lambda *v: getattr(F, name)(v, *args), lambda *v: getattr(torch, name)(v, *args), *arrays)
    check_gradients(lambda *v: getattr(F, name)(list(v), *args), *arrays)


@pytest.mark.parametrize(
    "dtypes", [("float32", "float64"), ("int64", "float32"), ("float16", "float32"), ("bool", "int32")]
)
def test_joins_promote_as_pytorch(dtypes):
    arrays = [np.ones((2, 3)).astype(d) for d in dtypes]
    check_like_torch(lambda *v: F.cat(v), lambda *v: torch.cat(v), *arrays)
    check_like_torch(lambda *v: F.stack(v), lambda *v: torch.stack(v), *arrays)


SPLITS = [("split", (2,)), ("split", (2, 1)), ("split", ([1, 3, 1],)), ("split", (9,)), ("split", ([5, 0],)),
          ("chunk", (2,)), ("chunk", (3, -1)), ("chunk", (7,)), ("chunk", (5, 1))]  # fmt: skip


@pytest.mark.parametrize("name, args", SPLITS, ids=str)
def test_splits_are_pytorchs(name, args):
    x = normal(5, 6)
    parts, expected = getattr(F, name)(x, *args), getattr(torch, name)(torch.from_numpy(x), *args)
    assert len(parts) == len(expected)
    for i, (part, want) in enumerate(zip(parts, expected, strict=True)):
        np.testing.assert_array_equal(part, want.numpy())
        assert part.size == 0 or np.shares_memory(part, x)
        check_like_torch(lambda v, i=i: getattr(F, name)(v, *args)[i],
                         lambda v, i=i: getattr(torch, name)(v, *args)[i], x)  # fmt: skip
    check_gradients(lambda v: F.cat([p * p * (i + 1) for i, p in enumerate(getattr(F, name)(v, *args))],
                                    args[1] if len(args) > 1 else 0), x)  # fmt: skip


def test_splits_of_nothing_are_pytorchs():
    x = np.zeros((0, 3))
    for name, args in (("split", (2,)), ("chunk", (2,))):
        shapes = [p.shape for p in getattr(F, name)(x, *args)]
        assert shapes == [tuple(p.shape) for p in getattr(torch, name)(torch.from_numpy(x), *args)]


def test_storage_changes_nothing():
    x = normal(4, 5, 3)
    for storage, stored in storages(x):
        for function in (
            lambda v: F.getitem(v, (slice(1, 3), [0, 0, 1])),
            lambda v: F.cat([v, v], 1),
            lambda v: F.stack([v, v]),
        ):
            np.testing.assert_array_equal(function(stored), function(x), err_msg=storage)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: x[4], ShapeError, "getitem: index"),
        (lambda x: x[0, 0, 0, 0], ShapeError, "getitem: index"),
        (lambda x: x[np.array([7])], ShapeError, "getitem: index"),
        (lambda x: x[np.ones(3, bool)], ShapeError, "getitem: index"),
        (lambda x: x[1.5], DTypeError, "getitem: index"),
        (lambda x: x["a"], DTypeError, "getitem: index"),
        (lambda x: x[np.array([1.5])], DTypeError, "getitem: index"),
        (lambda x: x[::0], DTypeError, "getitem: index"),
        (lambda x: x[slice("a", None)], DTypeError, "getitem: index"),
        (lambda x: F.getitem([1], 0), DTypeError, "getitem: input"),
        (lambda x: F.cat([]), ShapeError, "cat: tensors"),
        (lambda x: F.cat(x), DTypeError, "cat: tensors"),
        (lambda x: F.cat([x, 1.0]), DTypeError, "cat: tensors: got float"),
        (lambda x: F.cat([x, x[0]]), ShapeError, r"cat: tensors: got \[4, 5, 3\] and \[5, 3\]"),
        (lambda x: F.cat([x, x[:, 1:]]), ShapeError, "cat: tensors"),
        (lambda x: F.cat([x], 3), ShapeError, "cat: dim: got 3"),
        (lambda x: F.cat([x.sum(), x.sum()]), ShapeError, "use stack"),
        (lambda x: F.stack([x, x[1:]]), ShapeError, "stack: tensors"),
        (lambda x: F.stack([x], 4), ShapeError, "stack: dim: got 4"),
        (lambda x: F.split(x, 0), ShapeError, "split: split_size_or_sections"),
        (lambda x: F.split(x, [1, 2]), ShapeError, "split: split_size_or_sections"),
        (lambda x: F.split(x, [6, -2]), ShapeError, "split: split_size_or_sections"),
        (lambda x: F.split(x, 1.5), DTypeError, "split: split_size_or_sections"),
        (lambda x: F.split(x.sum(), 1), ShapeError, "split: tensor"),
        (lambda x: F.chunk(x, 0), ShapeError, "chunk: chunks"),
        (lambda x: F.chunk(x, 2, 3), ShapeError, "chunk: dim: got 3"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(tensor(normal(4, 5, 3)))


def test_iterating_takes_the_first_axis_apart():
    x = tensor(normal(3, 2), requires_grad=True)
    rows = list(x)
    assert len(rows) == len(x) == 3
    (dx,) = grad((rows[0] + rows[2] * 2).sum(), x)
    np.testing.assert_array_equal(dx.data, [[1, 1], [0, 0], [2, 2]])


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_large_arrays_are_joined_in_their_format_and_parted_into_dense_gradients(last):
    def stored(channels):
        x = np.random.default_rng(channels).standard_normal((3, channels, 60, 70)).astype("float32")
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x

    a, b = (fastconv.tensor(stored(channels), requires_grad=True) for channels in (12, 5))
    y = fastconv.cat([a, b], 1)
    assert np.array_equal(y.data, np.concatenate([a.data, b.data], 1))
    assert y.data.strides == stored(17).strides
    dy = stored(17)
    da, db = fastconv.grad(y, (a, b), dy)
    assert np.array_equal(da.data, dy[:, :12]) and np.array_equal(db.data, dy[:, 12:])
    assert da.data.strides == a.data.strides


def test_large_arrays_are_stacked_as_numpy_stacks_them():
    a, b = (np.full((64, 70, 30), v, "float32").transpose(2, 0, 1) for v in (1, 2))
    y = fastconv.stack([a, b], 0)
    assert np.array_equal(y, np.stack([a, b], 0)) and y.strides == np.stack([a, b], 0).strides
