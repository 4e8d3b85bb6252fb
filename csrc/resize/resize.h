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

/// y [outer, O, P, Q, inner] from x [outer, D, H, W, inner] by the taps in tables, those of ResizeTaps in
/// their order; size is D, H, W and output O, P, Q. Enqueues on stream and returns; the tables must live
/// until it has run.
void resize_taps(Dtype dtype, Address x, Address y, int64_t outer, int64_t inner,
                 const std::array<int32_t, 3>& size, const std::array<int32_t, 3>& output,
                 const std::array<Address, 7>& tables, Address stream);

}  // namespace fastconv
