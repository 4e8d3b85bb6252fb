"""Dropout: which elements, how many, what they become, what the seed decides; and the generators."""

import numpy as np
import pytest

import fastconv.functional as F
from fastconv import random
from fastconv.autograd import Tensor, grad
from fastconv.backend import use_backend
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import require
from tests.gradients import check_gradients

CHANNELS = [
    (F.dropout1d, (50, 40, 6), 2),
    (F.dropout1d, (400, 6), 1),
    (F.dropout2d, (50, 40, 6, 5), 2),
    (F.dropout2d, (50, 40, 6), 2),
    (F.dropout3d, (50, 40, 3, 2, 4), 2),
    (F.dropout3d, (400, 3, 2, 4), 1),
    # What PyTorch warns of and does.
    (F.dropout2d, (50, 40), 2),
    (F.dropout2d, (50, 40, 6, 5, 2), 2),
    (F.dropout3d, (400, 3, 2), 1),
    (F.dropout3d, (400, 2, 3, 2, 4, 2), 1),
]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_are_zero_with_the_probability_or_scaled(p, dtype):
    x = np.full((100, 90), 3.0, dtype)
    y = F.dropout(x, p, generator=random.Generator(1))
    assert y.dtype == x.dtype
    kept = y != 0
    np.testing.assert_array_equal(y[kept], (x[kept] * np.asarray(1 / (1 - p), dtype)))
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / x.size) ** 0.5
    # Rows and columns too: neighbours are independent.
    both = (kept[:, 1:] & kept[:, :-1]).mean()
    assert abs(both - (1 - p) ** 2) < 6 * ((1 - p) ** 2 / x.size) ** 0.5


@pytest.mark.parametrize("function, shape, leading", CHANNELS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_whole_channels_are_dropped(function, shape, leading):
    y = function(np.ones(shape, "float32"), 0.4, generator=random.Generator(2))
    flat = y.reshape(*shape[:leading], -1)
    assert (flat == flat[..., :1]).all()
    kept = flat[..., 0] != 0
    np.testing.assert_array_equal(flat[kept], np.float32(1 / 0.6))
    assert abs(kept.mean() - 0.6) < 5 * (0.24 / kept.size) ** 0.5
    if leading == 2:  # each sample has its own
        assert (kept != kept[:1]).any()


ALL = [F.dropout, F.alpha_dropout, F.feature_alpha_dropout, F.dropout1d, F.dropout2d, F.dropout3d]


@pytest.mark.parametrize("function", ALL)
def test_no_probability_or_no_training_is_the_input(function):
    x = tensor(np.ones((2, 3, 4, 5) if function is F.dropout3d else (2, 3, 4)))
    assert function(x, 0.5, False) is x
    assert function(x, 0.0, True) is x
    np.testing.assert_array_equal(function(x, 1.0, True).data, np.zeros(x.shape))


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(200_000)
    y = F.alpha_dropout(x, 0.2, True, generator=random.Generator(3))
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03
    values, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / x.size - 0.2) < 0.005  # one value for all that is dropped
    assert values[counts.argmax()] < 0


@pytest.mark.parametrize("function", ALL)
def test_without_effect_anything_is_the_input(function):
    x = np.ones((2, 3, 4), int)
    assert function(x, 0.5, False) is x
    assert function(x, 0.0, True) is x
    empty = np.ones((2, 0, 4))
    np.testing.assert_array_equal(function(empty, 0.5, True), empty)


@pytest.mark.parametrize("p", [0.4, 1.0])
@pytest.mark.parametrize("function", ALL)
def test_what_is_no_number_stays_so(function, p):
    x = np.full((2, 40, 3, 1, 1) if function is F.dropout3d else (2, 40, 3), np.nan)
    x[1] = np.inf
    y = function(x, p, True, generator=random.Generator(1))
    assert np.isnan(y[0]).all()
    kept = np.isinf(y[1])
    assert np.isnan(y[1][~kept]).all()
    assert kept.any() == (p < 1)


def test_feature_alpha_dropout_drops_whole_channels():
    x = np.random.default_rng(0).standard_normal((400, 50, 4))
    y = F.feature_alpha_dropout(x, 0.3, True, generator=random.Generator(4))
    dropped = (y == y[..., :1]).all(-1)
    assert abs(dropped.mean() - 0.3) < 0.02
    assert len(np.unique(y[dropped])) == 1
    assert abs(y.mean()) < 0.03
    assert abs(y.var() - 1) < 0.04
    x[...] = 1.0
    scale = 1 / np.sqrt(0.7 * (1 + 0.3 * 1.7580993408473766**2))
    want = [scale * (0.3 - 1) * 1.7580993408473766, scale * (1 + 0.3 * 1.7580993408473766)]
    ones = F.feature_alpha_dropout(x, 0.3, True, generator=random.Generator(4))
    np.testing.assert_allclose(np.unique(ones), want, rtol=1e-14)


