// depthwise_quad.cuh -- 16 bytes of accumulators, in which the tiled depthwise kernels keep what they load.
#pragma once
#include "device/vector.h"

namespace fastconv {

/// Accumulators in a quad.
template <class A>
constexpr int kRun = 16 / sizeof(A);
template <class A>
using Quad = Vector<A, kRun<A>>;

__device__ __forceinline__ bool is_finite(float value) { return value - value == 0.0f; }
__device__ __forceinline__ bool is_finite(double value) { return value - value == 0.0; }

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
