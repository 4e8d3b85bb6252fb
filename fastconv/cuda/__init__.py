"""The CUDA backend: the operators of fastconv.backend on CuPy arrays, and on NumPy arrays under the emulator.

Every operator makes dense what has to be dense, allocates its result from CuPy's pool, and enqueues kernels on
CuPy's current stream of the arrays' device. Nothing waits for the GPU and nothing but the pool allocates, so that
calls can be captured in a CUDA graph. runtime.py knows where kernels run, choice.py which kernel serves a call.
"""

from fastconv.cuda.activation import (
    glu_forward,
    glu_input_grad,
    prelu_forward,
    prelu_grad,
    softmax_forward,
    softmax_input_grad,
)
from fastconv.cuda.choice import use_algorithm
from fastconv.cuda.conv import conv_bias_grad, conv_forward, conv_input_grad, conv_weight_grad
from fastconv.cuda.distance import normalize_forward, normalize_grad
from fastconv.cuda.elementwise import binary_forward, binary_grad, binary_sum, unary_forward, unary_input_grad
from fastconv.cuda.grid import grid_sample_forward, grid_sample_grid_grad, grid_sample_input_grad
from fastconv.cuda.loss import cross_entropy_forward, cross_entropy_grad, nll_forward
from fastconv.cuda.matmul import matmul
from fastconv.cuda.nms import nms
from fastconv.cuda.norm import (
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
from fastconv.cuda.pool import (
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
from fastconv.cuda.resize import resize_forward, resize_input_grad
from fastconv.cuda.response_norm import response_norm_forward, response_norm_input_grad
from fastconv.cuda.roi import roi_align_forward, roi_align_input_grad, roi_pool_forward, roi_pool_input_grad
from fastconv.cuda.workspace import get_max_workspace, max_workspace

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
    "get_max_workspace",
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
    "max_workspace",
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
    "use_algorithm",
]
