"""PyTorch's own samples of its operators: values, gradients, second derivatives and refusals, on every backend.

torch.testing keeps for each operator a list of calls that have to work and one of calls that have to fail. They were
written by others, for another implementation, which makes them a witness that knows none of our assumptions.
"""

import inspect
import warnings

import numpy as np
import pytest

from fastconv import backend, functional, nn
from fastconv.autograd import Tensor, grad
from fastconv.creation import tensor
from fastconv.errors import FastconvError
from tests.emulation import require
from tests.witness import ROUNDINGS, allowance, same_dtype, to_numpy, torch

methods = pytest.importorskip("torch.testing._internal.common_methods_invocations", reason="PyTorch's samples")

PREFIX = "nn.functional."

# Operators that draw numbers: only shape and dtype can be compared. Their distributions have tests of their own.
RANDOM = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu",
    "fractional_max_pool2d", "fractional_max_pool3d", "gumbel_softmax",
}  # fmt: skip

# Functions whose arguments a sample names in another order than PyTorch does.
ORDER = {"embedding": lambda function: lambda weight, input, **named: function(input, weight, **named)}

# Samples that we answer differently on purpose: operator and a function of the sample; why stands beside it.
DIFFERENT = {
    # Weights that are drawn.
    "scaled_dot_product_attention": lambda sample: sample.kwargs.get("dropout_p", 0.0) > 0.0,
    # PyTorch multiplies the gradient with 1 / 6 of float32, in float64 too.
    "hardsigmoid": lambda sample: sample.input.dtype == torch.float64,
}

# Calls that PyTorch refuses and we accept on purpose: operator and part of PyTorch's message; why stands beside it.
ACCEPTED = {}

# Every so many samples are run on the backends that are slow; cpu runs all.
STEPS = {"cpu": 1, "reference": 7, "emulated": 7}


def _operators(wanted=lambda info: True):
    """(name, OpInfo) of what both libraries have."""
    found = []
    for info in methods.op_db:
        name = info.name.removeprefix(PREFIX)
        if not info.name.startswith(PREFIX) or name not in functional.__all__ or not wanted(info):
            continue
        if "complex" not in info.variant_test_name:
            found.append(pytest.param(name, info, id=f"{name}-{info.variant_test_name}".rstrip("-")))
    return found


def _converted(value, convert):
    """value with every torch tensor in it, however deep, converted."""
    if isinstance(value, torch.Tensor):
        return convert(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_converted(v, convert) for v in value)
    if isinstance(value, dict):
        return {key: _converted(v, convert) for key, v in value.items()}
    if isinstance(value, torch.nn.Module) and convert is _ours:
        return getattr(nn, type(value).__name__)()
    return _dtype(value) if convert is _ours else value


def _dtype(value):
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def _ours(value):
    """A Tensor of the values, strides and dtype of a torch tensor; an array where it requires no gradient."""
    array = value.detach().numpy().copy(order="K")
    return tensor(array, requires_grad=True) if value.requires_grad else array


def _leaves(value, kind):
    """Every Tensor of a kind in value that requires a gradient, from left to right."""
    if isinstance(value, kind):
        return [value] if value.requires_grad else []
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for v in value for leaf in _leaves(v, kind)] if isinstance(value, (tuple, list)) else []


def _call(function, sample, convert):
    """The results of function as a tuple, and the leaves among its arguments."""
    arguments = _converted((sample.input, *sample.args), convert)
    named = _converted(sample.kwargs, convert)
    kind = Tensor if convert is _ours else torch.Tensor
    # The other ways to attention have no second derivatives.
    composed = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with warnings.catch_warnings(), composed:
        # PyTorch's advice to its users, and ours where we give the same
        warnings.simplefilter("ignore", Warning if kind is torch.Tensor else UserWarning)
        results = function(*arguments, **named)
    return results if isinstance(results, tuple) else (results,), _leaves((arguments, named), kind)


def _function(name):
    return ORDER.get(name, lambda function: function)(getattr(functional, name))


def _compare(what, mine, theirs, dtype, moved=None):
    """Fail where the two differ by more than rounding.

    Terms that all but cancel leave errors that the result does not show the size of. Where the difference is too
    large for the result, `moved` is asked for PyTorch's own result of inputs that differ by a rounding: what that
    changes is what one rounding is worth.
    """
    mine, theirs = np.asarray(mine.data if isinstance(mine, Tensor) else mine), to_numpy(theirs)
    assert mine.shape == theirs.shape, f"{what}: shape {mine.shape}, not {theirs.shape}"
    allowed = allowance(theirs, dtype)
    if moved is not None and not np.all(abs(mine - theirs) <= allowed):
        allowed += ROUNDINGS * np.nanmax(abs(to_numpy(moved()) - theirs), initial=0.0)
    np.testing.assert_allclose(mine.astype("float64"), theirs, rtol=0, atol=allowed, err_msg=what)


def _compare_sample(name, info, sample, dtype):
    theirs, other = _call(info.op, sample, lambda t: t)
    results, leaves = _call(_function(name), sample, _ours)
    assert len(results) == len(theirs)
    for y, expected in zip(results, theirs, strict=True):
        assert y.shape == tuple(expected.shape), f"shape {y.shape}, not {tuple(expected.shape)}"
        assert same_dtype(y, expected), f"dtype {y.dtype}, not {expected.dtype}"
        if name not in RANDOM:
            _compare("value", y, expected, dtype)
    y, expected = results[0], theirs[0]
    assert len(leaves) == len(other)
    if name in RANDOM or not expected.requires_grad:
        return
    assert y.requires_grad, "no gradient was recorded"
    rng = np.random.default_rng(0)
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    gradients = grad(y, leaves, tensor(dy), create_graph=True, allow_unused=True)
    wanted = torch.autograd.grad(expected, other, torch.from_numpy(dy), create_graph=True, allow_unused=True)
    for i, (g, w) in enumerate(zip(gradients, wanted, strict=True)):
        if w is None:
            assert g is None or not g.data.any()
        else:
            _compare(f"gradient {i}", g, w, dtype)
    if dtype == "float64" and info.supports_gradgrad and any(w is not None for w in wanted):
        _compare_second(gradients, wanted, leaves, other, lambda: _moved_second(info, sample))


