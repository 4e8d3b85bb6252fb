"""PyTorch's own samples of functions of tensors that are no layers, called as functions and as methods."""

import numpy as np
import pytest

import fastconv
from fastconv import backend, functional
from fastconv.autograd import Tensor
from fastconv.errors import FastconvError
from tests.test_torch_samples import _call, _compare_sample, _described, _ours, _report, methods
from tests.witness import torch

# Functions of both libraries, and methods of tensors that are no functions.
FUNCTIONS = (
    "argsort", "bmm", "cumsum", "dot", "einsum", "gather", "index_select", "masked_fill", "mm", "mv", "narrow", "norm",
    "outer", "prod", "ravel", "repeat_interleave", "roll", "select", "sort", "swapaxes", "t", "take_along_dim", "tile",
    "topk", "tril", "triu", "unbind",
    "cat", "log_softmax", "softmax", "std", "var",
    "ceil", "floor", "logical_and", "logical_not", "logical_or", "logical_xor", "round", "trunc",
)  # fmt: skip
METHODS = ("T", "clamp_max", "clamp_min", "expand", "expand_as", "mT", "repeat", "view", "view_as")

# Samples that we answer differently on purpose; why stands beside it.
DIFFERENT = {
    # There are no singular values here.
    "norm": lambda sample: "nuc" in (*sample.args, sample.kwargs.get("p")),
}

# Calls that PyTorch refuses and we accept on purpose, by part of PyTorch's message; why stands beside it.
ACCEPTED = {
    # No function here writes its result where it is told.
    **dict.fromkeys(("gather", "index_select"), ("unsupported operation", "Expected out tensor")),
    "cat": ("unsupported operation", "single memory location", "must be tuple of Tensors"),
}


def of_db(names, wanted=lambda info: True):
    found = [info for info in methods.op_db if info.name in names and wanted(info)]
    return [pytest.param(info, id=f"{info.name}-{info.variant_test_name}".rstrip("-")) for info in found]


def ours(name):
    """The function or method of ours under a name of PyTorch's."""
    if name == "einsum":  # whose samples have the equation behind the operands
        return lambda operands, equation: fastconv.einsum(equation, *operands)
    if name in FUNCTIONS:
        return getattr(fastconv, name)
    method = getattr(Tensor, name)
    if isinstance(method, property):
        return lambda input: method.fget(input if isinstance(input, Tensor) else Tensor(input))
    return lambda input, *args, **named: method(input if isinstance(input, Tensor) else Tensor(input), *args, **named)


@pytest.fixture
def under_their_names(monkeypatch):
    """Let what compares samples find our functions and methods."""
    for name in (*FUNCTIONS, *METHODS):
        monkeypatch.setattr(functional, name, ours(name), raising=False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("info", of_db((*FUNCTIONS, *METHODS)))
def test_samples(under_their_names, info, dtype):
    torch.manual_seed(0)
    if getattr(torch, dtype) not in info.dtypes:
        pytest.skip(f"PyTorch has no {info.name} of {dtype}")
    samples = list(info.sample_inputs("cpu", getattr(torch, dtype), requires_grad=info.supports_autograd))
    failures = []
    for sample in samples:
        if DIFFERENT.get(info.name, lambda _: False)(sample):
            continue
        try:
            with backend.use_backend("cpu"):
                _compare_sample(info.name, info, sample, dtype)
        except Exception as error:  # all of them are told at once
            failures.append(f"{_described(sample)}\n    {type(error).__name__}: {error}")
    _report(failures, len(samples))


@pytest.mark.parametrize("info", of_db(FUNCTIONS, lambda info: info.error_inputs_func is not None))
def test_refusals(info):
    failures, errors = [], list(info.error_inputs("cpu"))
    for error in errors:
        if any(part in error.error_regex for part in ACCEPTED.get(info.name, ())):
            continue
        try:
            _call(ours(info.name), error.sample_input, _ours)
        except FastconvError:
            continue
        except Exception as other:
            failures.append(f"{_described(error.sample_input)}\n    {other!r}, not {error.error_regex!r}")
        else:
            failures.append(f"{_described(error.sample_input)}\n    accepted, PyTorch says {error.error_regex!r}")
    _report(failures, len(errors))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if hasattr(Tensor, name)])
def test_methods_are_the_functions(name):
    function = getattr(fastconv, name)
    assert getattr(Tensor, name).__doc__ == function.__doc__ or name == "tile"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "bool"])
def test_other_dtypes_are_pytorchs(dtype):
    pytest.importorskip("ml_dtypes")
    x = (4 * np.random.default_rng(0).standard_normal((3, 4))).round().astype(dtype)
    theirs = torch.from_numpy(x.astype("float64")).to(getattr(torch, dtype))
    index = np.array([[2, 0, 1, 1]])
    for name, arguments in (
        ("sort", (1,)), ("argsort", (1,)), ("cumsum", (1,)), ("prod", (0,)), ("roll", (1, 0)), ("tril", ()),
        ("gather", (0, index)), ("index_select", (1, index[0])), ("masked_fill", (index > 0, 1)), ("tile", ((2, 1),)),
        ("narrow", (1, 1, 2)), ("logical_not", ()), ("select", (0, 1)), ("triu", (1,)), ("repeat_interleave", (2, 1)),
    ):  # fmt: skip
        converted = (torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments)
        y, wanted = getattr(fastconv, name)(x, *arguments), getattr(torch, name)(theirs, *converted)
        y, wanted = (v[0] if isinstance(v, tuple) else v for v in (y, wanted))
        assert y.dtype.name == str(wanted.dtype).removeprefix("torch."), name
        np.testing.assert_allclose(y.astype("float64"), wanted.double().numpy(), rtol=0.01, err_msg=name)
