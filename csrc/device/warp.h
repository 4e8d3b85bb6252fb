// warp.h -- reductions over the lanes of a warp and over the threads of a block, in an order that never
// changes.
//
// A butterfly over lane distances 16, 8, 4, 2, 1: with a commutative operation every lane computes the same
// bits. Every thread of the warp, or of the block, must call.
#pragma once
#include "device/numeric.h"
#include "device/site.h"

namespace fastconv {

constexpr unsigned kFullMask = 0xffffffffu;  // all lanes of a warp

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// The larger one; NaN wins, as in PyTorch.
struct Maximum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

/// The smaller one; NaN wins, as in PyTorch.
struct Minimum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

/// combine() of value over each group of Lanes neighbouring lanes, in all of them; combine must commute.
template <int Lanes = kWarp, class T, class Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
  static_assert(Lanes >= 1 && Lanes <= kWarp && (Lanes & (Lanes - 1)) == 0, "a power of two within the warp");
#pragma unroll
  for (int distance = Lanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

template <int Lanes = kWarp, class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce<Lanes>(value, Sum{});
}

template <int Lanes = kWarp, class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_reduce<Lanes>(value, Maximum{});
}

template <int Lanes = kWarp, class T>
__device__ __forceinline__ T warp_min(T value) {
  return warp_reduce<Lanes>(value, Minimum{});
}

/// combine() of value over a block of Threads threads, in all of them: warps by butterfly, then their results
/// in the order of the warps. Threads are counted x first.
template <int Threads, class T, class Combine>
__device__ __forceinline__ T block_reduce(T value, Combine combine) {
  static_assert(Threads % kWarp == 0, "whole warps only");
  constexpr int kWarps = Threads / kWarp;
  FASTCONV_SHARED(T, partial, [kWarps]);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  value = warp_reduce(value, combine);
  __syncthreads();  // partial may still be read on behalf of an earlier call
  if (thread % kWarp == 0) partial[thread / kWarp] = value;
  __syncthreads();
  value = partial[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) value = combine(value, partial[warp]);
  return value;
}

template <int Threads, class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_reduce<Threads>(value, Sum{});
}

template <int Threads, class T>
__device__ __forceinline__ T block_max(T value) {
  return block_reduce<Threads>(value, Maximum{});
}

template <int Threads, class T>
__device__ __forceinline__ T block_min(T value) {
  return block_reduce<Threads>(value, Minimum{});
}

}  // namespace fastconv
