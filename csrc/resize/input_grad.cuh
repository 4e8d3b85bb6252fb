// input_grad.cuh -- the gradient of resizing, its exact transpose.
//
//   dx[d,h,w] = sum over the readers o, p and q of d, h and w of share_o * share_p * share_q * dy[o,p,q]
//
// Readers and shares: axis.h. Every element of dx is summed by one thread in the order of o, p and q, so that
// there are no atomics. A share of zero counts as well: next to an infinity it makes NaN, as in PyTorch.
#pragma once
#include "device/vector.h"
#include "resize/axis.h"

namespace fastconv {

struct ResizeInputGradTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocksPerSm = 4;  // caps registers at 64: latency is hidden by many warps
  static constexpr int kRows = 8;  // of dx that a thread walks over, summing a row of dy once for all
  static constexpr int64_t kEnough = 1 << 18;  // threads: those that the largest GPUs hold at a time
  static_assert(kThreads % kWarp == 0, "whole warps only");
  static_assert((kRows & (kRows - 1)) == 0, "halved where threads are few");
};

/// sum += value * the share of input position i in output position p; at the border p may read i twice.
template <class Number, int V>
__device__ __forceinline__ void add_share(Number (&sum)[V], const Number (&value)[V],
                                          const Neighbours<Number>& p, int32_t i, int32_t taps) {
  if (p.low == i) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] = multiply_add(p.low_share, value[v], sum[v]);
  }
  if (taps == 2 && p.high == i) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] = multiply_add(p.high_share, value[v], sum[v]);
  }
}

/// One thread, a strip of rows of dx in one column; see ResizeColumns. V elements of inner at once.
template <class T, int V, class Tile = ResizeInputGradTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    resize_input_grad_kernel(const T* __restrict__ dy,  // [outer, O, P, Q, inner]
                             T* __restrict__ dx,        // [outer, D, H, W, inner], all written
                             const Resize problem, const ResizeColumns columns) {
  using Number = accumulator_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (thread >= columns.threads) return;
  const ResizeStrip strip(columns, thread);
  const ResizeAxis &depths = problem.axis[0], &rows = problem.axis[1], &widths = problem.axis[2];
  const Readers depth = readers<Number>(depths, strip.depth);
  const Readers width = readers<Number>(widths, strip.width);
  const int64_t row = widths.output * problem.inner;
  const int64_t plane = row * rows.output;
  dy += strip.outer * plane * depths.output + strip.vector * V;
  const int64_t line = widths.size * problem.inner;
  dx += ((strip.outer * columns.depth + strip.depth) * columns.height + strip.first_row) * line +
        strip.width * problem.inner + strip.vector * V;

  Number current[V] = {}, next[V] = {};  // sums of row h and of row h + 1
  int32_t p = first_reaching<Number, true>(rows, strip.first_row);
  for (int32_t h = strip.first_row; h < strip.last_row; ++h, dx += line) {
    for (; p < rows.output; ++p) {
      const auto height = neighbours<Number>(rows, p);
      if (height.low > h) break;
      Number whole[V] = {};
      for (int32_t o = depth.first; o < depth.last; ++o) {
        Number part[V] = {};
        for (int32_t q = width.first; q < width.last; ++q) {
          const Vector<T, V> read = load_vector<V>(dy + o * plane + p * row + q * problem.inner);
          Number value[V];
#pragma unroll
          for (int v = 0; v < V; ++v) value[v] = widen(read[v]);
          add_share(part, value, neighbours<Number>(widths, q), strip.width, widths.taps);
        }
        add_share(whole, part, neighbours<Number>(depths, o), strip.depth, depths.taps);
      }
      add_share(current, whole, height, h, rows.taps);
      if (height.high > h) add_share(next, whole, height, h + 1, rows.taps);
    }
    Vector<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      result[v] = narrow<T>(current[v]);
      current[v] = next[v];
      next[v] = 0;
    }
    store_vector(dx, result);
  }
}

}  // namespace fastconv
