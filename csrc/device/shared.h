// shared.h -- addresses in shared memory, as the instructions for matrices and asynchronous copies want them.
#pragma once
#include "device/launch.h"

namespace fastconv {

/// The 32-bit address of something in shared memory.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
#else
  return emulator::shared_address_of(p);
#endif
}

}  // namespace fastconv
