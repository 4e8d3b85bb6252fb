"""Calls drawn at random: PyTorch and we agree in values, shapes, dtypes, indices and gradients, or both refuse."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fastconv import functional
from fastconv.autograd import Tensor, grad
from fastconv.creation import tensor
from fastconv.errors import FastconvError
from tests.strategies import IMAGES
from tests.strategies_pointwise import POINTWISE
from tests.witness import ROUNDINGS, allowance, as_torch, same_dtype, to_numpy, torch

CASES = 2000  # a family

FAMILIES = {**IMAGES, **POINTWISE}

# Functions in whose gradients PyTorch rounds a constant, 1/6 or 1/alpha, to float32 whatever the dtype.
COARSE = {"hardsigmoid", "celu"}

# Linear functions of which PyTorch's gradient is not always that of its result; ours then has to be that of the result.
LINEAR = {"interpolate"}


def _theirs(call):
    """Results and arguments of PyTorch; instead of results what it raises."""
    args = [
        as_torch(a, requires_grad=i not in call.constants) if isinstance(a, np.ndarray) else a
        for i, a in enumerate(call.args)
    ]
    kwargs = {k: as_torch(v) if isinstance(v, np.ndarray) else v for k, v in call.kwargs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = getattr(torch.nn.functional, call.name)(*args, **kwargs)
    except Exception as error:  # whatever it raises, it is no answer
        return error, args
    return results if isinstance(results, tuple) else (results,), args


def _mine(call):
    """Results and arguments of ours; instead of results the refusal."""
    args = [
        tensor(a.copy(), requires_grad=a.dtype.kind == "f" and i not in call.constants)
        if isinstance(a, np.ndarray)
        else a
        for i, a in enumerate(call.args)
    ]
    kwargs = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in call.kwargs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice, as PyTorch's
            results = getattr(functional, call.name)(*args, **kwargs)
    except FastconvError as error:
        assert isinstance(error, (ValueError, TypeError)), f"{call}: {error!r}"
        return error, args
    return results if isinstance(results, tuple) else (results,), args


def _close(mine, theirs, dtype, what):
    mine, theirs = mine.data.astype("float64"), to_numpy(theirs)
    assert mine.shape == theirs.shape, f"{what}: shape {mine.shape}, not {theirs.shape}"
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=allowance(theirs, dtype), err_msg=what)


def _differs_on_purpose(call, mine):
    """Whether max pooling meets a window without any element, for which PyTorch gives an index outside the input."""
    return call.name.startswith("max_pool") and isinstance(mine, Exception) and mine.argument == "dilation"


def _compare(call):
    expected, other = _theirs(call)
    results, args = _mine(call)
    if _differs_on_purpose(call, results):
        return
    if isinstance(results, Exception):
        # Where nothing is to be computed PyTorch leaves arguments unchecked that it refuses otherwise.
        refused = isinstance(expected, Exception) or not any(want.numel() for want in expected)
        assert refused, f"{call}: we say {results!r}, PyTorch {expected!r}"
        return
    if isinstance(expected, Exception):
        # An empty result is right where PyTorch stumbles over an empty input.
        assert not any(y.data.size for y in results), f"{call}: we say {results!r}, PyTorch {expected!r}"
        return
    dtype = "float32" if call.name in COARSE else call.args[0].dtype
    for y, want in zip(results, expected, strict=True):
        assert y.shape == tuple(want.shape), f"{call}: shape {y.shape}, not {tuple(want.shape)}"
        assert same_dtype(y, want), f"{call}: {y.dtype}, not {want.dtype}"
        _close(y, want, dtype, f"{call}: value")
    for i in call.constants:
        if call.args[i] is not None and call.args[0].size:  # no images leave statistics as they were; PyTorch's get NaN
            _close(args[i], other[i], dtype, f"{call}: argument {i} afterwards")
    y, want = results[0], expected[0]
    if want.requires_grad and y.data.size and np.isfinite(call.args[0]).all():
        _compare_gradients(call, dtype, y, want, args, other)


def _compare_gradients(call, dtype, y, want, args, other):
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)
    leaves = [a for a in other if isinstance(a, torch.Tensor) and a.requires_grad]
    wanted = torch.autograd.grad(want, leaves, torch.from_numpy(dy), allow_unused=True)
    leaves = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
    gradients = grad(y, leaves, tensor(dy), allow_unused=True)
    if call.name in LINEAR and not _is_transpose(wanted[0], call.args[0], want, dy):
        assert _is_transpose(gradients[0].data, call.args[0], want, dy), call
        return
    for i, (g, w) in enumerate(zip(gradients, wanted, strict=True)):
        if w is None:
            assert g is None or not g.data.any()
        else:
            _close(g, w, dtype, f"{call}: gradient {i}")


def _is_transpose(dx, x, y, dy):
    """Whether dx could be the gradient of a linear function with the result y of x."""
    y, dx = to_numpy(y), np.asarray(dx, "float64")
    allowed = ROUNDINGS * np.finfo(x.dtype).eps * max(abs(y * dy).sum(), abs(x * dx).sum())
    return abs((y * dy).sum() - (x * dx).sum()) <= allowed


@pytest.mark.parametrize("family", FAMILIES)
def test_random_calls(family):
    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(FAMILIES[family]())
    def compare(call):
        if call.name in functional.__all__:
            _compare(call)

    compare()
