// taps.cuh -- resizing by tables of taps, one to three axes.
//
//   y[o,p,q] = sum over the taps of o, p and q of share_o * share_p * share_q * x[d,h,w]
//
// The gradient is the same with the tables of the transpose. A block sums the rows that a row of y reads into
// shared memory, every column that its outputs reach, in the order of memory; then each thread sums the
// columns of its own output there. A share of zero counts as well: next to an infinity it makes NaN, as in
// PyTorch.
#pragma once
#include "device/vector.h"
#include "resize/axis.h"
#include "resize/taps.h"

namespace fastconv {

struct ResizeTapsTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocksPerSm = 3;  // caps registers at 80: latency is hidden by many warps
  static constexpr int kLanes = 32;          // vectors of inner: as many as a warp reads at once
  static constexpr int kRows = 4;            // of y that a block walks over: their reads of x overlap
  static constexpr int kStaged = 4096;       // numbers in shared memory, 32 KiB of double
  static constexpr int kBankBytes = 128;     // a round of banks
  static_assert(kThreads % kLanes == 0 && kLanes % kWarp == 0, "lanes of a warp access neighbours");
};

/// Of one output row: the sum over depths and rows of x at one column, `x` pointing to it in the first row.
template <int V, class T, class Number>
__device__ __forceinline__ void sum_rows(Number (&sum)[V], const T* __restrict__ x,
                                         const ResizeByTaps& problem, const ResizeTaps<Number>& taps,
                                         int32_t depth, int32_t row) {
  const int64_t line = problem.width * problem.inner;
  const int32_t* row_starts = taps.starts + problem.depth_out + 1 + row;
  const int32_t first = row_starts[0], last = row_starts[1], last_depth = taps.starts[depth + 1];
  for (int32_t a = taps.starts[depth]; a < last_depth; ++a) {
    const T* plane = x + taps.positions[a] * (line * problem.height);
    const Number outer_share = taps.shares[a];
#pragma unroll 4
    for (int32_t b = first; b < last; ++b) {
      const Vector<T, V> read = load_vector<V>(plane + taps.positions[b] * line);
      const Number share = outer_share * taps.shares[b];
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] = multiply_add(share, widen(read[v]), sum[v]);
    }
  }
}

/// One block, a strip of rows; see ResizeTapsBlocks. V elements of inner at once.
template <class T, int V, class Tile = ResizeTapsTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    resize_taps_kernel(const T* __restrict__ x,  // [outer, D, H, W, inner]
                       T* __restrict__ y,        // [outer, O, P, Q, inner], all written
                       const ResizeTaps<accumulator_t<T>> taps, const ResizeByTaps problem,
                       const ResizeTapsBlocks plan) {
  using Number = accumulator_t<T>;
  FASTCONV_SHARED(Number, staged, [V][Tile::kStaged / V]);
  int64_t block = blockIdx.x;
  const int64_t lane_from = split_off(block, plan.lane_chunks) * plan.lanes;
  const int32_t column_from = static_cast<int32_t>(split_off(block, plan.segments)) * plan.columns;
  const int32_t row_from = static_cast<int32_t>(split_off(block, plan.strips)) * plan.rows;
  const int32_t depth = static_cast<int32_t>(split_off(block, problem.depth_out));
  const int64_t outer = block;

  const int32_t lanes = plan.lanes, width = problem.width_out, thread = static_cast<int32_t>(threadIdx.x);
  const int32_t column = column_from + thread / lanes, lane = thread % lanes;
  const bool mine = thread < plan.columns * lanes && column < width && lane_from + lane < plan.vectors;
  const int32_t count = mine ? taps.column_counts[column] : 0;
  const int32_t column_to = width - column_from < plan.columns ? width : column_from + plan.columns;
  // The columns of x that the block reads; none where no output has a tap.
  const int32_t left = taps.column_bounds[column_from], right = taps.column_bounds[width + column_to - 1];

  x += (outer * problem.depth * problem.height * problem.width * problem.inner) + lane_from * V;
  y += ((outer * problem.depth_out + depth) * problem.height_out * width + column) * problem.inner +
       (lane_from + lane) * V;
  const int32_t row_to =
      problem.height_out - row_from < plan.rows ? problem.height_out : row_from + plan.rows;
  for (int32_t row = row_from; row < row_to; ++row) {
    Number sum[V] = {};
    int32_t tap = 0;
    for (int32_t from = left; from < right; from += plan.at_once) {
      const int32_t to = right - from < plan.at_once ? right : from + plan.at_once;
      __syncthreads();  // what was staged before has been read
      for (int32_t i = thread; i < (to - from) * lanes; i += Tile::kThreads) {
        const int32_t w = i / lanes, l = i % lanes;
        if (lane_from + l >= plan.vectors) continue;
        Number rows[V] = {};
        sum_rows(rows, x + (from + w) * problem.inner + l * V, problem, taps, depth, row);
#pragma unroll
        for (int v = 0; v < V; ++v) staged[v][plan.at(w, l)] = rows[v];
      }
      __syncthreads();
      for (; tap < count; ++tap) {
        const int64_t entry = int64_t{tap} * width + column;
        const int32_t w = taps.column_positions[entry];
        if (w >= to) break;
        const int32_t i = plan.at(w - from, lane);
        const Number share = taps.column_shares[entry];
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = multiply_add(share, staged[v][i], sum[v]);
      }
    }
    if (!mine) continue;
    Vector<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) result[v] = narrow<T>(sum[v]);
    store_vector_global(y + row * (int64_t{width} * problem.inner), result);
  }
}

}  // namespace fastconv
