// forward_split.cuh -- max and average pooling of large cells, up to whole planes: several threads a cell.
//
// y, indices and taps as in forward_tile.cuh. A block has cells, ranks and lanes: the ranks of a cell share
// its positions, neighbours taking neighbours, and meet in a tree whose shape is fixed. Where there are few
// cells each is split among blocks, whose parts a second kernel puts together in their order.
#pragma once
#include "device/vector.h"
#include "pool/geometry.h"
#include "pool/search.cuh"
#include "pool/split.h"

namespace fastconv {

struct PoolForwardSplit {
  static constexpr int kThreads = 256;
  static constexpr int kLoadsInFlight = 2;  // more would spill: positions take two registers each
  static_assert((kThreads & (kThreads - 1)) == 0, "trees halve the threads");
};

/// A cell by its number, and the place of a thread among those who share it.
struct SplitPlace {
  int64_t plane;
  int32_t output[3];
  int32_t lane, rank, part;

  __device__ __forceinline__ SplitPlace(const Pooling& pooling, int64_t cell) {
#pragma unroll
    for (int a = 2; a >= 0; --a) {
      const int64_t above = quotient(cell, pooling.axis[a].output);
      output[a] = static_cast<int32_t>(cell - above * pooling.axis[a].output);
      cell = above;
    }
    plane = cell;
  }
};

/// Take the positions of one cell that fall to this thread.
template <class T, class Found>
__device__ __forceinline__ void search_cell(const T* __restrict__ x, const Pooling& pooling,
                                            const PoolSplit& split, const SplitPlace& at, Found& found) {
  Span span[3];
  int32_t taps[3];
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const PoolAxis& axis = pooling.axis[a];
    span[a] = axis.cell(at.output[a]);
    const int32_t reach = span[a].stop - span[a].start - 1;
    taps[a] = reach >= 0 ? static_cast<int32_t>(quotient(reach, axis.dilation)) + 1 : 0;
  }
  const int64_t total = int64_t{taps[0]} * taps[1] * taps[2];
  // Shares of whole vectors.
  const int64_t share =
      quotient(total + split.parts * int64_t{kVector<T>} - 1, split.parts * int64_t{kVector<T>}) * kVector<T>;
  const int64_t begin = at.part * share, end = begin + share < total ? begin + share : total;
  const int ranks = 1 << split.log_ranks;
  const int32_t step = pooling.axis[2].dilation, step_h = pooling.axis[1].dilation,
                step_d = pooling.axis[0].dilation;

  const int64_t first =
      (int64_t{span[0].start} * pooling.axis[1].size + span[1].start) * pooling.axis[2].size + span[2].start;
  found = Found(total > 0 ? first : -1);  // the first of the cell: that of a thread does as well

  if (taps[2] == total) {
    const T* row = x + (at.plane * pooling.positions() + first) * pooling.lanes + at.lane;
    int64_t k = begin + at.rank;
    if (pooling.lanes == 1 && step == 1 && reinterpret_cast<uintptr_t>(row) % 16 == 0 && begin < end) {
      const int64_t whole = begin + (end - begin) / kVector<T> * kVector<T>;
#pragma unroll PoolForwardSplit::kLoadsInFlight
      for (int64_t v = begin + at.rank * kVector<T>; v < whole; v += ranks * kVector<T>) {
        const Vector<T, kVector<T>> value = load_vector<kVector<T>>(row + v);
#pragma unroll
        for (int i = 0; i < kVector<T>; ++i) found.take(widen(value[i]), first + v + i);
      }
      k = whole + at.rank;
    }
#pragma unroll PoolForwardSplit::kLoadsInFlight
    for (; k < end; k += ranks) found.take(widen(row[k * step * pooling.lanes]), first + k * step);
    return;
  }
  for (int64_t k = begin + at.rank; k < end; k += ranks) {
    const int64_t line = quotient(k, taps[2]), slice = quotient(line, taps[1]);
    const int64_t w = span[2].start + (k - line * taps[2]) * step;
    const int64_t h = span[1].start + (line - slice * taps[1]) * step_h, d = span[0].start + slice * step_d;
    const int64_t position = (d * pooling.axis[1].size + h) * pooling.axis[2].size + w;
    found.take(widen(x[(at.plane * pooling.positions() + position) * pooling.lanes + at.lane]), position);
  }
}

/// Write where the maximum of a cell was found, in whichever form is asked for.
__device__ __forceinline__ void store_winner(int64_t* indices, uint8_t* taps, int64_t to, int64_t found,
                                             const Pooling& pooling, const WindowTaps& window,
                                             const SplitPlace& at) {
  if (taps == nullptr) {
    indices[to] = found;
    return;
  }
  const int64_t row = quotient(found, pooling.axis[2].size), slice = quotient(row, pooling.axis[1].size);
  taps[to] = window.tap(pooling, at.output[0], at.output[1], at.output[2], static_cast<int32_t>(slice),
                        static_cast<int32_t>(row - slice * pooling.axis[1].size),
                        static_cast<int32_t>(found - row * pooling.axis[2].size));
}

