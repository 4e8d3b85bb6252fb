"""Fractional max pooling: PyTorch's windows, maxima, indices, gradients and refusals, given its samples."""

import ml_dtypes
import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import backend, nn
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

T = torch.nn.functional
# size, kernel_size, output_size
POOLS = [
    ((9, 12), 2, 5),
    ((9, 12), (3, 2), (4, 7)),
    ((9, 7), 3, 1),
    ((9, 7), 1, (9, 7)),
    ((6, 6), 2, 5),
    ((6, 6), 2, (0, 3)),
    ((5, 6, 7), 2, 3),
    ((5, 6, 7), (2, 1, 3), (1, 5, 4)),
]


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def with_ties(*shape):
    x = np.random.default_rng(5).integers(-2, 2, shape).astype(float)
    x.flat[::17], x.flat[3::11], x.flat[5::13] = np.nan, -np.inf, np.inf
    x[:1, :1] = -np.inf
    return x


def samples(*shape):
    return np.random.default_rng(7).random(shape)


@pytest.mark.parametrize("name", ["reference", "cpu", "emulated"])
@pytest.mark.parametrize("size, kernel, output", POOLS)
def test_fractional_max_pool_is_pytorchs(size, kernel, output, name):
    if name == "emulated":
        require("plain")
    rank = len(size)
    u = samples(2, 3, rank)
    ours, theirs = (getattr(module, f"fractional_max_pool{rank}d") for module in (F, T))
    with backend.use_backend(name):
        for x in (images(2, 3, *size), with_ties(2, 3, *size)):
            for batched in (slice(None), 0):
                given = u if batched else u[:1]
                mine = ours(x[batched], kernel, output, None, True, given)
                other = theirs(as_torch(x[batched]), kernel, output, None, True, as_torch(given))
                for a, b in zip(mine, other, strict=True):
                    np.testing.assert_array_equal(a, b.numpy())
                assert mine[1].dtype == np.int64
                check_like_torch(
                    lambda v, g=given: ours(v, kernel, output, None, False, g),
                    lambda v, g=given: theirs(v, kernel, output, None, False, as_torch(g)),
                    x[batched],
                )


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32"])
def test_windows_are_found_in_the_dtype_of_the_samples(dtype):
    x, u = images(3, 5, 31, 40).astype(dtype), samples(3, 5, 2).astype(dtype)
    y, indices = F.fractional_max_pool2d_with_indices(x, 2, (17, 23), _random_samples=u)
    expected = T.fractional_max_pool2d_with_indices(as_torch(x), 2, (17, 23), _random_samples=as_torch(u))
    np.testing.assert_array_equal(indices, expected[1].numpy())
    np.testing.assert_array_equal(y.astype("f8"), expected[0].double().numpy())
    assert y.dtype == x.dtype


@pytest.mark.parametrize("rank", [2, 3])
def test_derivatives(rank):
    u = samples(2, 2, rank)
    pool = getattr(F, f"fractional_max_pool{rank}d")
    check_gradients(lambda v: pool(v, 2, 3, _random_samples=u), images(2, 2, *(6,) * rank))


def test_an_output_ratio_is_rounded_down():
    x = images(1, 2, 9, 10)
    for ratio in (0.5, (0.5, 0.3), (0.04, 0.99)):
        pair = ratio if isinstance(ratio, tuple) else (ratio, ratio)
        try:
            expected = T.fractional_max_pool2d(as_torch(x), 1, output_ratio=pair).shape
        except RuntimeError:
            continue
        assert F.fractional_max_pool2d(x, 1, output_ratio=ratio).shape == tuple(expected)
    assert F.fractional_max_pool3d(images(1, 1, 6, 6, 6), 2, output_ratio=0.5).shape == (1, 1, 3, 3, 3)


