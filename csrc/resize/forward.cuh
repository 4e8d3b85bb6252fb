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
  static constexpr int kMinBlocksPerSm = 4;  // caps registers at 64: latency is hidden by many warps
  static constexpr int kRows = 8;  // of y that a thread walks over, reading a row of x once for all of them
  static constexpr int64_t kEnough = 1 << 18;  // threads: those that the largest GPUs hold at a time
  static_assert(kThreads % kWarp == 0, "whole warps only");
  static_assert((kRows & (kRows - 1)) == 0, "halved where threads are few");
};

/// V neighbouring elements of a row of x at one output column: sum = that row, linear in the columns.
template <class T, int V>
__device__ __forceinline__ void read_columns(accumulator_t<T> (&sum)[V], const T* __restrict__ row,
                                             const Neighbours<accumulator_t<T>>& width, int64_t inner,
                                             int32_t taps) {
  const Vector<T, V> low = load_vector<V>(row + width.low * inner);
  if (taps == 1) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] = widen(low[v]);
    return;
  }
  const Vector<T, V> high = load_vector<V>(row + width.high * inner);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    sum[v] = multiply_add(width.high_share, widen(high[v]), width.low_share * widen(low[v]));
  }
}

/// A row of x at one output depth and column: linear in both, and still to be combined with another row.
template <class T, int V>
struct ResizedRow {
  accumulator_t<T> value[V];

  /// Read row h of the image that x points to.
  __device__ __forceinline__ void read(const T* __restrict__ x, const Resize& problem,
                                       const Neighbours<accumulator_t<T>>& depth, int32_t h,
                                       const Neighbours<accumulator_t<T>>& width) {
    const ResizeAxis& columns = problem.axis[2];
    const int64_t row = columns.size * problem.inner;
    const int64_t plane = row * problem.axis[1].size;
    x += h * row;
    read_columns<T, V>(value, x + depth.low * plane, width, problem.inner, columns.taps);
    if (problem.axis[0].taps == 1) return;
    accumulator_t<T> behind[V];
    read_columns<T, V>(behind, x + depth.high * plane, width, problem.inner, columns.taps);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      value[v] = multiply_add(depth.high_share, behind[v], depth.low_share * value[v]);
    }
  }
};

/// One thread, a strip of rows of y in one column; see ResizeColumns. V elements of inner at once.
template <class T, int V, class Tile = ResizeForwardTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    resize_forward_kernel(const T* __restrict__ x,  // [outer, D, H, W, inner]
                          T* __restrict__ y,        // [outer, O, P, Q, inner], all written
                          const Resize problem, const ResizeColumns columns) {
  using Number = accumulator_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (thread >= columns.threads) return;
  const ResizeStrip strip(columns, thread);
  const ResizeAxis& rows = problem.axis[1];
  const auto depth = neighbours<Number>(problem.axis[0], strip.depth);
  const auto width = neighbours<Number>(problem.axis[2], strip.width);
  const int64_t image = int64_t{problem.axis[0].size} * rows.size * problem.axis[2].size * problem.inner;
  x += strip.outer * image + strip.vector * V;
  const int64_t line = problem.axis[2].output * problem.inner;
  y += ((strip.outer * columns.depth + strip.depth) * columns.height + strip.first_row) * line +
       strip.width * problem.inner + strip.vector * V;

  ResizedRow<T, V> low = {}, high = {};
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
    Vector<T, V> result;
    if (rows.taps == 1) {
#pragma unroll
      for (int v = 0; v < V; ++v) result[v] = narrow<T>(low.value[v]);
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
      for (int v = 0; v < V; ++v) {
        result[v] =
            narrow<T>(multiply_add(height.high_share, high.value[v], height.low_share * low.value[v]));
      }
    }
    store_vector(y, result);
  }
}

}  // namespace fastconv
