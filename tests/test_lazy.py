"""Lazy layers: what they are before the first input and after it, and how they load and travel."""

import copy
import pickle

import numpy as np
import pytest

import fastconv
from fastconv import nn, optim
from fastconv.errors import DTypeError, ShapeError
from tests.witness import torch

# name, arguments, options, shape of an input
CASES = [
    ("LazyLinear", (3,), {}, (2, 4, 5)),
    ("LazyLinear", (3,), dict(bias=False), (5,)),
    ("LazyConv1d", (4, 3), {}, (2, 3, 7)),
    ("LazyConv2d", (6, (3, 2)), dict(stride=2, padding=1, groups=2, bias=False), (2, 4, 7, 6)),
    ("LazyConv2d", (4, 3), dict(padding="same", padding_mode="reflect"), (3, 7, 6)),
    ("LazyConv3d", (2, 2), dict(dilation=2), (1, 2, 4, 5, 4)),
    ("LazyConvTranspose1d", (4, 3), dict(groups=2), (2, 4, 7)),
    ("LazyConvTranspose2d", (4, 3), dict(stride=2, output_padding=1, dilation=2), (2, 3, 4, 5)),
    ("LazyConvTranspose3d", (2, 2), {}, (2, 3, 4, 3)),
    ("LazyBatchNorm1d", (), {}, (4, 3)),
    ("LazyBatchNorm1d", (), dict(eps=0.1), (4, 3, 5)),
    ("LazyBatchNorm2d", (), dict(momentum=0.3, affine=False), (4, 3, 5, 2)),
    ("LazyBatchNorm3d", (), dict(track_running_stats=False), (2, 3, 2, 3, 4)),
    ("LazyInstanceNorm1d", (), {}, (2, 3, 5)),
    ("LazyInstanceNorm2d", (), {}, (2, 3, 5, 4)),
    ("LazyInstanceNorm3d", (), {}, (2, 3, 5, 4, 2)),
]


@pytest.mark.parametrize("name, arguments, options, shape", CASES, ids=str)
def test_they_turn_into_pytorchs(name, arguments, options, shape):
    ours, theirs = getattr(nn, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.has_uninitialized_params() == theirs.has_uninitialized_params()
    held = list(ours.parameters())
    y = ours(x)
    theirs(torch.from_numpy(x))
    assert type(ours) is getattr(nn, name.removeprefix("Lazy"))
    assert repr(ours) == repr(theirs)
    assert all(a is b for a, b in zip(held, ours.parameters(), strict=True))
    assert all(type(p) is nn.Parameter for p in held)
    state, expected = ours.state_dict(), theirs.state_dict()
    assert {key: value.shape for key, value in state.items()} == {k: tuple(v.shape) for k, v in expected.items()}
    theirs.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    with torch.no_grad():
        wanted = theirs.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.eval()(x).data, wanted, rtol=1e-4, atol=1e-5)
    assert y.shape == ours(x).shape


def network():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


X = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype("float32")


def test_a_state_dict_gives_them_their_shapes():
    trained, lazy = network(), network()
    trained(X)
    lazy.load_state_dict(trained.state_dict())
    assert not lazy[0].has_uninitialized_params()
    np.testing.assert_array_equal(lazy.eval()(X).data, trained.eval()(X).data)
    assert type(lazy[0]) is nn.Conv2d
    assert lazy[0].in_channels == 3
    waiting = network()
    waiting.load_state_dict(network().state_dict())
    assert waiting[4].has_uninitialized_params()
    assert waiting(X).shape == (2, 3)


def test_they_can_be_copied_pickled_and_cast():
    for made in (copy.deepcopy(network()), pickle.loads(pickle.dumps(network())), network().double()):
        x = X.astype(made[0].weight.dtype)
        assert made(x).shape == (2, 3)
        assert {p.dtype for p in made.parameters()} == {x.dtype}


def test_an_optimiser_may_hold_them_before():
    fastconv.manual_seed(0)
    made = network()
    optimizer = optim.SGD(made.parameters(), lr=0.1)
    made(X).sum().backward()
    before = made[4].weight.data.copy()
    optimizer.step()
    assert not np.array_equal(before, made[4].weight.data)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: nn.LazyConv2d(4, 3)(X[0, 0]), ShapeError, "LazyConv2d: input: got"),
        (lambda: nn.LazyConv2d(4, 3, groups=2)(X), ShapeError, "LazyConv2d: groups: got 2"),
        (lambda: nn.LazyConv2d(4, 3)([1.0]), DTypeError, "LazyConv2d: input: got list"),
        (lambda: nn.LazyBatchNorm2d()(X[0]), ShapeError, "LazyBatchNorm2d: input: got"),
        (lambda: nn.LazyLinear(4)(np.array(1.0)), ShapeError, "LazyLinear: input: got"),
        (lambda: nn.LazyConvTranspose2d(4, 3, padding_mode="reflect"), ShapeError, "padding_mode"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
