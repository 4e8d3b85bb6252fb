"""Convolution, pooling and back-propagation for CuPy and NumPy arrays, in PyTorch's names.

    import fastconv
    import fastconv.functional as F
    from fastconv import nn, optim

Importing it needs no GPU, no CuPy and no compiler, and imports neither Numba nor CuPy.
"""

import importlib

from fastconv import functional, nn, ops, optim
from fastconv._version import __version__
from fastconv.autograd import Tensor, enable_grad, grad, is_grad_enabled, no_grad
from fastconv.backend import use_backend
from fastconv.creation import ones, ones_like, tensor, zeros, zeros_like
from fastconv.errors import CudaError, DeviceError, DTypeError, FastconvError, GraphError, ShapeError
from fastconv.functional import (
    abs,
    add,
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    broadcast_to,
    cat,
    chunk,
    clamp,
    clone,
    cos,
    div,
    eq,
    erf,
    exp,
    expm1,
    flatten,
    flip,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    log,
    log1p,
    log_softmax,
    logsumexp,
    lt,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    movedim,
    mul,
    ne,
    neg,
    permute,
    pow,
    reciprocal,
    relu,
    reshape,
    rsqrt,
    sigmoid,
    sign,
    sin,
    softmax,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    sub,
    sum,
    tanh,
    transpose,
    unflatten,
    unsqueeze,
    var,
    where,
)
from fastconv.random import Generator, manual_seed
from fastconv.transfer import asarray

# What stands on Numba, or is slow to import, is imported when it is first asked for.
_ON_DEMAND = {
    "get_num_threads": "fastconv.cpu.threads",
    "set_num_threads": "fastconv.cpu.threads",
    "show_config": "fastconv.config",
    "warmup": "fastconv.cpu.warmup",
}


def __getattr__(name):
    if name == "cuda":  # the import makes it an attribute
        return importlib.import_module("fastconv.cuda")
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'fastconv' has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_DEMAND[name]), name)


def __dir__():
    return sorted({*globals(), *_ON_DEMAND, "cuda"})


__all__ = [
    "CudaError",
    "DTypeError",
    "DeviceError",
    "FastconvError",
    "Generator",
    "GraphError",
    "ShapeError",
    "Tensor",
    "__version__",
    "abs",
    "add",
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "asarray",
    "broadcast_to",
    "cat",
    "chunk",
    "clamp",
    "clone",
    "cos",
    "div",
    "enable_grad",
    "eq",
    "erf",
    "exp",
    "expm1",
    "flatten",
    "flip",
    "functional",
    "ge",
    "get_num_threads",
    "grad",
    "gt",
    "is_grad_enabled",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "lt",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "movedim",
    "mul",
    "ne",
    "neg",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "ops",
    "optim",
    "permute",
    "pow",
    "reciprocal",
    "relu",
    "reshape",
    "rsqrt",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "unflatten",
    "unsqueeze",
    "use_backend",
    "var",
    "warmup",
    "where",
    "zeros",
    "zeros_like",
]
