// input_grad.cuh -- input gradients of max and average pooling, windowed and adaptive, in gather form.
//
//   max      dx[i] = sum of dy[p] over those p covering i whose indices[p] is i, or whose taps[p] names i in
//            the window of p
//   average  dx[i] = sum of dy[p] / divisor[p] over the p covering i
//
// dx [planes, *size, lanes]; dy, indices and taps [planes, *output, lanes]. Every input position adds up what
// its windows send it, in the order of the windows: no atomics, and the same bits at every run. An index that
// is no position of its window sends nothing. Geometry: geometry.h, tiles: tile.h.
#pragma once
#include "device/numeric.h"
#include "pool/tile.h"

namespace fastconv {

struct PoolInputGradTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocksPerSm = 4;  // 64 registers: left to itself, the compiler spills
  static constexpr int kLoadsInFlight = 4;   // hides most of the latency, at few registers
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// A tile of dx from a box of dy in shared memory; planes have fewer than 2^31 positions.
template <class T, bool kMax>
__global__ void __launch_bounds__(PoolInputGradTile::kThreads, PoolInputGradTile::kMinBlocksPerSm)
    pool_input_grad_tile_kernel(const T* __restrict__ dy,             // [planes, *output, lanes]
                                const int64_t* __restrict__ indices,  // like dy; nullptr for averages and
                                const uint8_t* __restrict__ taps,     // if these are given instead
                                T* __restrict__ dx,                   // [planes, *size, lanes], all written
                                const Pooling pooling, const WindowTaps window, const TilePlan plan,
                                const Averaging averaging) {
  using A = accumulator_t<T>;
  FASTCONV_DYNAMIC_SHARED(unsigned char, shared);
  A* shares = reinterpret_cast<A*>(shared);  // what each window sends to each of its elements
  int32_t* winners = reinterpret_cast<int32_t*>(shares + plan.elements());  // positions, of maxima only
  int32_t* starts =
      winners + (kMax ? plan.elements() : 0);  // windows that cover a position, relative to the box
  int32_t* stops = starts + plan.entries();
  int32_t* counts = stops + plan.entries();  // elements of a window along each axis, of averages only

  const TileOrigin origin = plan.origin(blockIdx.x);
  int32_t begin[3], end[3], entry = 0, box_entry = 0;
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const PoolAxis& axis = pooling.axis[a];
    const int32_t last = origin.axis[a] + plan.axis(a) - 1;
    begin[a] = axis.covering(origin.axis[a]).start;
    end[a] = axis.covering(last < axis.size ? last : axis.size - 1).stop;
#pragma unroll 1
    for (int32_t i = threadIdx.x; i < plan.axis(a); i += PoolInputGradTile::kThreads) {
      const int32_t at = origin.axis[a] + i;
      const Span windows = at < axis.size ? axis.covering(at) : Span{begin[a], begin[a]};
      starts[entry + i] = windows.start - begin[a];
      stops[entry + i] = windows.stop - begin[a];
    }
    entry += plan.axis(a);
    if (!kMax) {
#pragma unroll 1
      for (int32_t i = threadIdx.x; i < plan.box(a); i += PoolInputGradTile::kThreads) {
        const bool exists = begin[a] + i < axis.output;
        counts[box_entry + i] = exists ? axis.counted(begin[a] + i, averaging.include_padding) : 1;
      }
      box_entry += plan.box(a);
    }
  }
  if (!kMax) __syncthreads();

  const int32_t loads = plan.loads();
#pragma unroll PoolInputGradTile::kLoadsInFlight
  for (int32_t load = threadIdx.x; load < loads; load += PoolInputGradTile::kThreads) {
    int32_t row, c, lane, plane, d, h;
    plan.split_load(load, row, c, lane);
    plan.split_row(row, plane, d, h);
    if (origin.plane + plane < pooling.planes && begin[0] + d < end[0] && begin[1] + h < end[1] &&
        begin[2] + c < end[2] && origin.lane + lane < pooling.lanes) {
      const int64_t from = pooling.output_at(origin.plane + plane, begin[0] + d, begin[1] + h, begin[2] + c,
                                             origin.lane + lane);
      const int32_t to = row * plan.row_elements() + plan.column(c) + lane;
      const A value = widen(dy[from]);
      if constexpr (kMax) {
        const int64_t winner =
            taps == nullptr ? indices[from]
                            : window.position(pooling, begin[0] + d, begin[1] + h, begin[2] + c, taps[from]);
        shares[to] = value;
        winners[to] = winner >= 0 && winner < pooling.positions() ? static_cast<int32_t>(winner) : -1;
      } else {
        const A counted =
            A(counts[d]) * A(counts[plan.box(0) + h]) * A(counts[plan.box(0) + plan.box(1) + c]);
        shares[to] = value / (averaging.divisor != 0 ? A(averaging.divisor) : counted);
      }
    }
  }
  __syncthreads();