/// What an average over a cell is divided by.
template <class A>
__device__ __forceinline__ A divisor_of(const Pooling& pooling, const Averaging& averaging,
                                        const SplitPlace& at) {
  if (averaging.divisor != 0) return A(averaging.divisor);
  return A(pooling.axis[0].counted(at.output[0], averaging.include_padding)) *
         A(pooling.axis[1].counted(at.output[1], averaging.include_padding)) *
         A(pooling.axis[2].counted(at.output[2], averaging.include_padding));
}

template <class T, bool kMax>
__global__ void __launch_bounds__(PoolForwardSplit::kThreads) pool_forward_split_kernel(
    const T* __restrict__ x,                  // [planes, *size, lanes]
    T* __restrict__ y,                        // [planes, *output, lanes]; if one part, all written
    int64_t* __restrict__ indices,            // like y; nullptr for averages and
    uint8_t* __restrict__ taps,               // if these are wanted instead
    accumulator_t<T>* __restrict__ partial,   // [parts, *y]; if more parts, all written
    int64_t* __restrict__ partial_positions,  // like partial; nullptr for averages
    const Pooling pooling, const WindowTaps window, const PoolSplit split, const Averaging averaging) {
  using A = accumulator_t<T>;
  using Found = std::conditional_t<kMax, LargestSoFar<A, int64_t>, SumSoFar<A, int64_t>>;
  FASTCONV_SHARED(A, values, [PoolForwardSplit::kThreads]);
  FASTCONV_SHARED(int64_t, positions, [kMax ? PoolForwardSplit::kThreads : 1]);
  const int thread = threadIdx.x;
  const int log_cell = split.log_ranks + split.log_lanes;  // threads of a cell
  const int32_t lane_tiles = (pooling.lanes + (1 << split.log_lanes) - 1) >> split.log_lanes;
  const int64_t cells = pooling.planes * pooling.outputs();
  const int64_t groups =
      (cells + (PoolForwardSplit::kThreads >> log_cell) - 1) / (PoolForwardSplit::kThreads >> log_cell);
  const int64_t group_of_part = quotient(blockIdx.x, lane_tiles), part = quotient(group_of_part, groups);
  const int64_t cell =
      (group_of_part - part * groups) * (PoolForwardSplit::kThreads >> log_cell) + (thread >> log_cell);
  SplitPlace at(pooling, cell);
  at.part = static_cast<int32_t>(part);
  at.rank = (thread >> split.log_lanes) & ((1 << split.log_ranks) - 1);
  at.lane = static_cast<int32_t>((blockIdx.x - group_of_part * lane_tiles) << split.log_lanes) +
            (thread & ((1 << split.log_lanes) - 1));
  const bool exists = cell < cells && at.lane < pooling.lanes;

  Found found(-1);
  if (exists) search_cell(x, pooling, split, at, found);
  for (int distance = 1 << split.log_ranks >> 1; distance > 0; distance >>= 1) {
    values[thread] = found.value;
    if constexpr (kMax) positions[thread] = found.at;
    __syncthreads();
    if (at.rank < distance) {
      Found other(-1);
      const int there = thread + (distance << split.log_lanes);
      other.value = values[there];
      if constexpr (kMax) other.at = positions[there];
      found.join(other);
    }
    __syncthreads();
  }
  if (!exists || at.rank != 0) return;
  const int64_t to = cell * pooling.lanes + at.lane;
  if (split.parts > 1) {
    const int64_t part = at.part * pooling.output_elements() + to;
    partial[part] = found.value;
    if constexpr (kMax) partial_positions[part] = found.at;
  } else if constexpr (kMax) {
    y[to] = narrow<T>(found.value);
    store_winner(indices, taps, to, found.at, pooling, window, at);
  } else {
    y[to] = narrow<T>(found.value / divisor_of<A>(pooling, averaging, at));
  }
}

/// The second stage: a thread puts the parts of one result together.
template <class T, bool kMax>
__global__ void __launch_bounds__(PoolForwardSplit::kThreads) pool_forward_join_kernel(
    const accumulator_t<T>* __restrict__ partial,   // [parts, *y]
    const int64_t* __restrict__ partial_positions,  // like partial; nullptr for averages
    T* __restrict__ y,                              // [planes, *output, lanes], all written
    int64_t* __restrict__ indices,                  // like y, all written; nullptr for averages and
    uint8_t* __restrict__ taps,                     // if these are wanted instead
    const Pooling pooling, const WindowTaps window, const PoolSplit split, const Averaging averaging) {
  using A = accumulator_t<T>;
  const int64_t to = int64_t{blockIdx.x} * PoolForwardSplit::kThreads + threadIdx.x;
  if (to >= pooling.output_elements()) return;
  std::conditional_t<kMax, LargestSoFar<A, int64_t>, SumSoFar<A, int64_t>> found(-1);
#pragma unroll 1
  for (int32_t part = 0; part < split.parts; ++part) {
    auto other = found;
    other.value = partial[part * pooling.output_elements() + to];
    if constexpr (kMax) other.at = partial_positions[part * pooling.output_elements() + to];
    found.join(other);
  }
  if constexpr (kMax) {
    y[to] = narrow<T>(found.value);
    store_winner(indices, taps, to, found.at, pooling, window,
                 SplitPlace(pooling, quotient(to, pooling.lanes)));
  } else {
    y[to] = narrow<T>(found.value /
                      divisor_of<A>(pooling, averaging, SplitPlace(pooling, quotient(to, pooling.lanes))));
  }
}

}  // namespace fastconv
