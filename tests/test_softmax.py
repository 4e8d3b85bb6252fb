"""Softmax and its relatives: axes, dtypes, extremes and refusals of PyTorch; samples of the Gumbel distribution.

Values, gradients, dtypes and storage of the three that draw nothing are tested with the activations.
"""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv.autograd import Tensor, grad
from fastconv.backend import use_backend
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.random import Generator
from tests.emulation import require
from tests.gradients import check_gradients
from tests.witness import as_torch, check_like_torch, torch

NAMES = ("softmax", "log_softmax", "softmin")


def normal(*shape, seed=0):
    return np.asarray(2 * np.random.default_rng(seed).standard_normal(shape))


def both(name, options):
    return (lambda x: getattr(F, name)(x, **options)), (lambda x: getattr(T, name)(x, **options))


def test_softmax_does_not_overflow():
    x = np.array([[1e4, 1e4 - 1, 0.0], [-1e4, -1e4, -1e4 - 2], [-np.inf, 0.0, -np.inf]])
    for name in ("softmax", "log_softmax"):
        check_like_torch(*both(name, {"dim": 1}), x)
    spoilt = np.array([[np.inf, 1.0], [np.nan, 1.0], [-np.inf, -np.inf]])
    for name in ("softmax", "log_softmax"):
        ours, theirs = both(name, {"dim": 1})
        np.testing.assert_array_equal(ours(spoilt), theirs(as_torch(spoilt)).numpy())


@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")  # PyTorch's
@pytest.mark.parametrize("shape", [(4,), (4, 5), (2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_softmax_without_an_axis_is_pytorchs(shape):
    for name in ("softmax", "log_softmax"):
        check_like_torch(*both(name, {}), normal(*shape))


def test_softmax_in_another_dtype():
    x = normal(3, 4).astype("float32")
    y = F.softmax(x, 1, dtype="float64")
    np.testing.assert_allclose(y, T.softmax(as_torch(x), 1, dtype=torch.float64).numpy(), rtol=1e-14)
    assert F.log_softmax(tensor(x, requires_grad=True), -1, dtype="float16").dtype == np.float16


def test_softmax_of_an_array_without_axes():
    for name in ("softmax", "log_softmax"):
        check_like_torch(*both(name, {"dim": 0}), np.array(3.0))


@pytest.mark.parametrize("name", NAMES)
def test_the_stack_level_of_pytorch_has_its_place(name):
    x = normal(3, 4).astype("float32")
    np.testing.assert_array_equal(getattr(F, name)(x, 1, 3, "float64"), getattr(F, name)(x.astype("float64"), 1))


@pytest.mark.parametrize("dtype", ["int64", "bool"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_integers_need_a_dtype(name, dtype):
    x = np.array([[0, 1, 3]]).astype(dtype)
    y = getattr(F, name)(x, 1, dtype="float32")
    np.testing.assert_allclose(y, getattr(T, name)(as_torch(x), 1, dtype=torch.float32).numpy(), rtol=1e-6)
    with pytest.raises(DTypeError, match=f"{name}: input: got {dtype}"):
        getattr(F, name)(x, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gumbel_samples_have_the_probabilities_of_their_logits(dtype):
    logits = np.log(np.array([0.1, 0.6, 0.3]))
    x = np.broadcast_to(logits, (20_000, 3)).astype(dtype)
    y = F.gumbel_softmax(x, hard=True, generator=Generator(1))
    assert y.dtype == x.dtype
    assert ((y == 0) | (y == 1)).all()
    assert (y.sum(1) == 1).all()
    np.testing.assert_allclose(y.astype("float64").mean(0), [0.1, 0.6, 0.3], atol=0.02)
    soft = F.gumbel_softmax(x, 0.5, generator=Generator(1))
    assert (soft.argmax(1) != y.argmax(1)).mean() < 1e-3  # equals of float16
    np.testing.assert_allclose(soft.astype("float64").sum(1), 1, rtol=4e-3 if dtype == "float16" else 1e-6)
    sharp = F.gumbel_softmax(x, 0.01, generator=Generator(1))
    assert abs(sharp.astype("float64") - y).mean() < 0.02


def test_hard_samples_have_the_gradient_of_soft_ones():
    x = normal(4, 5)
    dy = tensor(normal(4, 5, seed=1))
    gradients = []
    for hard in (False, True):
        leaf = tensor(x, requires_grad=True)
        y = F.gumbel_softmax(leaf, 0.7, hard, dim=0, generator=Generator(3))
        gradients.append(grad(y, leaf, dy)[0].data)
    np.testing.assert_array_equal(*gradients)
    check_gradients(lambda v: F.gumbel_softmax(v, 0.7, dim=1, generator=Generator(3)), x)


def test_gumbel_samples_of_a_seed_are_the_same_on_every_backend():
    x, results = normal(3, 4).astype("float32"), []
    for name in ("reference", "cpu", "emulated"):
        if name == "emulated":
            require("plain")
        with use_backend(name):
            results.append(F.gumbel_softmax(x, generator=Generator(2)))
    np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=1e-6)


@pytest.mark.parametrize("shape, dim", [((0, 3), 1), ((2, 0), 0), ((), -1), ((), 0)])
@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_samples_of_little(shape, dim, hard):
    y = F.gumbel_softmax(tensor(np.zeros(shape)), hard=hard, dim=dim)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, np.ones(shape))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.softmax(x, 2), ShapeError, "softmax: dim: got 2"),
        (lambda x: F.log_softmax(x, "a"), DTypeError, "log_softmax: dim"),
        (lambda x: F.softmax(x, 0, dtype="text"), DTypeError, "cast: dtype"),
        (lambda x: F.gumbel_softmax(x, dim=3), ShapeError, "gumbel_softmax: dim: got 3"),
        (lambda x: F.gumbel_softmax(x, "a"), DTypeError, "gumbel_softmax: tau"),
        (lambda x: F.gumbel_softmax(x, generator=1), DTypeError, "gumbel_softmax: generator"),
        (lambda x: F.gumbel_softmax(x.astype(int)), DTypeError, "gumbel_softmax: logits: got int64"),
        (lambda x: F.gumbel_softmax(x[:, :0], hard=True), ShapeError, "gumbel_softmax: logits"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(2, 3))
