"""The way back from max pooling: PyTorch's values, gradients, sizes and refusals."""

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv import backend, nn, reference
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.storage import assert_same, storages
from tests.witness import as_torch, check_like_torch, torch

T = torch.nn.functional

# size of the input of the pooling, kernel_size, stride, padding, and whether the size has to be told
POOLS = [
    ((13,), 3, 2, 1, True),
    ((12,), 2, None, 0, False),
    ((9,), 3, 1, 1, False),  # windows that overlap, so that indices repeat
    ((9, 7), 2, None, 0, True),
    ((8, 10), (2, 3), (2, 3), (0, 1), True),
    ((7, 7), 3, 1, 0, False),
    ((4, 6, 5), 2, None, 0, True),
    ((5, 5, 4), 3, (2, 1, 1), 1, True),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of PyTorch race for equal indices."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def maxima(size, kernel, stride, padding, dtype="float64"):
    """Maxima of a random input, and their indices."""
    pool = getattr(F, f"max_pool{len(size)}d")
    return pool(images(2, 3, *size).astype(dtype), kernel, stride, padding, return_indices=True)


@pytest.mark.parametrize("name", ["reference", "cpu", "emulated"])
@pytest.mark.parametrize("size, kernel, stride, padding, told", POOLS)
def test_max_unpool_is_pytorchs(size, kernel, stride, padding, told, name):
    if name == "emulated":
        require("plain")
    rank = len(size)
    output_size = size if told else None
    with backend.use_backend(name):
        x, indices = maxima(size, kernel, stride, padding)
        arguments = kernel, stride, padding, output_size
        for values in (images(*x.shape, seed=1), np.where(images(*x.shape) > 0, np.nan, -0.0)):
            for batched in (slice(None), 0):
                check_like_torch(
                    lambda v, b=batched: getattr(F, f"max_unpool{rank}d")(v, indices[b], *arguments),
                    lambda v, b=batched: getattr(T, f"max_unpool{rank}d")(v, as_torch(indices[b]), *arguments),
                    values[batched],
                )


@pytest.mark.parametrize("size, kernel, stride, padding, told", POOLS)
def test_second_derivatives(size, kernel, stride, padding, told):
    x, indices = maxima(size, kernel, stride, padding)
    if any(len(np.unique(plane)) < plane.size for plane in indices.reshape(6, -1)):
        return  # where indices repeat PyTorch's gradient, and so ours, is not that of the function
    unpool = getattr(F, f"max_unpool{len(size)}d")
    check_gradients(lambda v: unpool(v, indices, kernel, stride, padding, size if told else None), x)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
def test_values_are_moved_as_they_are_whatever_their_storage(dtype):
    x, indices = maxima((8, 6), 3, 1, 1, dtype)
    y = F.max_unpool2d(x, indices, 3, 1, 1)
    theirs = T.max_unpool2d(as_torch(x), as_torch(indices), 3, 1, 1)
    np.testing.assert_array_equal(y.astype("f8"), theirs.double().numpy())
    assert y.dtype == x.dtype
    places = dict(storages(indices))
    for storage, stored in storages(x):
        assert_same(F.max_unpool2d(stored, places[storage], 3, 1, 1), y, storage, "max_unpool2d")
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert np.moveaxis(F.max_unpool2d(last, indices, 3, 1, 1), 1, -1).flags.c_contiguous


@pytest.mark.parametrize("name", ["reference", "cpu", "emulated"])
def test_of_equal_indices_the_last_counts(name):
    if name == "emulated":
        require("plain")
    for channels in (1, 3):
        x = np.broadcast_to(np.arange(100.0), (1, channels, 100))
        indices = np.random.default_rng(0).integers(0, 7, (1, channels, 100))
        expected = np.zeros((1, channels, 9))
        for at in np.ndindex(*x.shape):
            expected[(*at[:2], indices[at])] = x[at]
        with backend.use_backend(name):
            for a in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
                np.testing.assert_array_equal(backend.of(a).pool_place(a, indices, (9,)), expected)


def test_the_gradient_goes_to_all_of_equal_indices():
    x = tensor(images(1, 1, 4), requires_grad=True)
    indices = np.array([[[2, 5, 2, 0]]])
    F.max_unpool1d(x, indices, 2).backward(np.arange(8.0).reshape(1, 1, 8))
    np.testing.assert_array_equal(x.grad.data, reference.pool_gather(np.arange(8.0).reshape(1, 1, 8), indices))


SIZES = [(4, 4), [5, 5], (5, 3), (6, 6), (3, 3), (2, 2), (1, 2, 4, 4), (9, 9, 5, 5), (4,), 4, (4.0, 4.0), None, ()]


@pytest.mark.parametrize("output_size", SIZES, ids=str)
def test_output_sizes_are_pytorchs(output_size):
    x, indices = images(1, 2, 2, 2), np.zeros((1, 2, 2, 2), "int64")
    try:
        expected = T.max_unpool2d(as_torch(x), as_torch(indices), 2, output_size=output_size).shape
    except (ValueError, TypeError):
        with pytest.raises((ShapeError, DTypeError), match="max_unpool2d: output_size"):
            F.max_unpool2d(x, indices, 2, output_size=output_size)
    else:
        assert F.max_unpool2d(x, indices, 2, output_size=output_size).shape == tuple(expected)


def refused(indices=(0, 0), shape=(1, 2, 2, 2), dtype="float32", index_dtype="int64", **arguments):
    x = np.zeros(shape, dtype)
    at = np.broadcast_to(np.array(indices, index_dtype), shape)
    return lambda: F.max_unpool2d(x, at, **{"kernel_size": 2, **arguments})


@pytest.mark.parametrize(
    "call, error, argument",
    [
        (refused((0, 16)), ShapeError, "indices"),
        (refused((-1, 0)), ShapeError, "indices"),
        (refused(index_dtype="int32"), DTypeError, "indices"),
        (lambda: F.max_unpool2d(np.zeros((1, 1, 2, 2)), [[0]], 2), DTypeError, "indices"),
        (lambda: F.max_unpool2d(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 1), "int64"), 2), ShapeError, "indices"),
        (refused(dtype="int64"), DTypeError, "input"),
        (refused(shape=(2, 2)), ShapeError, "input"),
        (refused(shape=(2, 0, 2, 2)), ShapeError, "input"),
        (refused(shape=(2, 1, 0, 2)), ShapeError, "input"),
        (refused(kernel_size=(2,)), ShapeError, "kernel_size"),
        (refused(kernel_size=2.0), DTypeError, "kernel_size"),
        (refused(kernel_size=0), ShapeError, "kernel_size"),
        (refused(stride=()), ShapeError, "stride"),
        (refused(stride=0), ShapeError, "stride"),
        (refused(padding=-1), ShapeError, "padding"),
        (refused(stride=1, padding=4), ShapeError, "padding"),
        (refused(stride=2, padding=2), ShapeError, "padding"),
    ],
)
def test_refusals(call, error, argument):
    with pytest.raises(error, match=f"max_unpool2d: {argument}"):
        call()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_undo_their_pooling(rank):
    x = images(2, 3, *(7,) * rank)
    mine = [getattr(nn, f"Max{kind}{rank}d")(3, 2, 1, **more) for kind, more in KINDS]
    theirs = [getattr(torch.nn, f"Max{kind}{rank}d")(3, 2, 1, **more) for kind, more in KINDS]
    results = []
    for (pool, unpool), value in ((mine, x), (theirs, as_torch(x))):
        y, indices = pool(value)
        results.append([np.asarray(unpool(y, indices)), np.asarray(unpool(y, indices, output_size=x.shape))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert repr(mine[1]) == repr(theirs[1])


KINDS = (("Pool", {"return_indices": True}), ("Unpool", {}))


@pytest.mark.parametrize("shape", [(0, 2, 2, 2), (0, 2, 2)])
def test_nothing_in_nothing_out(shape):
    assert F.max_unpool2d(np.zeros(shape), np.zeros(shape, "int64"), 2).shape == (*shape[:-2], 4, 4)
