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
  static constexpr int kLanes = 32;  // vectors of inner: more than a row of sectors holds leave columns alone
  static constexpr int kRows = 4;    // of y that a block walks over: its reads of x overlap in the cache
  static constexpr int kStaged = 4096;  // sums of columns in shared memory, 32 KiB of double
  static constexpr int kBankBytes = 128;
  static_assert(kThreads % kLanes == 0 && kLanes % kWarp == 0, "lanes of a warp access neighbours");
};

/// V elements of each of many columns, V arrays of which each skips a bank after each round of banks, so that
/// columns 2, 4, ... apart lie in different banks.
template <class Number, int V, class Tile>
struct StagedColumns {
  static constexpr int kMost = Tile::kStaged / V;
  static constexpr int kBanks = Tile::kBankBytes / sizeof(Number);
  static constexpr int kPitch = kMost + kMost / kBanks;
  static __device__ __forceinline__ int at(int i) { return i + i / kBanks; }
};

/// Of one output row: the sum over depths and rows of x at one column, `x` pointing to it in the first row.
template <int V, class T, class Number>
__device__ __forceinline__ void sum_rows(Number (&sum)[V], const T* __restrict__ x,
                                         const ResizeByTaps& problem, const ResizeTaps<Number>& taps,
                                         int32_t depth, int32_t row) {
  const int64_t line = problem.size[2] * problem.inner;
  const int32_t row_at = problem.output[0] + 1 + row;
  const int32_t first = taps.starts[row_at], last = taps.starts[row_at + 1];
  const int32_t last_depth = taps.starts[depth + 1];
  for (int32_t a = taps.starts[depth]; a < last_depth; ++a) {
    const T* plane = x + taps.positions[a] * (line * problem.size[1]);
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
__global__ void __launch_bounds__(Tile::kThreads)
    resize_taps_kernel(const T* __restrict__ x,  // [outer, D, H, W, inner]
                       T* __restrict__ y,        // [outer, O, P, Q, inner], all written
                       const ResizeTaps<accumulator_t<T>> taps, const ResizeByTaps problem,
                       const ResizeTapsBlocks plan) {
  using Number = accumulator_t<T>;
  using Staged = StagedColumns<Number, V, Tile>;
  FASTCONV_SHARED(Number, staged, [V][Staged::kPitch]);
  int64_t block = blockIdx.x;
  const int64_t lane_from = split_off(block, plan.lane_chunks) * plan.lanes;
  const int32_t column_from = static_cast<int32_t>(split_off(block, plan.segments)) * plan.columns;
  const int32_t row_from = static_cast<int32_t>(split_off(block, plan.strips)) * plan.rows;
  const int32_t depth = static_cast<int32_t>(split_off(block, problem.output[0]));
  const int64_t outer = block;

  const int32_t lanes = plan.lanes, height = problem.output[1], width = problem.output[2];
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % lanes;
  const int32_t column = column_from + static_cast<int32_t>(threadIdx.x) / lanes;
  const bool mine = static_cast<int32_t>(threadIdx.x) < plan.columns * lanes && column < width &&
                    lane_from + lane < plan.vectors;
  const int32_t column_to = width - column_from < plan.columns ? width : column_from + plan.columns;
  const int32_t* column_starts = taps.starts + problem.output[0] + 1 + height + 1;
  const int32_t first = column_starts[column_from], last = column_starts[column_to];
  // The columns of x that the block reads; none where no output has a tap.
  const int32_t left = first < last ? taps.positions[first] : 0;
  const int32_t right = first < last ? taps.positions[last - 1] + 1 : 0;
  const int32_t at_once = Staged::kMost / lanes;

  x += outer * problem.size[0] * problem.size[1] * problem.size[2] * problem.inner + lane_from * V;
  y += ((outer * problem.output[0] + depth) * height * width + column) * problem.inner +
       (lane_from + lane) * V;
  const int32_t row_to = height - row_from < plan.rows ? height : row_from + plan.rows;
  for (int32_t row = row_from; row < row_to; ++row) {
    Number sum[V] = {};
    int32_t tap = mine ? column_starts[column] : 0;
    const int32_t tap_end = mine ? column_starts[column + 1] : 0;
    for (int32_t from = left; from < right; from += at_once) {
      const int32_t to = right - from < at_once ? right : from + at_once;
      __syncthreads();  // what was staged before has been read
      for (int32_t i = threadIdx.x; i < (to - from) * lanes; i += Tile::kThreads) {
        const int32_t w = from + i / lanes, l = i % lanes;
        if (lane_from + l >= plan.vectors) continue;
        Number rows[V] = {};
        sum_rows(rows, x + w * problem.inner + l * V, problem, taps, depth, row);
#pragma unroll
        for (int v = 0; v < V; ++v) staged[v][Staged::at(i)] = rows[v];
      }
      __syncthreads();
      for (; tap < tap_end; ++tap) {
        const int32_t w = taps.positions[tap];
        if (w >= to) break;
        const int i = Staged::at((w - from) * lanes + lane);
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = multiply_add(taps.shares[tap], staged[v][i], sum[v]);
      }
    }
    if (!mine) continue;
    Vector<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) result[v] = narrow<T>(sum[v]);
    store_vector(y + row * (int64_t{width} * problem.inner), result);
  }
}

}  // namespace fastconv
