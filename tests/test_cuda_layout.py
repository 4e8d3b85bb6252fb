"""Copies into C order and between the memory formats, by the kernels under the emulator."""

import numpy as np
import pytest

from fastconv.cuda import layout
from fastconv.cuda.runtime import launch
from tests.emulation import SCHEDULES, require, schedule

DTYPES = ("float16", "float32", "float64")

# N, C, H, W around the tiles of the transposition, 64 rows and columns and 32 of 8 bytes
IMAGES = [(1, 8, 2, 4), (2, 64, 8, 8), (1, 65, 3, 43), (2, 63, 5, 13), (1, 128, 16, 9), (3, 9, 11, 1), (2, 3, 7, 5)]


@pytest.fixture(autouse=True)
def built():
    require("plain")


def numbered(shape, dtype):
    """Values that are all different, as far as the dtype can tell."""
    return (np.arange(np.prod(shape)) % 2039).reshape(shape).astype(dtype)


def dense(x, last=False):
    with launch("test", x) as gpu:
        return layout.dense(gpu, x, last)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES)
def test_between_the_formats(shape, dtype):
    x = numbered(shape, dtype)
    last = dense(x, last=True)
    assert np.moveaxis(last, 1, -1).flags.c_contiguous
    np.testing.assert_array_equal(last, x)
    first = dense(last)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposition_of_unaligned_views(dtype):
    x = numbered((2, 17, 40, 33), dtype)
    for view in (x[:, 1:, :, 1:], x[:, :16, 1:, :], x[..., 1:33]):
        np.testing.assert_array_equal(dense(view, last=True), view)
        np.testing.assert_array_equal(dense(view), view)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[..., ::-1],
        lambda x: x[:, ::2, 1:],
        lambda x: x.T,
        lambda x: x.swapaxes(1, 2),
        lambda x: x[..., :16],  # the last axis dense: several elements at once
        lambda x: x[..., 1:17],
        lambda x: x[..., :6],
        lambda x: x[1, 2, 3, 4, ...],
        lambda x: np.broadcast_to(x[..., :1], x.shape),
        lambda x: x[:0],
    ],
)
def test_views(view, dtype):
    x = view(numbered((3, 5, 6, 32), dtype))
    y = dense(x)
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, x)


def test_more_axes_than_the_kernel_has():
    x = numbered((2, 3, 2, 1, 2, 3, 2, 2, 3, 2, 2), "float32")
    for order in ((10, 8, 6, 4, 2, 0, 9, 7, 5, 3, 1), tuple(reversed(range(11)))):
        np.testing.assert_array_equal(dense(x.transpose(order)), x.transpose(order))


@pytest.mark.parametrize("how", SCHEDULES)
def test_every_schedule_moves_the_same(how):
    x = numbered((2, 70, 9, 8), "float16")
    with schedule(*how):
        np.testing.assert_array_equal(dense(x, last=True), x)
        np.testing.assert_array_equal(dense(x[..., 1:7]), x[..., 1:7])
