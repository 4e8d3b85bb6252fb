// depthwise_quad.cuh -- 16 bytes of accumulators, in which the tiled depthwise kernels keep what they load.
#pragma once
#include "device/vector.h"
#include "device/warp.h"

namespace fastconv {

/// Accumulators in a quad.
template <class A>
constexpr int kRun = 16 / sizeof(A);
template <class A>
using Quad = Vector<A, kRun<A>>;

__device__ __forceinline__ bool is_finite(float value) { return value - value == 0.0f; }
__device__ __forceinline__ bool is_finite(double value) { return value - value == 0.0; }

constexpr int kDepthwiseFlags = 8;  // warps of the largest block

/// Set the flag of the warp where one of its threads saw what is not finite, or, to `keep`, leave it set. A
/// barrier before and after is the caller's.
__device__ __forceinline__ void flag_if_wild(int (&flags)[kDepthwiseFlags], bool finite, bool keep) {
  const int any = __any_sync(kFullMask, !finite);
  const int warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) flags[warp] = any || (keep && flags[warp]);
}

/// Whether no flag is set.
__device__ __forceinline__ bool all_finite(const int (&flags)[kDepthwiseFlags]) {
  const Vector<int, 4> low = load_vector<4>(&flags[0]), high = load_vector<4>(&flags[4]);
  return (low[0] | low[1] | low[2] | low[3] | high[0] | high[1] | high[2] | high[3]) == 0;
}

/// Widen 16 bytes of T and store them from quad `place` of `row` on, leaving out those outside [first, end).
template <class T>
__device__ __forceinline__ void store_quads(Quad<accumulator_t<T>>* row, int place, int first, int end,
                                            const Vector<T, kVector<T>>& part) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kQuads = kVector<T> / kR;
  // Of two quads, every other group of four lanes stores the second one first: together they meet all banks.
  const int other = kQuads == 2 && threadIdx.x & 4 ? 1 : 0;
#pragma unroll
  for (int k = 0; k < kQuads; ++k) {
    const int half = k ^ other;
    Quad<A> quad;
#pragma unroll
    for (int j = 0; j < kR; ++j) quad[j] = widen(half ? part[(kQuads - 1) * kR + j] : part[j]);
    if (place + half >= first && place + half < end) store_vector(&row[place + half][0], quad);
  }
}

}  // namespace fastconv
