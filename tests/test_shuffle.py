"""Shuffling of pixels and channels: PyTorch's results, memory formats, gradients and refusals."""

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

# name, factor, shape of the input
CASES = [
    ("pixel_shuffle", 1, (2, 3, 4, 5)),
    ("pixel_shuffle", 2, (2, 12, 3, 5)),
    ("pixel_shuffle", 3, (18, 2, 1)),
    ("pixel_shuffle", 2, (2, 3, 4, 2, 3)),
    ("pixel_shuffle", 2, (1, 2, 3, 8, 2, 1)),
    ("pixel_unshuffle", 1, (2, 3, 4, 5)),
    ("pixel_unshuffle", 2, (2, 3, 6, 4)),
    ("pixel_unshuffle", 3, (2, 6, 9)),
    ("pixel_unshuffle", 2, (2, 3, 1, 2, 6)),
    ("channel_shuffle", 1, (2, 3, 4, 5)),
    ("channel_shuffle", 2, (2, 6, 4, 5)),
    ("channel_shuffle", 6, (2, 6, 4, 5)),
    ("channel_shuffle", 3, (2, 6, 7)),
    ("channel_shuffle", 2, (2, 4, 3, 2, 5)),
    ("channel_shuffle", 2, (1, 4, 2, 3, 2, 2)),
    ("native_channel_shuffle", 2, (2, 6, 4, 5)),
]
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def wave(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("name, factor, shape", CASES, ids=str)
def test_results_and_gradients_are_pytorchs(name, factor, shape):
    x = wave(*shape)

    def ours(v):
        return getattr(F, name)(v, factor)

    def theirs(v):  # PyTorch's native_channel_shuffle has no gradient
        return getattr(T, name.removeprefix("native_"))(v, factor)

    check_like_torch(ours, theirs, x, rtol=0, atol=0)
    check_like_torch(ours, theirs, x.astype("float32"), rtol=0, atol=0)
    check_gradients(ours, x)
    for dtype in DTYPES:
        whole = np.arange(x.size).reshape(shape).astype(dtype)
        y, expected = ours(whole), getattr(T, name)(as_torch(whole), factor).numpy()
        assert y.dtype == whole.dtype
        np.testing.assert_array_equal(y, expected)
    half = x.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(ours(half).astype("float32"), ours(half.astype("float32")))


@pytest.mark.parametrize("name, factor, shape", CASES, ids=str)
def test_strides_are_pytorchs_and_the_memory_is_new(name, factor, shape):
    x = wave(*shape)
    # PyTorch shuffles no pixels of volumes that are stored channels last.
    formats = [x, last(x)] if len(shape) == 4 or (len(shape) > 4 and "channel" in name) else [x]
    for stored in formats:
        y = getattr(F, name)(stored, factor)
        expected = getattr(T, name)(torch.as_strided(torch.empty(x.size).double(), x.shape,
                                                     [s // 8 for s in stored.strides]), factor)  # fmt: skip
        assert not np.may_share_memory(y, stored)
        assert [s for s, n in zip(y.strides, y.shape, strict=True) if n > 1] == [
            8 * s for s, n in zip(expected.stride(), y.shape, strict=True) if n > 1
        ]


@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"])
def test_storage_changes_nothing(name):
    x = wave(2, 8, 4, 6)
    expected = getattr(F, name)(x, 2)
    for storage, stored in storages(x):
        np.testing.assert_array_equal(getattr(F, name)(stored, 2), expected, err_msg=storage)


def test_unshuffle_undoes_shuffle():
    x = wave(3, 2, 18, 4, 5)
    np.testing.assert_array_equal(F.pixel_unshuffle(F.pixel_shuffle(x, 3), 3), x)
    np.testing.assert_array_equal(F.channel_shuffle(F.channel_shuffle(x[0], 6), 3), x[0])


@pytest.mark.parametrize("shape", [(2, 0, 4, 6), (0, 4, 4, 6), (2, 4, 0, 6), (4, 2, 0)])
def test_empty_inputs(shape):
    for name in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"):
        x = tensor(np.ones(shape), requires_grad=True)
        y = getattr(F, name)(x, 2)
        # PyTorch's CPU leaves an empty input of pixel_unshuffle as it is, its meta tensors do not.
        assert y.shape == tuple(getattr(T, name)(torch.ones(shape, device="meta"), 2).shape)
        y.sum().backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize("name, factor", [("PixelShuffle", 2), ("PixelUnshuffle", 2), ("ChannelShuffle", 4)])
def test_layers_are_pytorchs(name, factor):
    ours, theirs = getattr(nn, name)(factor), getattr(torch.nn, name)(factor)
    x = wave(2, 8, 4, 6)
    np.testing.assert_array_equal(ours(tensor(x)).numpy(), theirs(as_torch(x)).numpy())
    assert repr(ours) == repr(theirs)
    assert ours.state_dict() == theirs.state_dict()


X = wave(2, 8, 4, 6)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.pixel_shuffle(X, 3), ShapeError, r"pixel_shuffle: input: got \[2, 8, 4, 6\].*multiple of 3 \* 3"),
        (lambda: F.pixel_shuffle(X, 0), ShapeError, "pixel_shuffle: upscale_factor: got 0"),
        (lambda: F.pixel_shuffle(X, -2), ShapeError, "pixel_shuffle: upscale_factor: got -2"),
        (lambda: F.pixel_shuffle(X, 2.0), DTypeError, "pixel_shuffle: upscale_factor: got float"),
        (lambda: F.pixel_shuffle(X, True), DTypeError, "pixel_shuffle: upscale_factor: got True"),
        (lambda: F.pixel_shuffle(X[0, 0], 1), ShapeError, r"pixel_shuffle: input: got \[4, 6\]"),
        (lambda: F.pixel_shuffle([1.0], 1), DTypeError, "pixel_shuffle: input: got list"),
        (lambda: F.pixel_unshuffle(X, 3), ShapeError, r"pixel_unshuffle: input: got \[2, 8, 4, 6\]"),
        (lambda: F.pixel_unshuffle(X[:, :, :3], 2), ShapeError, r"pixel_unshuffle: input: got \[2, 8, 3, 6\]"),
        (lambda: F.pixel_unshuffle(X, 0), ShapeError, "pixel_unshuffle: downscale_factor: got 0"),
        (lambda: F.pixel_unshuffle(X, None), DTypeError, "pixel_unshuffle: downscale_factor: got None"),
        (lambda: F.pixel_unshuffle(X[0, 0], 1), ShapeError, r"pixel_unshuffle: input: got \[4, 6\]"),
        (lambda: F.channel_shuffle(X, 3), ShapeError, r"channel_shuffle: input: got \[2, 8, 4, 6\]"),
        (lambda: F.channel_shuffle(X, 0), ShapeError, "channel_shuffle: groups: got 0"),
        (lambda: F.channel_shuffle(X, "2"), DTypeError, "channel_shuffle: groups: got str"),
        (lambda: F.channel_shuffle(X[0, 0], 1), ShapeError, r"channel_shuffle: input: got \[4, 6\]"),
        (lambda: F.native_channel_shuffle(X, 3), ShapeError, "native_channel_shuffle: input: got"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
