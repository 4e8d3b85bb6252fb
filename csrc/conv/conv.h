// conv.h -- entry points of dense convolution. Plain C++. Each enqueues on stream and returns.
//
// x [N, C, *size], dy and y [N, K, *output] are dense in the format given; w and dw are [K, C / groups,
// *kernel]. `large` asks for the larger tile, which float64 does not have. Results have at least one element.
#pragma once
#include "activation.h"
#include "device/dispatch.h"
#include "window.h"

namespace fastconv {

/// y; w channels last in either format, b [K] or 0.
void conv_forward_implicit_gemm(Dtype dtype, Format format, bool large, Address x, Address w, Address b,
                                Address y, const Window& window, Activation activation, Address stream);

/// dx; w channels last in either format, b [C] or 0.
void conv_input_grad_implicit_gemm(Dtype dtype, Format format, bool large, Address dy, Address w, Address b,
                                   Address dx, const Window& window, Address stream);

/// dw, dense in the format given. partial [splits, elements of dw], of the dtype that sums are kept in, or 0
/// for one split.
void conv_weight_grad_implicit_gemm(Dtype dtype, Format format, bool large, Address x, Address dy, Address dw,
                                    Address partial, int splits, const Window& window, Address stream);

/// db [K] of dy [N, K, positions]. partial [parts, K], of the dtype that sums are kept in, or 0 for one part.
void conv_bias_grad(Dtype dtype, Format format, Address dy, Address db, Address partial, int parts,
                    int64_t batch, int32_t channels, int64_t positions, Address stream);

}  // namespace fastconv
