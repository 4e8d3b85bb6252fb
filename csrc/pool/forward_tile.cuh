// forward_tile.cuh -- max and average pooling, windowed and adaptive, for windows that fit shared memory.
//
//   max      y[p] = max over the cell of p of x[i], indices[p] = that i in the flattened *size, or
//            taps[p] = that i in the flattened window
//   average  y[p] = sum over the cell of p of x[i] / divisor
//
// x [planes, *size, lanes], y, indices and taps [planes, *output, lanes]. A block loads the box of its tile
// once, in 128-bit accesses where pointers and sizes allow; its threads then walk lanes, or columns where
// there is one lane, so that they read banks and write memory side by side. Geometry: geometry.h, tiles:
// tile.h.
#pragma once
#include "device/vector.h"
#include "pool/search.cuh"
#include "pool/tile.h"

namespace fastconv {

struct PoolForwardTile {
  static constexpr int kThreads = 256;
  static constexpr int kLoadsInFlight = 4;  // hides most of the latency, at few registers
  // A position within a box, packed into one int: 9 bits of depth, 10 of height, 12 of width.
  static constexpr int kDepthShift = 22, kHeightShift = 12;
  static_assert(kThreads % kWarp == 0, "whole warps only");
  static_assert(kDepthShift + 9 <= 31, "a packed position stays positive");
};

/// Store a vector of neighbouring columns, whose first is a multiple of N, in a row of the box.
template <class T, int N>
__device__ __forceinline__ void store_columns(T* row, const TilePlan& plan, int32_t c,
                                              const Vector<T, N>& value) {
  if constexpr (N == 1) {
    row[plan.column(c)] = value[0];
  } else if (plan.phases() == 1) {
    store_vector(row + plan.column(c), value);
  } else if (plan.phases() == 2) {
    Vector<T, N / 2> even, odd;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      even[i] = value[2 * i];
      odd[i] = value[2 * i + 1];
    }
    store_vector(row + plan.column(c), even);
    store_vector(row + plan.column(c + 1), odd);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) row[plan.column(c + i)] = value[i];
  }
}

/// Load the box from `begin` to `end` of the block's planes and lanes, N elements at a time; columns outside
/// the input are `neutral`.
template <int N, class T>
__device__ __forceinline__ void load_box(const T* x, T* box, const Pooling& pooling, const TilePlan& plan,
                                         const TileOrigin& origin, const int32_t (&begin)[3],
                                         const int32_t (&end)[3], T neutral) {
  const int32_t loads = plan.loads();
  const bool by_lane = pooling.lanes > 1;
#pragma unroll PoolForwardTile::kLoadsInFlight
  for (int32_t load = threadIdx.x; load < loads; load += PoolForwardTile::kThreads) {
    int32_t row, c, lane, plane, d, h;
    plan.split_load(load, row, c, lane);
    plan.split_row(row, plane, d, h);
    if (origin.plane + plane < pooling.planes && begin[0] + d < end[0] && begin[1] + h < end[1] &&
        begin[2] + c < end[2] && origin.lane + lane < pooling.lanes) {
      const int32_t w = begin[2] + c;
      Vector<T, N> value;
      if (w >= 0 && w < pooling.axis[2].size) {
        value = load_vector<N>(
            x + pooling.input_at(origin.plane + plane, begin[0] + d, begin[1] + h, w, origin.lane + lane));
      } else {
#pragma unroll
        for (int i = 0; i < N; ++i) value[i] = neutral;
      }
      if (by_lane) {
        store_vector(box + row * plan.row_elements() + plan.column(c) + lane, value);
      } else {
        store_columns(box + row * plan.row_elements(), plan, c, value);
      }
    }
  }
}

