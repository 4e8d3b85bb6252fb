// resize.h -- entry points of the resize family. Plain C++.
#pragma once
#include <array>

#include "device/dispatch.h"
#include "resize/axis.h"

namespace fastconv {

/// y [outer, O, P, Q, inner] from x [outer, D, H, W, inner]. Enqueues on stream and returns.
void resize_forward(Dtype dtype, Address x, Address y, int64_t outer, int64_t inner,
                    const std::array<ResizeAxis, 3>& axes, Address stream);

/// dx [outer, D, H, W, inner] from dy [outer, O, P, Q, inner]. Enqueues on stream and returns.
void resize_input_grad(Dtype dtype, Address dy, Address dx, int64_t outer, int64_t inner,
                       const std::array<ResizeAxis, 3>& axes, Address stream);

}  // namespace fastconv