def _compare_second(gradients, wanted, leaves, other, moved):
    """Gradients of a random projection of the gradients."""
    slope, theirs = (_projected(g, wanted) for g in (gradients, wanted))
    if not theirs.requires_grad:
        assert not slope.requires_grad or all(
            g is None or not g.data.any() for g in grad(slope, leaves, allow_unused=True)
        )
        return
    second = torch.autograd.grad(theirs, other, allow_unused=True)
    mine = grad(slope, leaves, allow_unused=True) if slope.requires_grad else [None] * len(leaves)
    for i, (g, w) in enumerate(zip(mine, second, strict=True)):
        if w is None or (w.abs() < 1e-12).all():
            assert g is None or np.abs(g.data).max(initial=0) < 1e-12, f"second derivative {i} is not zero"
        else:
            assert g is not None, f"second derivative {i} is missing"
            _compare(f"second derivative {i}", g, w, "float64", lambda i=i: moved()[i])


def _projected(gradients, wanted):
    """The sum of the gradients, each times random numbers, where they are wanted."""
    rng = np.random.default_rng(1)
    slopes = []
    for g, w in zip(gradients, wanted, strict=True):
        if w is not None:
            direction = rng.standard_normal(tuple(w.shape))
            slopes.append((g * (direction if isinstance(g, Tensor) else torch.from_numpy(direction))).sum())
    return sum(slopes[1:], slopes[0])


def _moved_second(info, sample):
    """PyTorch's second derivatives at inputs that differ by about a rounding from those of the sample."""
    generator = torch.Generator().manual_seed(0)

    def move(value):
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return value
        signs = torch.randint(0, 2, value.shape, generator=generator).to(value.dtype) * 2 - 1
        return (value.detach() * (1 + signs * torch.finfo(value.dtype).eps)).requires_grad_()

    theirs, leaves = _call(info.op, sample.transform(move), lambda t: t)
    dy = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(theirs[0].shape)))
    gradients = torch.autograd.grad(theirs[0], leaves, dy, create_graph=True, allow_unused=True)
    return torch.autograd.grad(_projected(gradients, gradients), leaves, allow_unused=True)


def _described(sample):
    """A sample in words, short enough to be read in a failure."""

    def words(value):
        return f"{list(value.shape)} {_dtype(value.dtype)}"

    text = ", ".join(map(str, _converted((sample.input, *sample.args), words)))
    return text + "".join(f", {key}={_converted(value, words)}" for key, value in sample.kwargs.items())


def _report(failures, count):
    assert not failures, f"{len(failures)} of {count}\n" + "\n".join(failures[:8])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("operator", "info"), _operators())
def test_samples(operator, info, dtype, name):
    if name == "emulated":
        require("plain")
    if getattr(torch, dtype) not in info.dtypes:
        pytest.skip(f"PyTorch has no {operator} of {dtype}")
    torch.manual_seed(0)
    samples = list(info.sample_inputs("cpu", getattr(torch, dtype), requires_grad=info.supports_autograd))
    failures = []
    for sample in samples[:: STEPS[name]]:
        if DIFFERENT.get(operator, lambda _: False)(sample):
            continue
        try:
            with backend.use_backend(name):
                _compare_sample(operator, info, sample, dtype)
        except Exception as error:  # all of them are told at once
            failures.append(f"{_described(sample)}\n    {type(error).__name__}: {error}")
    _report(failures, len(samples))


@pytest.mark.parametrize(("operator", "info"), _operators(lambda info: info.error_inputs_func is not None))
def test_refusals(operator, info):
    failures, errors = [], list(info.error_inputs("cpu"))
    for error in errors:
        if any(part in error.error_regex for part in ACCEPTED.get(operator, ())):
            continue
        try:
            _call(_function(operator), error.sample_input, _ours)
        except FastconvError as refused:
            if not isinstance(refused, (ValueError, TypeError)):
                failures.append(f"{_described(error.sample_input)}\n    {refused!r}")
        except Exception as other:
            failures.append(f"{_described(error.sample_input)}\n    {other!r}, not {error.error_regex!r}")
        else:
            failures.append(f"{_described(error.sample_input)}\n    accepted, PyTorch says {error.error_regex!r}")
    _report(failures, len(errors))


@pytest.mark.parametrize(("operator", "info"), _operators())
def test_parameters_are_those_of_pytorch(operator, info):
    theirs = inspect.unwrap(getattr(torch.nn.functional, operator))
    if not inspect.isfunction(theirs):  # built in, without a signature; or one of two functions, as of pooling
        return
    expected = inspect.signature(theirs)
    if "args" in expected.parameters:
        return
    mine = inspect.signature(getattr(functional, operator))
    for ours, other in zip(mine.parameters.values(), expected.parameters.values(), strict=False):
        assert ours.name == other.name, f"{mine} and {expected}"
        assert repr(ours.default) == repr(other.default), f"{mine} and {expected}"
