// forward.cuh -- resizing, nearest or linear, one to three axes.
//
//   y[o,p,q] = sum over the neighbours of o, p and q of share_o * share_p * share_q * x[d,h,w]
//
// Neighbours and shares: axis.h. A share of zero counts as well: next to an infinity it makes NaN, as in
// PyTorch.
#pragma once
#include "device/vector.h"
#include "resize/axis.h"

namespace fastconv {

struct ResizeForwardTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocksPerSm = 3;  // caps registers at 80: latency is hidden by many warps
  static constexpr int kRows = 8;  // of y that a thread walks over, reading a row of x once for all of them
  static constexpr int kColumns =
      2;  // of y that it computes where C is not innermost: those of one x at scale 2
  static constexpr int64_t kEnough = 1 << 18;  // threads: those that the largest GPUs hold at a time
  static_assert(kThreads % kWarp == 0, "whole warps only");
  static_assert((kRows & (kRows - 1)) == 0, "halved where threads are few");
};

/// U output columns of V elements of inner, from one row of x at one output depth: linear in the depth and in
/// the columns, and still to be combined with another row.
template <class T, int V, int U>
struct ResizedRow {
  using Number = accumulator_t<T>;
  Number value[U * V];

  /// Read row h of the image that x points to.
  __device__ __forceinline__ void read(const T* __restrict__ x, const Resize& problem,
                                       const Neighbours<Number>& depth, int32_t h,
                                       const Neighbours<Number> (&width)[U]) {
    const int64_t row = problem.axis[2].size * problem.inner;
    const int64_t plane = row * problem.axis[1].size;
    x += h * row;
    read_columns(value, x + depth.low * plane, problem, width);
    if (problem.axis[0].taps == 1) return;
    Number behind[U * V];
    read_columns(behind, x + depth.high * plane, problem, width);
#pragma unroll
    for (int i = 0; i < U * V; ++i) {
      value[i] = multiply_add(depth.high_share, behind[i], depth.low_share * value[i]);
    }
  }

 private:
  static __device__ __forceinline__ void read_columns(Number (&sum)[U * V], const T* __restrict__ row,
                                                      const Resize& problem,
                                                      const Neighbours<Number> (&width)[U]) {
    const bool linear = problem.axis[2].taps == 2;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const Vector<T, V> low = load_vector<V>(row + width[u].low * problem.inner);
      const Vector<T, V> high = linear ? load_vector<V>(row + width[u].high * problem.inner) : low;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const Number near = widen(low[v]);
        sum[u * V + v] =
            linear ? multiply_add(width[u].high_share, widen(high[v]), width[u].low_share * near) : near;
      }
    }
  }
};

/// One thread, a strip of rows of U columns of y; see ResizeColumns. V elements of inner at once.
template <class T, int V, int U, class Tile = ResizeForwardTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    resize_forward_kernel(const T* __restrict__ x,  // [outer, D, H, W, inner]
                          T* __restrict__ y,        // [outer, O, P, Q, inner], all written
                          const Resize problem, const ResizeColumns columns) {
  static_assert(V == 1 || U == 1, "columns of one access lie next to each other");
  using Number = accumulator_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (thread >= columns.threads) return;
  const ResizeStrip strip(columns, thread);
  const ResizeAxis& rows = problem.axis[1];
  const auto depth = neighbours<Number>(problem.axis[0], strip.depth);
  Neighbours<Number> width[U];
#pragma unroll
  for (int u = 0; u < U; ++u) width[u] = neighbours<Number>(problem.axis[2], strip.width * U + u);
  const int64_t image = int64_t{problem.axis[0].size} * rows.size * problem.axis[2].size * problem.inner;
  x += strip.outer * image + strip.vector * V;
  const int64_t line = problem.axis[2].output * problem.inner;
  y += ((strip.outer * columns.depth + strip.depth) * columns.height + strip.first_row) * line +
       strip.width * U * problem.inner + strip.vector * V;

  ResizedRow<T, V, U> low = {}, high = {};
  int32_t low_row = -1, high_row = -1;  // which rows of x they are
  for (int32_t p = strip.first_row; p < strip.last_row; ++p, y += line) {
    const auto height = neighbours<Number>(rows, p);
    if (height.low != low_row) {
      if (height.low == high_row) {
        low = high;
      } else {
        low.read(x, problem, depth, height.low, width);
      }
      low_row = height.low;
    }
    Vector<T, U * V> result;
    if (rows.taps == 1) {
#pragma unroll
      for (int i = 0; i < U * V; ++i) result[i] = narrow<T>(low.value[i]);
    } else {
      if (height.high != high_row) {
        if (height.high == low_row) {
          high = low;
        } else {
          high.read(x, problem, depth, height.high, width);
        }
        high_row = height.high;
      }
#pragma unroll
      for (int i = 0; i < U * V; ++i) {
        result[i] =
            narrow<T>(multiply_add(height.high_share, high.value[i], height.low_share * low.value[i]));
      }
    }
    store_vector(y, result);
  }
}

}  // namespace fastconv