/// vectors: whether x is aligned and its innermost axis divisible for 128-bit loads.
template <class T, bool kMax>
__global__ void __launch_bounds__(PoolForwardTile::kThreads)
    pool_forward_tile_kernel(const T* __restrict__ x,        // [planes, *size, lanes]
                             T* __restrict__ y,              // [planes, *output, lanes], all written
                             int64_t* __restrict__ indices,  // like y, all written; nullptr for averages and
                             uint8_t* __restrict__ taps,     // if these are wanted instead
                             const Pooling pooling, const WindowTaps window, const TilePlan plan,
                             const Averaging averaging, const bool vectors) {
  using A = accumulator_t<T>;
  FASTCONV_DYNAMIC_SHARED(unsigned char, shared);
  int32_t* starts = reinterpret_cast<int32_t*>(shared);  // of every window, relative to the box
  int32_t* stops = starts + plan.entries();
  // Of averages how many elements of the window count, of maxima the first that lies in the input.
  int32_t* counts = stops + plan.entries();
  T* operands = reinterpret_cast<T*>(shared + (3 * plan.entries() * sizeof(int32_t) + 15) / 16 * 16);

  const TileOrigin origin = plan.origin(blockIdx.x);
  int32_t begin[3], end[3];
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const PoolAxis& axis = pooling.axis[a];
    const int32_t last =
        origin.axis[a] + plan.axis(a) < axis.output ? origin.axis[a] + plan.axis(a) : axis.output;
    const Span box =
        a == 2 ? axis.overhanging(origin.axis[a], last - 1) : axis.reach(origin.axis[a], last - 1);
    begin[a] = box.start;
    end[a] = box.stop;
  }
  if (vectors && pooling.lanes == 1) begin[2] -= begin[2] & (plan.sector() - 1);
  int32_t entry = 0;
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const PoolAxis& axis = pooling.axis[a];
#pragma unroll 1
    for (int32_t i = threadIdx.x; i < plan.axis(a); i += PoolForwardTile::kThreads) {
      const int32_t p = origin.axis[a] + i;
      if (p >= axis.output) continue;
      // All lanes of a warp walk the same columns of their windows, so that they meet no bank twice.
      const Span inside = axis.cell(p), cell = a == 2 ? axis.window(p) : inside;
      starts[entry + i] = cell.start - begin[a];
      stops[entry + i] = cell.stop - begin[a];
      if (kMax) {
        counts[entry + i] = inside.start < inside.stop ? inside.start - begin[a] : -1;
      } else {
        counts[entry + i] = axis.counted(p, averaging.include_padding);
      }
    }
    entry += plan.axis(a);
  }
  using Found = std::conditional_t<kMax, LargestSoFar<A, int32_t>, SumSoFar<A, int32_t>>;
  const T neutral = narrow<T>(Found::kNeutral);
  if (vectors) {
    load_box<kVector<T>>(x, operands, pooling, plan, origin, begin, end, neutral);
  } else {
    load_box<1>(x, operands, pooling, plan, origin, begin, end, neutral);
  }
  __syncthreads();

  for (int32_t result = threadIdx.x; result < plan.results(); result += PoolForwardTile::kThreads) {
    const TileResult at = plan.result(result);
    const int32_t lane = origin.lane + at.lane, o = origin.axis[0] + at.axis[0],
                  p = origin.axis[1] + at.axis[1], q = origin.axis[2] + at.axis[2];
    if (!plan.exists(at) || origin.plane + at.plane >= pooling.planes || lane >= pooling.lanes ||
        o >= pooling.axis[0].output || p >= pooling.axis[1].output || q >= pooling.axis[2].output) {
      continue;
    }
    const int32_t at_o = at.axis[0], at_p = plan.axis(0) + at.axis[1],
                  at_q = plan.axis(0) + plan.axis(1) + at.axis[2];
    const int32_t start_c = starts[at_q], stop_c = stops[at_q];
    Found found(counts[at_o] < 0 || counts[at_p] < 0 || counts[at_q] < 0
                    ? -1
                    : counts[at_o] << PoolForwardTile::kDepthShift |
                          counts[at_p] << PoolForwardTile::kHeightShift | counts[at_q]);
    for (int32_t d = starts[at_o]; d < stops[at_o]; d += pooling.axis[0].dilation) {
      for (int32_t h = starts[at_p]; h < stops[at_p]; h += pooling.axis[1].dilation) {
        const T* row =
            operands + ((at.plane * plan.box(0) + d) * plan.box(1) + h) * plan.row_elements() + at.lane;
        const int32_t packed = d << PoolForwardTile::kDepthShift | h << PoolForwardTile::kHeightShift;
        for (int32_t c = start_c; c < stop_c; c += pooling.axis[2].dilation) {
          found.take(widen(row[plan.column(c)]), packed | c);
        }
      }
    }
    const int64_t to = pooling.output_at(origin.plane + at.plane, o, p, q, lane);
    if constexpr (kMax) {
      y[to] = narrow<T>(found.value);
      const int32_t d = begin[0] + (found.at >> PoolForwardTile::kDepthShift);
      const int32_t h =
          begin[1] + (found.at >> PoolForwardTile::kHeightShift &
                      ((1 << (PoolForwardTile::kDepthShift - PoolForwardTile::kHeightShift)) - 1));
      const int32_t w = begin[2] + (found.at & ((1 << PoolForwardTile::kHeightShift) - 1));
      if (taps != nullptr) {
        taps[to] = window.tap(pooling, o, p, q, d, h, w);
      } else {
        indices[to] = found.at < 0 ? -1 : (int64_t{d} * pooling.axis[1].size + h) * pooling.axis[2].size + w;
      }
    } else {
      const A counted = A(counts[at_o]) * A(counts[at_p]) * A(counts[at_q]);
      y[to] = narrow<T>(found.value / (averaging.divisor != 0 ? A(averaging.divisor) : counted));
    }
  }
}

}  // namespace fastconv
