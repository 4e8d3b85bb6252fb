"""The oracle: every backend operator in plain NumPy and float64, slow and obvious.

Operators and signatures are those of fastconv.backend. Arguments of any dtype, strides or byte order
are widened to float64 in C order, so that storage changes no bit, computed by the formula on top of
each file, and rounded once, to the dtype of the first argument. Results are new, native in byte order
and C-contiguous: unlike the other backends the reference does not keep a channels-last format.
"""

from fastconv.reference.activation import (
    glu_forward,
    glu_input_grad,
    prelu_forward,
    prelu_grad,
    softmax_forward,
    softmax_input_grad,
)
from fastconv.reference.conv import conv_bias_grad, conv_forward, conv_input_grad, conv_weight_grad
from fastconv.reference.distance import normalize_forward, normalize_grad
from fastconv.reference.elementwise import binary_forward, binary_grad, binary_sum, unary_forward, unary_input_grad
from fastconv.reference.grid import grid_sample_forward, grid_sample_grid_grad, grid_sample_input_grad
from fastconv.reference.loss import cross_entropy_forward, cross_entropy_grad, nll_forward
from fastconv.reference.matmul import matmul
from fastconv.reference.nms import nms
from fastconv.reference.norm import (
    batch_norm_forward,
    batch_norm_grad,
    batch_norm_statistics,
    batch_norm_weight_grad,
    group_norm_forward,
    group_norm_grad,
    rms_norm_forward,
    rms_norm_input_grad,
    rms_norm_weight_grad,
)
from fastconv.reference.pool import (
    adaptive_avg_pool_forward,
    adaptive_avg_pool_input_grad,
    adaptive_max_pool_forward,
    adaptive_max_pool_input_grad,
    avg_pool_forward,
    avg_pool_input_grad,
    max_pool_forward,
    max_pool_input_grad,
    pool_gather,
    pool_place,
    pool_scatter,
)
from fastconv.reference.resize import resize_forward, resize_input_grad
from fastconv.reference.response_norm import response_norm_forward, response_norm_input_grad
from fastconv.reference.roi import roi_align_forward, roi_align_input_grad, roi_pool_forward, roi_pool_input_grad

__all__ = [
    "adaptive_avg_pool_forward",
    "adaptive_avg_pool_input_grad",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_input_grad",
    "avg_pool_forward",
    "avg_pool_input_grad",
    "batch_norm_forward",
    "batch_norm_grad",
    "batch_norm_statistics",
    "batch_norm_weight_grad",
    "binary_forward",
    "binary_grad",
    "binary_sum",
    "conv_bias_grad",
    "conv_forward",
    "conv_input_grad",
    "conv_weight_grad",
    "cross_entropy_forward",
    "cross_entropy_grad",
    "glu_forward",
    "glu_input_grad",
    "grid_sample_forward",
    "grid_sample_grid_grad",
    "grid_sample_input_grad",
    "group_norm_forward",
    "group_norm_grad",
    "matmul",
    "max_pool_forward",
    "max_pool_input_grad",
    "nll_forward",
    "nms",
    "normalize_forward",
    "normalize_grad",
    "pool_gather",
    "pool_place",
    "pool_scatter",
    "prelu_forward",
    "prelu_grad",
    "resize_forward",
    "resize_input_grad",
    "response_norm_forward",
    "response_norm_input_grad",
    "rms_norm_forward",
    "rms_norm_input_grad",
    "rms_norm_weight_grad",
    "roi_align_forward",
    "roi_align_input_grad",
    "roi_pool_forward",
    "roi_pool_input_grad",
    "softmax_forward",
    "softmax_input_grad",
    "unary_forward",
    "unary_input_grad",
]
