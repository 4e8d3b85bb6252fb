// site.h -- where in a kernel a primitive was called, for the emulator's messages; under nvcc it is nothing.
//
// A primitive takes it as its last parameter and callers never pass it:
//
//   __device__ void barrier_wait(uint32_t barrier, uint32_t parity, Site site = Site::here());
#pragma once

namespace fastconv {

#ifdef __CUDACC__
struct Site {
  __host__ __device__ static constexpr Site here() { return {}; }
};
#else
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};
#endif

}  // namespace fastconv