def test_windows_are_drawn_from_the_seedable_generator():
    x = images(2, 40, 30, 30)

    def drawn(**more):
        return F.fractional_max_pool2d_with_indices(x, 1, 17, **more)[1]

    fastconv.manual_seed(3)
    first, second = drawn(), drawn()
    fastconv.manual_seed(3)
    np.testing.assert_array_equal(drawn(), first)
    assert (first != second).any()
    own = fastconv.Generator(3)
    np.testing.assert_array_equal(drawn(generator=own), first)
    for starts in (first // 30, first % 30):  # each plane has steps of its own
        assert len({tuple(np.unique(plane)) for plane in starts.reshape(80, -1)}) > 5


@pytest.mark.parametrize("rank", [2, 3])
def test_layers_are_pytorchs(rank):
    x, u = images(2, 3, *(9,) * rank), samples(2, 3, rank)
    name = f"FractionalMaxPool{rank}d"
    for target in ({"output_size": 4}, {"output_ratio": 0.5}, {"output_ratio": (0.5, 0.4, 0.6)[:rank]}):
        mine = getattr(nn, name)(2, return_indices=True, _random_samples=u, **target)
        theirs = getattr(torch.nn, name)(2, return_indices=True, _random_samples=as_torch(u), **target)
        for a, b in zip(mine(x), theirs(as_torch(x)), strict=True):
            np.testing.assert_array_equal(np.asarray(a), b.numpy())
        assert repr(mine) == repr(theirs)
        assert set(mine.state_dict()) == set(theirs.state_dict())
    assert getattr(nn, name)(2, 4)(x).shape == (2, 3, *(4,) * rank)
    for wrong in ({}, {"output_size": 4, "output_ratio": 0.5}, {"output_ratio": 1.0}, {"output_ratio": 0}):
        with pytest.raises(ValueError):
            getattr(torch.nn, name)(2, **wrong)
        with pytest.raises(ShapeError, match=f"{name}: output_"):
            getattr(nn, name)(2, **wrong)


@pytest.mark.parametrize("shape", [(0, 2, 9, 9), (0, 9, 9)])
def test_nothing_in_nothing_out(shape):
    y, indices = F.fractional_max_pool2d(np.zeros(shape), 2, 4, return_indices=True)
    assert y.shape == indices.shape == (*shape[:-2], 4, 4)


IMAGE = np.ones((1, 2, 9, 9))


def refused(function=F.fractional_max_pool2d, image=IMAGE, **arguments):
    return lambda: function(image, **{"kernel_size": 2, "output_size": 4, **arguments})


@pytest.mark.parametrize(
    "call, error, argument",
    [
        (refused(image=[[1.0]]), DTypeError, "input"),
        (refused(image=IMAGE.astype("int64")), DTypeError, "input"),
        (refused(image=IMAGE[0, 0]), ShapeError, "input"),
        (refused(image=np.ones((2, 0, 9, 9))), ShapeError, "input"),
        (refused(image=np.ones((2, 1, 0, 9))), ShapeError, "input"),
        (refused(kernel_size=(2,)), ShapeError, "kernel_size"),
        (refused(kernel_size=0), ShapeError, "kernel_size"),
        (refused(kernel_size=2.0), DTypeError, "kernel_size"),
        (refused(output_size=9), ShapeError, "output_size"),
        (refused(F.fractional_max_pool3d, np.ones((1, 1, 5, 5, 5)), output_size=4), ShapeError, "output_size"),
        (refused(output_size=(4,)), ShapeError, "output_size"),
        (refused(output_size=-1), ShapeError, "output_size"),
        (refused(output_size=4.0), DTypeError, "output_size"),
        (refused(output_size=None), ShapeError, "output_size"),
        (refused(output_size=None, output_ratio=(0.5, 0.5, 0.5)), ShapeError, "output_ratio"),
        (refused(output_size=None, output_ratio=(-0.5, 0.5)), ShapeError, "output_ratio"),
        (refused(output_size=None, output_ratio="half"), DTypeError, "output_ratio"),
        (refused(_random_samples=samples(2, 2)), ShapeError, "_random_samples"),
        (refused(_random_samples=samples(1, 1, 2)), ShapeError, "_random_samples"),
        (refused(_random_samples=samples(1, 2, 3)), ShapeError, "_random_samples"),
        (refused(_random_samples=samples(1, 2, 2).astype("float32")), DTypeError, "_random_samples"),
        (refused(generator=3), DTypeError, "generator"),
    ],
)
def test_refusals(call, error, argument):
    with pytest.raises(error, match=f"fractional_max_pool[23]d: {argument}"):
        call()
