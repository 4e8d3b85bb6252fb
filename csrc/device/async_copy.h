// async_copy.h -- copies from global to shared memory that go on while their thread computes (cp.async, from
// compute capability 8.0 on).
//
// A thread gathers its copies into groups, by copy_async_commit(), and waits for its own groups only: a
// barrier after the wait makes all threads' copies visible to all.
#pragma once
#include "device/shared.h"

namespace fastconv {

/// Begin to copy Bytes, 4, 8 or 16, to shared address `to`. Only the first `valid` bytes are read, the others
/// become 0; both addresses are aligned to Bytes, also where valid is 0 and nothing is read.
template <int Bytes>
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, int valid = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "what cp.async copies at once");
#ifdef __CUDACC__
  if constexpr (Bytes == 16) {  // past L1, which only this width can
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(valid), "n"(Bytes)
                 : "memory");
  }
#else
  emulator::copy_async(to, from, Bytes, valid);
#endif
}

/// Close the group of all copies that this thread began since the last one; it may be empty.
__device__ __forceinline__ void copy_async_commit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emulator::copy_async_commit();
#endif
}

/// Wait until at most Pending of this thread's newest groups are still under way.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#else
  emulator::copy_async_wait(Pending);
#endif
}

}  // namespace fastconv
