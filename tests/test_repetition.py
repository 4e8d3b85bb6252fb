"""Repetition and parts of matrices: what PyTorch's samples do not ask. Those are in test_torch_tensor_samples.py."""

import numpy as np
import pytest

import fastconv
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import check_like_torch, torch


def normal(*shape):
    return np.asarray(np.random.default_rng(0).standard_normal(shape))


CALLS = [
    (lambda x: x.repeat(2, 1, 3), lambda x: x.repeat(2, 1, 3)),
    (lambda x: x.repeat((0, 2)), lambda x: x.repeat((0, 2))),
    (lambda x: x.tile(3), lambda x: x.tile(3)),
    (lambda x: x.tile((2, 1, 2)), lambda x: x.tile((2, 1, 2))),
    (lambda x: x.repeat_interleave(2, 1), lambda x: x.repeat_interleave(2, 1)),
    (lambda x: x.repeat_interleave(2), lambda x: x.repeat_interleave(2)),
    (lambda x: x.repeat_interleave(np.array([0, 2, 1]), 0), lambda x: x.repeat_interleave(torch.tensor([0, 2, 1]), 0)),
    (lambda x: x.tril(1), lambda x: x.tril(1)),
    (lambda x: x.triu(-1), lambda x: x.triu(-1)),
    (lambda x: x.expand_as(np.zeros((2, 3, 4))), lambda x: x.expand_as(torch.zeros(2, 3, 4))),
    (lambda x: x.view_as(np.zeros((2, 6))), lambda x: x.view_as(torch.zeros(2, 6))),
    (lambda x: x.reshape_as(np.zeros(12)), lambda x: x.reshape_as(torch.zeros(12))),
    (lambda x: x.clamp_min(-0.1).clamp_max(0.2), lambda x: x.clamp_min(-0.1).clamp_max(0.2)),
    (lambda x: x.t().ravel(), lambda x: x.t().ravel()),
    (lambda x: x.swapaxes(0, -1), lambda x: x.swapaxes(0, -1)),
]


@pytest.mark.parametrize("ours, theirs", CALLS, ids=[str(i) for i in range(len(CALLS))])
def test_methods_are_pytorchs_and_have_two_derivatives(ours, theirs):
    check_like_torch(lambda x: _as_given(ours, x), theirs, normal(3, 4))
    check_gradients(lambda x: ours(x * x), normal(3, 4))


def _as_given(call, x):
    return call(x) if hasattr(x, "requires_grad") else call(tensor(x)).data


def test_what_stands_outside_a_triangle_is_zero_whatever_it_was():
    x = np.full((2, 2), np.nan)
    np.testing.assert_array_equal(fastconv.triu(x), [[np.nan, np.nan], [0, np.nan]])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: x.repeat(2), ShapeError, "repeat: repeats"),
        (lambda x: x.repeat(2, -1), ShapeError, "repeat: repeats"),
        (lambda x: x.repeat(2, 1.5), DTypeError, "repeat: repeats"),
        (lambda x: x.repeat_interleave(-1, 0), ShapeError, "repeat_interleave: repeats: got -1"),
        (lambda x: x.repeat_interleave(np.array([1, 2]), 0), ShapeError, "repeat_interleave: repeats"),
        (lambda x: x.repeat_interleave(np.array([1.0, 2, 3]), 0), DTypeError, "repeat_interleave: repeats"),
        (lambda x: fastconv.repeat_interleave(x, 2, 0, output_size=5), ShapeError, "repeat_interleave: output_size"),
        (lambda x: x[0].tril(), ShapeError, "tril: input"),
        (lambda x: x.triu(0.5), DTypeError, "triu: diagonal"),
        (lambda x: x.expand_as(np.zeros((2, 4))), ShapeError, "broadcast_to: shape"),
        (lambda x: x.unsqueeze(0).t(), ShapeError, "t: input"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(tensor(normal(3, 4)))
