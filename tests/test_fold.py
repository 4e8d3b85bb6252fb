"""Blocks of images as columns and back: PyTorch's values, gradients and refusals."""

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

# shape of the image; kernel, dilation, padding, stride
PROBLEMS = [
    ((2, 3, 5, 6), (2,)),
    ((2, 3, 5, 6), ((3, 2), 1, (1, 0), (2, 3))),
    ((3, 7, 6), ((2, 3), (3, 2), 2, 2)),
    ((1, 1, 1, 1), (1,)),
    ((1, 2, 1, 1), ((3, 5), 1, (1, 2), 1)),
    ((2, 1, 4, 4), (2, 4, 3, 2)),
    ((0, 2, 4, 4), (3, 1, 1, 1)),
    ((1, 2, 8, 9), (2, 1, 0, 4)),
    ((1, 1, 2, 2), (1, 1, 3, 2)),
    ((2, 3, 6, 8), ((3, 2), 1, 0, (3, 2))),  # cut into pieces
    ((3, 7, 8), ((3, 2), 1, 0, (3, 2))),  # and with a rest
]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape, window", PROBLEMS, ids=str)
def test_values_and_gradients_are_pytorchs(shape, window):
    x = normal(*shape)
    check_like_torch(lambda x: F.unfold(x, *window), lambda x: T.unfold(x, *window), x)
    columns = normal(*T.unfold(as_torch(x), *window).shape, seed=1)
    size = shape[-2:]
    check_like_torch(lambda x: F.fold(x, size, *window), lambda x: T.fold(x, size, *window), columns)
    if x.size:
        check_gradients(lambda x: F.unfold(x, *window), x)
        check_gradients(lambda x: F.fold(x, size, *window), columns)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_halves_are_rounded_once(dtype):
    x = normal(2, 27, 30).astype(dtype)
    y = F.fold(x, (5, 6), 3, 1, 1)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, F.fold(x.astype("float32"), (5, 6), 3, 1, 1).astype(dtype))
    image = normal(2, 3, 5, 6).astype(dtype)
    np.testing.assert_array_equal(F.unfold(image, 3), F.unfold(image.astype("float32"), 3).astype(dtype))


def test_bools_are_pytorchs():
    x = normal(2, 3, 5, 6) > 0
    check_like_torch(lambda x: F.unfold(x, 3, 1, 1), lambda x: T.unfold(x, 3, 1, 1), x)
    columns = normal(2, 9, 12) > 1
    check_like_torch(lambda x: F.fold(x, (5, 6), 3), lambda x: T.fold(x, (5, 6), 3), columns)


def test_any_storage_of_the_same_numbers():
    x, columns = normal(2, 3, 5, 6), normal(2, 12, 20)
    cut, pieces = ((5, 2), 1, 0, (5, 2)), normal(2, 10, 6)
    stored = zip(storages(x), storages(columns), storages(pieces), strict=True)
    for (storage, image), (_, blocks), (_, parts) in stored:
        for y, expected in (
            (F.unfold(image, 2), F.unfold(x, 2)),
            (F.fold(blocks, (5, 6), 2), F.fold(columns, (5, 6), 2)),
            (F.unfold(image, *cut), F.unfold(x, *cut)),
            (F.fold(parts, (10, 6), *cut), F.fold(pieces, (10, 6), *cut)),
        ):
            np.testing.assert_array_equal(y, expected, err_msg=storage)
            assert y.flags.c_contiguous
            assert y.dtype.isnative


def test_not_a_number_stays_in_its_blocks():
    x = normal(1, 1, 5, 5)
    x[0, 0, 1, 1], x[0, 0, 4, 4] = np.nan, np.inf
    np.testing.assert_array_equal(F.unfold(x, 2, 1, 1), T.unfold(as_torch(x), 2, 1, 1).numpy())
    columns = T.unfold(as_torch(x), 3, 1, 1).numpy()
    np.testing.assert_allclose(F.fold(columns, 5, 3, 1, 1), T.fold(as_torch(columns), 5, 3, 1, 1).numpy(), rtol=1e-14)


