// indexed.h -- shapes of gather and scatter by the indices of maxima. Plain C++.
#pragma once
#include <cstdint>

namespace fastconv {

/// x, dx [planes, size, lanes]; y, dy and indices [planes, outputs, lanes].
struct PoolIndexed {
  int64_t planes, size, outputs;
  int32_t lanes;
};

}  // namespace fastconv
