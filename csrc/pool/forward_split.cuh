// forward_split.cuh -- max and average pooling of large cells, up to whole planes: several threads a cell.
//
// y and indices as in forward_tile.cuh. A block has cells, ranks and lanes: the ranks of a cell share its
// positions, neighbours taking neighbours, and meet in a tree whose shape is fixed. Where there are few cells
// each is split among blocks, whose parts a second kernel puts together in their order.
#pragma once
#include "device/vector.h"
#include "pool/geometry.h"
#include "pool/search.cuh"
#include "pool/split.h"

namespace fastconv {

struct PoolForwardSplit {
  static constexpr int kThreads = 256;
  static constexpr int kLoadsInFlight = 4;  // hides most of the latency, at few registers
  static_assert((kThreads & (kThreads - 1)) == 0, "trees halve the threads");
};

/// The place of a thread: one cell and lane, and its rank among those who share it.
struct SplitPlace {
  int64_t cell;
  int32_t lane, rank, part;
};

/// Take the positions of one cell that fall to this thread.
template <class T, class Found>
__device__ __forceinline__ void search_cell(const T* __restrict__ x, const Pooling& pooling,
                                            const PoolSplit& split, const SplitPlace& at, Found& found) {
  const int64_t row = at.cell / pooling.axis[2].output, slice = row / pooling.axis[1].output;
  const int64_t plane = slice / pooling.axis[0].output;
  const Span span_w = pooling.axis[2].cell(static_cast<int32_t>(at.cell % pooling.axis[2].output));
  const Span span_h = pooling.axis[1].cell(static_cast<int32_t>(row % pooling.axis[1].output));
  const Span span_d = pooling.axis[0].cell(static_cast<int32_t>(slice % pooling.axis[0].output));
  const auto taps = [](const Span& span, int32_t step) {
    return span.stop > span.start ? (span.stop - span.start - 1) / step + 1 : 0;
  };
  const int32_t columns = taps(span_w, pooling.axis[2].dilation),
                rows = taps(span_h, pooling.axis[1].dilation);
  const int64_t total = int64_t{taps(span_d, pooling.axis[0].dilation)} * rows * columns;
  const int64_t share = ((total + split.parts - 1) / split.parts + kVector<T> - 1) / kVector<T> * kVector<T>;
  const int64_t begin = at.part * share, end = begin + share < total ? begin + share : total;
  const int ranks = 1 << split.log_ranks;

  if (columns == total && pooling.lanes == 1 &&
      pooling.axis[2].dilation == 1) {  // one row: neighbours in memory
    const int64_t base = pooling.input_at(plane, span_d.start, span_h.start, span_w.start, 0);
    const int64_t first =
        (int64_t{span_d.start} * pooling.axis[1].size + span_h.start) * pooling.axis[2].size + span_w.start;
    const T* cells = x + base;
    int64_t j = begin;
    if (reinterpret_cast<uintptr_t>(cells) % 16 == 0) {
      const int64_t whole = begin < end ? begin + (end - begin) / kVector<T> * kVector<T> : begin;
#pragma unroll PoolForwardSplit::kLoadsInFlight
      for (int64_t k = begin + at.rank * kVector<T>; k < whole; k += ranks * kVector<T>) {
        const Vector<T, kVector<T>> value = load_vector<kVector<T>>(cells + k);
#pragma unroll
        for (int i = 0; i < kVector<T>; ++i) found.take(widen(value[i]), first + k + i);
      }
      j = whole;
    }
#pragma unroll PoolForwardSplit::kLoadsInFlight
    for (int64_t k = j + at.rank; k < end; k += ranks) found.take(widen(cells[k]), first + k);
    return;
  }
#pragma unroll PoolForwardSplit::kLoadsInFlight
  for (int64_t k = begin + at.rank; k < end; k += ranks) {
    const int64_t line = k / columns;
    const int32_t w = span_w.start + static_cast<int32_t>(k % columns) * pooling.axis[2].dilation;
    const int32_t h = span_h.start + static_cast<int32_t>(line % rows) * pooling.axis[1].dilation;
    const int32_t d = span_d.start + static_cast<int32_t>(line / rows) * pooling.axis[0].dilation;
    const int64_t position = (int64_t{d} * pooling.axis[1].size + h) * pooling.axis[2].size + w;
    found.take(widen(x[(plane * pooling.positions() + position) * pooling.lanes + at.lane]), position);
  }
}

/// What an average over cell number `cell` is divided by.
template <class A>
__device__ __forceinline__ A divisor_of(const Pooling& pooling, const Averaging& averaging, int64_t cell) {
  if (averaging.divisor != 0) return A(averaging.divisor);
  const int64_t row = cell / pooling.axis[2].output, slice = row / pooling.axis[1].output;
  return A(pooling.axis[0].counted(static_cast<int32_t>(slice % pooling.axis[0].output),
                                   averaging.include_padding)) *
         A(pooling.axis[1].counted(static_cast<int32_t>(row % pooling.axis[1].output),
                                   averaging.include_padding)) *
         A(pooling.axis[2].counted(static_cast<int32_t>(cell % pooling.axis[2].output),
                                   averaging.include_padding));
}

template <class T, bool kMax>
__global__ void __launch_bounds__(PoolForwardSplit::kThreads) pool_forward_split_kernel(
    const T* __restrict__ x,                  // [planes, *size, lanes]
    T* __restrict__ y,                        // [planes, *output, lanes]; if one part, all written
    int64_t* __restrict__ indices,            // like y; nullptr for averages
    accumulator_t<T>* __restrict__ partial,   // [parts, *y]; if more parts, all written
    int64_t* __restrict__ partial_positions,  // like partial; nullptr for averages
    const Pooling pooling, const PoolSplit split, const Averaging averaging) {
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
  const int64_t block = blockIdx.x, tile = block % lane_tiles, group = block / lane_tiles % groups;
  SplitPlace at;
  at.part = static_cast<int32_t>(block / lane_tiles / groups);
  at.cell = group * (PoolForwardSplit::kThreads >> log_cell) + (thread >> log_cell);
  at.rank = (thread >> split.log_lanes) & ((1 << split.log_ranks) - 1);
  at.lane = static_cast<int32_t>(tile << split.log_lanes) + (thread & ((1 << split.log_lanes) - 1));
  const bool exists = at.cell < cells && at.lane < pooling.lanes;

  Found found;
  if (exists) search_cell(x, pooling, split, at, found);
  for (int distance = 1 << split.log_ranks >> 1; distance > 0; distance >>= 1) {
    values[thread] = found.value;
    if constexpr (kMax) positions[thread] = found.at;
    __syncthreads();
    if (at.rank < distance) {
      Found other;
      const int there = thread + (distance << split.log_lanes);
      other.value = values[there];
      if constexpr (kMax) other.at = positions[there];
      found.join(other);
    }
    __syncthreads();
  }
  if (!exists || at.rank != 0) return;
  const int64_t to = at.cell * pooling.lanes + at.lane;
  if (split.parts > 1) {
    const int64_t part = at.part * pooling.output_elements() + to;
    partial[part] = found.value;
    if constexpr (kMax) partial_positions[part] = found.at;
  } else if constexpr (kMax) {
    y[to] = narrow<T>(found.value);
    indices[to] = found.at;
  } else {
    y[to] = narrow<T>(found.value / divisor_of<A>(pooling, averaging, at.cell));
  }
}

/// The second stage: a thread puts the parts of one result together.
template <class T, bool kMax>
__global__ void __launch_bounds__(PoolForwardSplit::kThreads) pool_forward_join_kernel(
    const accumulator_t<T>* __restrict__ partial,   // [parts, *y]
    const int64_t* __restrict__ partial_positions,  // like partial; nullptr for averages
    T* __restrict__ y,                              // [planes, *output, lanes], all written
    int64_t* __restrict__ indices,                  // like y, all written; nullptr for averages
    const Pooling pooling, const PoolSplit split, const Averaging averaging) {
  using A = accumulator_t<T>;
  const int64_t to = int64_t{blockIdx.x} * PoolForwardSplit::kThreads + threadIdx.x;
  if (to >= pooling.output_elements()) return;
  std::conditional_t<kMax, LargestSoFar<A, int64_t>, SumSoFar<A, int64_t>> found;
  for (int32_t part = 0; part < split.parts; ++part) {
    auto other = found;
    other.value = partial[part * pooling.output_elements() + to];
    if constexpr (kMax) other.at = partial_positions[part * pooling.output_elements() + to];
    found.join(other);
  }
  if constexpr (kMax) {
    y[to] = narrow<T>(found.value);
    indices[to] = found.at;
  } else {
    y[to] = narrow<T>(found.value / divisor_of<A>(pooling, averaging, to / pooling.lanes));
  }
}

}  // namespace fastconv
