"""The Numba backend: the operators of fastconv.backend on NumPy arrays.

Importing it imports Numba but compiles nothing, and a family of operators is imported when one of them is first asked
for. fork, spawn and threads: see threads.py.
"""

import importlib

# Beside these stand modules of the same names: importing them later would put a module in the place of an operator.
from fastconv.cpu.conv import conv_bias_grad, conv_forward, conv_input_grad, conv_weight_grad
from fastconv.cpu.matmul import matmul
from fastconv.cpu.nms import nms

_FAMILIES = {
    "activation": (
        "glu_forward",
        "glu_input_grad",
        "prelu_forward",
        "prelu_grad",
        "softmax_forward",
        "softmax_input_grad",
    ),
    "distance": ("normalize_forward", "normalize_grad"),
    "elementwise": ("binary_forward", "binary_grad", "binary_sum", "unary_forward", "unary_input_grad"),
    "grid": ("grid_sample_forward", "grid_sample_grid_grad", "grid_sample_input_grad"),
    "loss": ("cross_entropy_forward", "cross_entropy_grad", "nll_forward"),
    "norm": (
        "batch_norm_forward",
        "batch_norm_grad",
        "batch_norm_statistics",
        "batch_norm_weight_grad",
        "group_norm_forward",
        "group_norm_grad",
        "rms_norm_forward",
        "rms_norm_input_grad",
        "rms_norm_weight_grad",
    ),
    "pool": (
        "adaptive_avg_pool_forward",
        "adaptive_avg_pool_input_grad",
        "adaptive_max_pool_forward",
        "adaptive_max_pool_input_grad",
        "avg_pool_forward",
        "avg_pool_input_grad",
        "max_pool_forward",
        "max_pool_input_grad",
        "pool_gather",
        "pool_place",
        "pool_scatter",
    ),
    "resize": ("resize_forward", "resize_input_grad"),
    "response_norm": ("response_norm_forward", "response_norm_input_grad"),
    "roi": ("roi_align_forward", "roi_align_input_grad", "roi_pool_forward", "roi_pool_input_grad"),
}
_FAMILY_OF = {operator: family for family, operators in _FAMILIES.items() for operator in operators}

__all__ = [
    "conv_bias_grad",
    "conv_forward",
    "conv_input_grad",
    "conv_weight_grad",
    "matmul",
    "nms",
    *_FAMILY_OF,
]


def __getattr__(name):
    if name not in _FAMILY_OF:
        raise AttributeError(f"module 'fastconv.cpu' has no attribute {name!r}")
    function = getattr(importlib.import_module(f"fastconv.cpu.{_FAMILY_OF[name]}"), name)
    globals()[name] = function
    return function


def __dir__():
    return sorted({*globals(), *__all__})