def test_convolution_is_a_product_of_columns():
    x, w = normal(2, 3, 8, 9), normal(4, 3, 3, 2, seed=1)
    y = (w.reshape(4, -1) @ F.unfold(x, (3, 2), 1, 1, 2)).reshape(2, 4, 4, 5)
    np.testing.assert_allclose(y, F.conv2d(x, w, stride=2, padding=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "name, arguments",
    [("Unfold", (3,)), ("Unfold", ((2, 3), 1, (1, 0), 2)), ("Fold", ((5, 6), 2)), ("Fold", (7, (3, 1), 2, 1, 2))],
)
def test_layers_are_pytorchs(name, arguments):
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    assert repr(ours) == repr(theirs)
    shapes = {"Unfold": (2, 3, 5, 6), "Fold": (2, 12, 20 if arguments[0] == (5, 6) else 15)}
    x = normal(*shapes[name])
    check_like_torch(ours, theirs, x)


X, COLUMNS = normal(2, 3, 4, 5), normal(2, 12, 12)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.unfold(X[0, 0], 2), ShapeError, r"unfold: input: got \[4, 5\]"),
        (lambda: F.unfold(X[None], 2), ShapeError, "unfold: input"),
        (lambda: F.unfold(X[:, :0], 2), ShapeError, r"unfold: input: got \[2, 0, 4, 5\]"),
        (lambda: F.unfold(X[..., :0], 2, 1, 2), ShapeError, r"unfold: input: got \[2, 3, 4, 0\]"),
        (lambda: F.unfold(X, 0), ShapeError, "unfold: kernel_size: got 0"),
        (lambda: F.unfold(X, (2,)), ShapeError, r"unfold: kernel_size: got \[2\]"),
        (lambda: F.unfold(X, 2.0), DTypeError, "unfold: kernel_size: got float"),
        (lambda: F.unfold(X, True), DTypeError, "unfold: kernel_size: got bool"),
        (lambda: F.unfold(X, 2, 0), ShapeError, "unfold: dilation: got 0"),
        (lambda: F.unfold(X, 2, 1, -1), ShapeError, "unfold: padding: got -1"),
        (lambda: F.unfold(X, 2, 1, 0, 0), ShapeError, "unfold: stride: got 0"),
        (lambda: F.unfold(X, 5), ShapeError, r"unfold: kernel_size: got \[5, 5\]"),
        (lambda: F.unfold(X.astype(int), 2), DTypeError, "unfold: input: got int64"),
        (lambda: F.unfold([1.0], 2), DTypeError, "unfold: input: got list"),
        (lambda: F.fold(COLUMNS, (4, 5), (3, 4)), ShapeError, r"fold: input: .*\[..., C \* 12, 4\] for 2 by 2 blocks"),
        (lambda: F.fold(COLUMNS[:, :11], (4, 5), 2), ShapeError, r"fold: input: got \[2, 11, 12\]"),
        (lambda: F.fold(COLUMNS[..., :0], (1, 1), 2), ShapeError, "fold: input"),
        (lambda: F.fold(COLUMNS, (1, 1), 2), ShapeError, "fold: input"),
        (lambda: F.fold(COLUMNS, (0, 5), 2), ShapeError, "fold: output_size: got 0"),
        (lambda: F.fold(COLUMNS, (4, 5, 6), 2), ShapeError, "fold: output_size"),
        (lambda: F.fold(COLUMNS[0, 0], (4, 5), 2), ShapeError, r"fold: input: got \[12\]"),
        (lambda: F.fold(COLUMNS[None], (4, 5), 2), ShapeError, "fold: input"),
        (lambda: F.fold(COLUMNS.astype("int32"), (4, 5), 2), DTypeError, "fold: input: got int32"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_gradients_of_halves_are_rounded_once():
    x = tensor(normal(1, 2, 6, 6).astype("float16"), requires_grad=True)
    y = F.unfold(x, 3)
    dy = normal(*y.shape, seed=2).astype("float16")
    y.backward(dy)
    np.testing.assert_array_equal(x.grad.data, F.fold(dy.astype("float32"), 6, 3).astype("float16"))
