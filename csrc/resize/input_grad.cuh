// input_grad.cuh -- the gradient of resizing, its exact transpose.
//
//   dx[d,h,w] = sum over the readers o, p and q of d, h and w of share_o * share_p * share_q * dy[o,p,q]
//
// Readers and shares: axis.h. Every element of dx is summed by one thread in the order of p, o and q, so that
// there are no atomics. A share of zero counts as well: next to an infinity it makes NaN, as in PyTorch.
#pragma once
#include "device/vector.h"
#include "resize/axis.h"

namespace fastconv {

struct ResizeInputGradTile {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocksPerSm = 4;  // caps registers at 128: shares are kept in them
  static constexpr int kRows = 8;  // of dx that a thread walks over, summing a row of dy once for all
  static constexpr int kColumns =
      2;  // of dy in one access where C is not innermost: neighbours are 2 apart at scale 2
  static constexpr int kReaders = 4;           // whose shares are kept, those of an element that is doubled
  static constexpr int64_t kEnough = 1 << 18;  // threads: those that the largest GPUs hold at a time
  static_assert(kThreads % kWarp == 0, "whole warps only");
  static_assert((kRows & (kRows - 1)) == 0, "halved where threads are few");
};

/// The readers of column w, and their shares where these are few and read it once: any but the last column is
/// read once. `from` is a multiple of U, so that U readers at a time can be accessed.
template <class Number, int U, int N>
struct ColumnReaders {
  Readers all;
  int32_t from, column;
  bool kept;
  Number share[N];

  __device__ __forceinline__ ColumnReaders(const ResizeAxis& axis, int32_t w)
      : all(readers<Number>(axis, w)), column(w) {
    from = all.first / U * U;
    kept = all.last - from <= N;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const Neighbours<Number> q = neighbours<Number>(axis, kept && reads(n) ? from + n : 0);
      share[n] = q.low == w ? q.low_share : q.high_share;
      if (axis.taps == 1 || q.low != w || q.high != w || !reads(n)) continue;
      share[n] = q.low_share + q.high_share;
      if (q.low_share == Number(0) || q.high_share == Number(0))
        kept = false;  // the share of zero counts as well
    }
  }
  __device__ __forceinline__ bool reads(int n) const { return from + n >= all.first && from + n < all.last; }

  /// sum += factor * what the column gets from the row of dy that starts at `row`.
  template <int V, class T>
  __device__ __forceinline__ void add_row(Number (&sum)[V], const T* __restrict__ row, int64_t inner,
                                          const ResizeAxis& axis, Number factor) const {
    if (!kept) {
      for (int32_t q = all.first; q < all.last; ++q) {
        const Neighbours<Number> n = neighbours<Number>(axis, q);
        const Vector<T, V> read = load_vector<V>(row + q * inner);
        for (int tap = 0; tap < axis.taps; ++tap) {  // the last column may be both neighbours
          if ((tap == 0 ? n.low : n.high) != column) continue;
          add<V>(sum, read, 0, factor * (tap == 0 ? n.low_share : n.high_share));
        }
      }
      return;
    }
#pragma unroll
    for (int n = 0; n < N; n += U) {
      if (from + n >= all.last) continue;
      const Vector<T, U * V> read = load_vector<U * V>(row + (from + n) * inner);
#pragma unroll
      for (int u = 0; u < U; ++u) {
        if (reads(n + u)) add<V>(sum, read, u * V, factor * share[n + u]);
      }
    }
  }

 private:
  template <int V, class Read>
  static __device__ __forceinline__ void add(Number (&sum)[V], const Read& read, int start, Number share) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] = multiply_add(share, widen(read[start + v]), sum[v]);
  }
};

/// One thread, a strip of rows of one column of dx; see ResizeColumns. V elements of inner at once, or U
/// columns of dy.
template <class T, int V, int U, class Tile = ResizeInputGradTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    resize_input_grad_kernel(const T* __restrict__ dy,  // [outer, O, P, Q, inner]
                             T* __restrict__ dx,        // [outer, D, H, W, inner], all written
                             const Resize problem, const ResizeColumns columns) {
  static_assert(V == 1 || U == 1, "columns of one access lie next to each other");
  using Number = accumulator_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (thread >= columns.threads) return;
  const ResizeStrip strip(columns, thread);
  const ResizeAxis& rows = problem.axis[1];
  const ResizeAxis& depths = problem.axis[0];
  const Readers depth = readers<Number>(depths, strip.depth);
  // U - 1 in front of the first reader and behind the last one may be accessed with them.
  const ColumnReaders<Number, U, Tile::kReaders + 2 * (U - 1)> width(problem.axis[2], strip.width);
  const int64_t row = problem.axis[2].output * problem.inner;
  const int64_t plane = row * rows.output;
  dy += strip.outer * plane * problem.axis[0].output + strip.vector * V;
  const int64_t line = problem.axis[2].size * problem.inner;
  dx += ((strip.outer * columns.depth + strip.depth) * columns.height + strip.first_row) * line +
        strip.width * problem.inner + strip.vector * V;

  Number current[V] = {}, next[V] = {};  // sums of row h and of row h + 1
  int32_t p = first_reaching<Number, true>(rows, strip.first_row);
  for (int32_t h = strip.first_row; h < strip.last_row; ++h, dx += line) {
    for (; p < rows.output; ++p) {
      const auto height = neighbours<Number>(rows, p);
      if (height.low > h) break;
      Number sum[V] = {};
      for (int32_t o = depth.first; o < depth.last; ++o) {
        const Neighbours<Number> near = neighbours<Number>(depths, o);
        for (int tap = 0; tap < depths.taps; ++tap) {  // the last depth may be both neighbours
          if ((tap == 0 ? near.low : near.high) != strip.depth) continue;
          width.template add_row<V>(sum, dy + o * plane + p * row, problem.inner, problem.axis[2],
                                    tap == 0 ? near.low_share : near.high_share);
        }
      }
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (height.low == h) current[v] = multiply_add(height.low_share, sum[v], current[v]);
        if (rows.taps == 1) continue;
        if (height.high == h) current[v] = multiply_add(height.high_share, sum[v], current[v]);
        if (height.high > h) next[v] = multiply_add(height.high_share, sum[v], next[v]);
      }
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
