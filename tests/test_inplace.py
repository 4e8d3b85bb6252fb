"""Functions and methods that write to their input: PyTorch's values and gradients, views, and what is refused."""

import numpy as np
import pytest
import torch.nn.functional as T

import fastconv
import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, GraphError, ShapeError
from tests.witness import as_torch, torch


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


FUNCTIONS = [
    ("relu_", ()),
    ("celu_", (0.7,)),
    ("elu_", (0.7,)),
    ("selu_", ()),
    ("leaky_relu_", (0.2,)),
    ("hardtanh_", (-0.5, 0.3)),
    ("threshold_", (0.1, 2.0)),
    ("rrelu_", (0.25, 0.25)),
]


@pytest.mark.parametrize("name, options", FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_functions_are_pytorchs(name, options):
    x = normal(4, 5)
    array, theirs = x.copy(), as_torch(x)
    y = getattr(F, name)(array, *options)
    assert y is array
    np.testing.assert_allclose(array, getattr(T, name)(theirs, *options).numpy(), rtol=1e-6)
    leaf, other = tensor(x.copy(), requires_grad=True), as_torch(x, True)
    middle, middle_other = leaf * 2, other * 2
    y = getattr(F, name)(middle, *options)
    assert y is middle
    want = getattr(T, name)(middle_other, *options)
    dy = normal(4, 5, seed=1)
    (dx,) = grad(middle * middle, leaf, tensor(dy))
    np.testing.assert_allclose(dx.data, torch.autograd.grad(want * want, other, as_torch(dy))[0].numpy(), rtol=1e-6)


METHODS = [
    ("add_", (2.0,)), ("sub_", (normal(5, seed=3),)), ("mul_", (normal(4, 5, seed=3),)), ("div_", (3,)), ("neg_", ()),
    ("abs_", ()), ("pow_", (2,)), ("exp_", ()), ("clamp_", (-0.5, 0.5)), ("sigmoid_", ()), ("tanh_", ()), ("relu_", ()),
    ("masked_fill_", (normal(4, 1) > 0, 7.0)), ("fill_", (7.0,)), ("zero_", ()), ("copy_", (normal(5, seed=3),)),
]  # fmt: skip


@pytest.mark.parametrize("name, arguments", METHODS, ids=[name for name, _ in METHODS])
def test_methods_are_pytorchs(name, arguments):
    x = normal(4, 5)
    leaf, other = tensor(x, requires_grad=True), as_torch(x, True)
    y, want = leaf * 1, other * 1
    assert getattr(y, name)(*arguments) is y
    getattr(want, name)(*(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments))
    np.testing.assert_allclose(y.data, want.detach().numpy(), rtol=1e-12)
    (dx,) = grad(y, leaf, tensor(np.ones_like(x)))
    (expected,) = torch.autograd.grad(want, other, torch.ones(4, 5).double())
    np.testing.assert_allclose(dx.data, expected.numpy(), rtol=1e-12)


def test_views_and_other_dtypes_see_it():
    x = np.zeros((3, 4), "float32")
    t = tensor(x)
    t[1].add_(1.0)
    tensor(x[:, 0]).add_(np.ones(3))
    np.testing.assert_array_equal(x, [[1, 0, 0, 0], [2, 1, 1, 1], [1, 0, 0, 0]])
    assert t.add_(np.ones(4)).dtype == np.float32
    assert tensor(np.ones(2, "int32")).mul_(np.array([2, 3])).dtype == np.int32


def test_a_gradient_of_what_is_added_is_recorded():
    w = tensor(normal(3), requires_grad=True)
    t = tensor(np.zeros(3))
    t.add_(w * w)
    assert t.requires_grad
    np.testing.assert_allclose(grad(t.sum(), w)[0].data, 2 * w.data)


def test_what_is_overwritten_while_it_is_needed_is_noticed():
    x = tensor(normal(3), requires_grad=True)
    y = fastconv.exp(x)  # its gradient reads the result
    y.add_(1.0)
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


def test_within_no_grad_a_leaf_is_written_to():
    w = tensor(np.ones(3), requires_grad=True)
    with fastconv.no_grad():
        w.mul_(2.0)
    assert w.requires_grad
    assert w.is_leaf
    np.testing.assert_array_equal(w.data, 2)


def read_only():
    x = np.ones(3)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.relu_(tensor(np.ones(3), requires_grad=True)), GraphError, "relu_: input"),
        (lambda: F.relu_(read_only()), ShapeError, "relu_: input"),
        (lambda: F.relu_([1.0]), DTypeError, "relu_: input"),
        (lambda: F.elu_(np.ones(3, int)), DTypeError, "elu: input: got int64"),
        (lambda: F.hardtanh_(np.ones(3), 1, -1), ShapeError, "hardtanh: min_val"),
        (lambda: tensor(np.ones(3)).add_(np.ones((2, 3))), ShapeError, "add_: input"),
        (lambda: tensor(np.ones(3, int)).add_(0.5), DTypeError, "add_: input: got int64"),
        (lambda: tensor(np.ones(3)).copy_(np.ones(2)), ShapeError, "broadcast_to: shape"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
