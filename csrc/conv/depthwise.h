// depthwise.h -- entry points of depthwise convolution, groups == channels. Plain C++.
//
// x [N, C, *size], w [K, *kernel], b [K] or 0, y [N, K, *output], all dense, x and y in `format`; filter k
// reads channel k / (K / C). Each enqueues on stream and returns; results are written entirely.
#pragma once
#include "activation.h"
#include "device/dispatch.h"
#include "window.h"

namespace fastconv {

/// y = activation(b + x * w).
void depthwise_forward(Dtype dtype, Format format, Address x, Address w, Address b, Address y,
                       const Window& window, Activation activation, Address stream);

/// dx = b + the transpose of forward applied to dy; b [C] or 0.
void depthwise_input_grad(Dtype dtype, Format format, Address dy, Address w, Address b, Address dx,
                          const Window& window, Address stream);

/// Into how many parts depthwise_weight_grad would like to split its sums, at least 1.
int depthwise_weight_grad_splits(Dtype dtype, Format format, const Window& window);

/// dw [K, *kernel]. partial [splits, K, *kernel] in the dtype that sums are kept in; unused for one split.
void depthwise_weight_grad(Dtype dtype, Format format, Address x, Address dy, Address dw, Address partial,
                           int splits, const Window& window, Address stream);

}  // namespace fastconv
