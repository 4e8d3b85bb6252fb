// small_divisor.cuh -- division by a number known only at run time, in one multiplication.
#pragma once
#include "device/launch.h"

namespace fastconv {

/// Quotients of n by divisor, exact where n * divisor < 2^32: n * ceil(2^32 / divisor) exceeds n * 2^32 /
/// divisor by less than n, so by too little to reach the next quotient.
class SmallDivisor {
 public:
  __device__ __forceinline__ explicit SmallDivisor(uint32_t divisor)
      : divisor_(divisor), factor_(0xffffffffu / divisor + 1) {}
  __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return divisor_ == 1 ? n : __umulhi(n, factor_);  // 2^32 itself would not fit the factor
  }
  /// n becomes its remainder; returns the quotient.
  __device__ __forceinline__ uint32_t divide(uint32_t& n) const {
    const uint32_t whole = quotient(n);
    n -= whole * divisor_;
    return whole;
  }

 private:
  uint32_t divisor_, factor_;
};

}  // namespace fastconv