  for (int32_t result = threadIdx.x; result < plan.results(); result += PoolInputGradTile::kThreads) {
    const TileResult at = plan.result(result);
    const int32_t lane = origin.lane + at.lane, d = origin.axis[0] + at.axis[0],
                  h = origin.axis[1] + at.axis[1], w = origin.axis[2] + at.axis[2];
    if (!plan.exists(at) || origin.plane + at.plane >= pooling.planes || lane >= pooling.lanes ||
        d >= pooling.axis[0].size || h >= pooling.axis[1].size || w >= pooling.axis[2].size) {
      continue;
    }
    const int32_t at_d = at.axis[0], at_h = plan.axis(0) + at.axis[1],
                  at_w = plan.axis(0) + plan.axis(1) + at.axis[2];
    const int32_t start_q = starts[at_w], stop_q = stops[at_w];
    const int32_t here = (d * pooling.axis[1].size + h) * pooling.axis[2].size + w;
    A sum = 0;
    for (int32_t o = starts[at_d]; o < stops[at_d]; ++o) {
      for (int32_t p = starts[at_h]; p < stops[at_h]; ++p) {
        const int32_t row = ((at.plane * plan.box(0) + o) * plan.box(1) + p) * plan.row_elements() + at.lane;
        for (int32_t q = start_q; q < stop_q; ++q) {
          const int32_t place = row + plan.column(q);
          if (!kMax || winners[place] == here) sum += shares[place];
        }
      }
    }
    dx[pooling.input_at(origin.plane + at.plane, d, h, w, lane)] = narrow<T>(sum);
  }
}

struct PoolInputGradDirect {
  static constexpr int kThreads = 256;       // one element of dx each; neighbours write neighbours
  static constexpr int kMinBlocksPerSm = 2;  // 128 registers: left to itself, the compiler spills
};

/// The same from global memory, whatever the sizes: for windows whose box would not fit shared memory. Tiles
/// have kThreads results at most, and no box.
template <class T, bool kMax>
__global__ void __launch_bounds__(PoolInputGradDirect::kThreads, PoolInputGradDirect::kMinBlocksPerSm)
    pool_input_grad_direct_kernel(const T* __restrict__ dy,             // [planes, *output, lanes]
                                  const int64_t* __restrict__ indices,  // like dy; nullptr for averages and
                                  const uint8_t* __restrict__ taps,     // if these are given instead
                                  T* __restrict__ dx,                   // [planes, *size, lanes], all written
                                  const Pooling pooling, const WindowTaps window, const TilePlan plan,
                                  const Averaging averaging) {
  using A = accumulator_t<T>;
  if (static_cast<int32_t>(threadIdx.x) >= plan.results()) return;
  const TileOrigin origin = plan.origin(blockIdx.x);
  const TileResult at = plan.result(threadIdx.x);
  const int64_t plane = origin.plane + at.plane;
  const int32_t lane = origin.lane + at.lane, d = origin.axis[0] + at.axis[0],
                h = origin.axis[1] + at.axis[1], w = origin.axis[2] + at.axis[2];
  if (!plan.exists(at) || plane >= pooling.planes || lane >= pooling.lanes || d >= pooling.axis[0].size ||
      h >= pooling.axis[1].size || w >= pooling.axis[2].size) {
    return;
  }
  const Span covering_o = pooling.axis[0].covering(d), covering_p = pooling.axis[1].covering(h),
             covering_q = pooling.axis[2].covering(w);
  const int64_t here = (int64_t{d} * pooling.axis[1].size + h) * pooling.axis[2].size + w;
  const A fixed = A(averaging.divisor);
  A sum = 0;
  // Divisions are long: unrolled, they would take registers that are not there.
#pragma unroll 1
  for (int32_t o = covering_o.start; o < covering_o.stop; ++o) {
#pragma unroll 1
    for (int32_t p = covering_p.start; p < covering_p.stop; ++p) {
      A counted = 1;
      if (!kMax && fixed == 0) {
        counted = A(pooling.axis[0].counted(o, averaging.include_padding)) *
                  A(pooling.axis[1].counted(p, averaging.include_padding));
      }
      const int64_t row = pooling.output_at(plane, o, p, 0, lane);
#pragma unroll 1
      for (int32_t q = covering_q.start; q < covering_q.stop; ++q) {
        const int64_t from = row + int64_t{q} * pooling.lanes;
        if constexpr (kMax) {
          const int64_t winner =
              taps == nullptr ? indices[from] : window.position(pooling, o, p, q, taps[from]);
          if (winner == here) sum += widen(dy[from]);
        } else {
          const A divisor =
              fixed != 0 ? fixed : counted * A(pooling.axis[2].counted(q, averaging.include_padding));
          sum += widen(dy[from]) / divisor;
        }
      }
    }
  }
  dx[pooling.input_at(plane, d, h, w, lane)] = narrow<T>(sum);
}

}  // namespace fastconv
