// rms.cuh -- RMS norm by one warp or one block a row.
//
//   square[r] = sum of x[r,c]^2 / length,  y[r,c] = x[r,c] / sqrt(square[r] + eps) * w[c]
//
// Nothing is subtracted, so that no origin and no mean is kept, which leaves registers to hold the row.
// Source: Zhang & Sennrich, arXiv:1910.07467.
#pragma once
#include "norm/reduce.cuh"

namespace fastconv {

struct NormRmsTile {
  static constexpr int kThreads = NormReduceTile::kThreads;
  static constexpr int kMinBlocks = NormReduceTile::kMinBlocks;
  static constexpr int kHeld = 4;  // vectors of a row that a thread keeps, as NormRowsTile does
  static_assert(kThreads % kWarp == 0, "whole warps");
};

/// Sum of squares.
template <class A>
struct Squares {
  using Number = A;
  static constexpr int kNumbers = 1;
  A number[kNumbers] = {};

  __device__ __forceinline__ void merge(const Squares& other) { number[0] += other.number[0]; }
};

/// A row that is longer than what its threads hold is read again.
template <class T, int V, int kRowThreads>
__global__ void __launch_bounds__(NormRmsTile::kThreads, NormRmsTile::kMinBlocks)
    norm_rms_forward_kernel(const T* __restrict__ x,                // [rows, length]
                            const T* __restrict__ w,                // [length], or nullptr for ones
                            T* __restrict__ y,                      // [rows, length], all written
                            accumulator_t<T>* __restrict__ square,  // [rows], written
                            const int64_t rows, const int64_t length, const accumulator_t<T> eps) {
  using A = accumulator_t<T>;
  constexpr int kHeld = NormRmsTile::kHeld, kRows = NormRmsTile::kThreads / kRowThreads;
  constexpr int kStep = kRowThreads * V;
  const int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / kRowThreads;
  if (row < rows) {  // of a warp or a block, all threads or none
    const T* begin = x + row * length;
    const int64_t first = int64_t{threadIdx.x} % kRowThreads * V;
    Vector<T, V> held[kHeld];
    Squares<A> squares;
    for (int64_t low = first; low < length; low += kHeld * kStep) {
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (low + u * kStep < length) held[u] = load_vector<V>(begin + low + u * kStep);
      }
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (low + u * kStep < length) {
#pragma unroll
          for (int v = 0; v < V; ++v) {
            squares.number[0] = multiply_add(widen(held[u][v]), widen(held[u][v]), squares.number[0]);
          }
        }
      }
    }
    squares = all_merged<kRowThreads>(squares);
    const A mean = squares.number[0] / A(length);
    if (threadIdx.x % kRowThreads == 0) square[row] = mean;
    const A inverse = inverse_deviation(mean, eps);
    for (int64_t low = first; low < length; low += kHeld * kStep) {
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        const int64_t c = low + u * kStep;
        if (c < length) {
          if (length > kHeld * kStep) held[u] = load_vector<V>(begin + c);
          A factor[V];
          load_channels(w, A(1), c, factor);
          Vector<T, V> scaled;
#pragma unroll
          for (int v = 0; v < V; ++v) scaled[v] = narrow<T>(widen(held[u][v]) * inverse * factor[v]);
          store_vector_global(y + row * length + c, scaled);
        }
      }
    }
  }
}

}  // namespace fastconv
