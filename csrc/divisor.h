// divisor.h -- division by a number that the host knows. Plain C++ for host and device.
#pragma once
#include "window.h"

namespace fastconv {

/// n / d by a multiplication, for 0 <= n < 2^31. Source: Granlund & Montgomery, PLDI 1994.
class Divisor {
 public:
  Divisor() : Divisor(1) {}
  explicit Divisor(int32_t divisor) : divisor_(divisor), shift_(31) {
    while ((int64_t{1} << (shift_ - 31)) < divisor) ++shift_;
    magic_ = static_cast<uint32_t>(((uint64_t{1} << shift_) + divisor - 1) / divisor);
  }
  FASTCONV_HOST_DEVICE int32_t operator()(int32_t n) const {
    return static_cast<int32_t>((static_cast<uint64_t>(n) * magic_) >> shift_);
  }
  FASTCONV_HOST_DEVICE int32_t value() const { return divisor_; }

 private:
  int32_t divisor_, shift_;
  uint32_t magic_;
};

/// n / d for n >= 0 and d > 0. In 64 bits a GPU divides by a call, around which registers would spill;
/// numbers that need them are rare here and may take a loop.
__attribute__((always_inline)) FASTCONV_HOST_DEVICE inline int64_t quotient(int64_t n, int64_t d) {
  if ((n | d) >> 32 == 0) return static_cast<uint32_t>(n) / static_cast<uint32_t>(d);
  int64_t result = 0, rest = 0;
#pragma unroll 1
  for (int bit = 62; bit >= 0; --bit) {
    rest = rest << 1 | (n >> bit & 1);
    result <<= 1;
    if (rest >= d) {
      rest -= d;
      result |= 1;
    }
  }
  return result;
}

}  // namespace fastconv
