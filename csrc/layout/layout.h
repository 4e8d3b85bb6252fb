// layout.h -- entry points of the layout family. Plain C++.
#pragma once
#include <vector>

#include "device/dispatch.h"

namespace fastconv {

/// y, dense in C order, from x of any strides; both of `bytes` an element. size and stride, in elements, have
/// as few axes as the walk over x needs, at most 8. Where the memory of x runs along the last axis but one,
/// as between the memory formats, it is transposed through shared memory. Enqueues on stream and returns.
void layout_copy(int bytes, Address x, Address y, const std::vector<int64_t>& size,
                 const std::vector<int64_t>& stride, Address stream);

}  // namespace fastconv
