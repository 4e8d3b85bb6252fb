// layout.h -- entry points of the layout family. Plain C++.
#pragma once
#include <array>

#include "device/dispatch.h"

namespace fastconv {

/// y, dense in C order, from x of any strides; both of `bytes` a element. Enqueues on stream and returns.
void layout_copy(int bytes, Address x, Address y, const std::array<int64_t, 5>& size,
                 const std::array<int64_t, 5>& stride, Address stream);

}  // namespace fastconv