@pytest.mark.parametrize("function", ALL)
def test_a_seed_gives_one_mask_on_every_backend(function):
    x = np.ones((3, 4, 5, 2, 2) if function is F.dropout3d else (3, 4, 5), "float32")
    results = []
    for name in ("reference", "cpu", "emulated"):
        if name == "emulated":
            require("plain")
        with use_backend(name):
            results.append(function(x, 0.5, True, generator=random.Generator(9)).tobytes())
    assert len(set(results)) == 1


def test_the_gradient_goes_where_elements_were_kept():
    x = tensor(np.ones((20, 30)), requires_grad=True)
    y = F.dropout(x, 0.3)
    (dx,) = grad(y, x, tensor(np.full((20, 30), 2.0)))
    np.testing.assert_array_equal(dx.data, 2 * y.data)
    for function in (F.dropout, F.alpha_dropout, F.feature_alpha_dropout, F.dropout1d):
        check_gradients(lambda v, f=function: f(v * v, 0.4, True, generator=random.Generator(5)), np.ones((3, 4, 5)))


def test_the_seed_decides_the_mask():
    x = np.ones(1000, "float32")
    random.manual_seed(7)
    first, second = F.dropout(x), F.dropout(x)
    random.manual_seed(7)
    np.testing.assert_array_equal(F.dropout(x), first)
    assert (first != second).any()
    mine = random.Generator(7)
    np.testing.assert_array_equal(F.dropout(x, generator=mine), first)  # the library's own is a Generator too
    np.testing.assert_array_equal(F.dropout(x, generator=random.Generator(7)) != 0, first != 0)
    np.testing.assert_array_equal(F.dropout(x.astype("float64"), generator=random.Generator(7)) != 0, first != 0)


def test_generators_continue_from_a_state():
    generator, x = random.Generator(11), np.ones(100)
    F.dropout(x, generator=generator)
    state = generator.get_state()
    want = F.dropout(x, generator=generator)
    other = random.Generator(0)
    other.set_state(state)
    np.testing.assert_array_equal(F.dropout(x, generator=other), want)
    assert generator.initial_seed() == 11
    assert generator.manual_seed(12) is generator
    assert random.manual_seed(3).initial_seed() == 3
    with pytest.raises(DTypeError, match="Generator: seed"):
        random.Generator("a")


def test_inplace_is_taken_and_writes_nothing():
    x = np.ones((3, 4))
    F.dropout(x, 0.5, True, True)
    np.testing.assert_array_equal(x, 1)
    assert isinstance(F.dropout(tensor(x), 0.5), Tensor)
    assert F.dropout(np.array(1.0), 0.5).shape == ()
    assert F.dropout(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.dropout(np.ones(3), 1.5), ShapeError, "dropout: p: got 1.5"),
        (lambda: F.dropout(np.ones(3), -0.1, False), ShapeError, "dropout: p"),
        (lambda: F.dropout(np.ones(3), "a"), DTypeError, "dropout: p"),
        (lambda: F.dropout([1.0]), DTypeError, "dropout: input: got list"),
        (lambda: F.dropout(np.ones(3, int)), DTypeError, "dropout: input: got int64"),
        (lambda: F.dropout(np.ones(3), generator=np.random.default_rng()), DTypeError, "dropout: generator"),
        (lambda: F.dropout1d(np.ones(3)), ShapeError, "dropout1d: input: got 1 axes"),
        (lambda: F.dropout1d(np.ones((3, 4, 5, 6)), 1.0), ShapeError, "dropout1d: input: got 4 axes"),
        (lambda: F.dropout2d(np.ones(3)), ShapeError, "dropout2d: input: got 1 axes"),
        (lambda: F.dropout3d(np.ones(())), ShapeError, "dropout3d: input: got 0 axes"),
        (lambda: F.feature_alpha_dropout(np.ones(3), training=True), ShapeError, "feature_alpha_dropout: input"),
        (lambda: F.dropout2d(np.ones((3, 4), int)), DTypeError, "dropout2d: input: got int64"),
        (lambda: F.alpha_dropout(np.ones((3, 4), int), training=True), DTypeError, "alpha_dropout: input: got int64"),
        (lambda: F.alpha_dropout(np.ones(3), 2), ShapeError, "alpha_dropout: p"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
