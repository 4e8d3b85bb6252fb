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

}  // namespace fastconv
