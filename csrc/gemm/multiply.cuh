// multiply.cuh -- the sum of a tile: operands go through registers and two buffers of shared memory.
//
// A Source says where the operands come from. It is made anew for a second attempt, and has
//
//   fetch()                            read its thread's share of the next kDepth into registers, and step on
//   stash(a_panel, b_panel, guarded)   write them to shared memory, outside elements as
//   outside_value(guarded) not_finite()                       whether some element of a was an infinity or
//   NaN
//
// Elements of b may be outside: padding, whose products are no part of the sum. They are stored as 0, which
// is the same unless a holds an infinity or NaN. Where it does, the tile is computed again, guarded: outside
// elements are then -0, which no other element is, and are left out one by one.
#pragma once
#include "device/warp.h"
#include "gemm/tile.cuh"

namespace fastconv {

/// What is stored for an element outside, and for any other one.
template <class Sum>
__device__ __forceinline__ Sum outside_value(bool guarded) {
  return guarded ? Sum(-0.0) : Sum(0);
}
template <class Sum>
__device__ __forceinline__ Sum inside_value(Sum value) {
  return value + Sum(0);  // turns -0 into 0, and nothing else
}
template <class Sum>
__device__ __forceinline__ bool is_outside(Sum value) {
  return value == 0 && 1 / value < 0;
}

/// kCount values of a panel's row that a thread multiplies.
template <class Tile, int kCount, int kLanes>
__device__ __forceinline__ void read_fragment(typename Tile::Sum (&value)[kCount],
                                              const typename Tile::Sum* from) {
#pragma unroll
  for (int g = 0; g < kCount / Tile::kGroup; ++g) {
    const auto group = load_vector<Tile::kGroup>(from + g * kLanes * Tile::kGroup);
#pragma unroll
    for (int i = 0; i < Tile::kGroup; ++i) value[g * Tile::kGroup + i] = group[i];
  }
}

template <class Tile>
using GemmSum = typename Tile::Sum[Tile::kFragmentRows][Tile::kFragmentColumns];

/// sum += a panel * b panel.
template <class Tile>
__device__ __forceinline__ void multiply_panels(GemmSum<Tile>& sum, const typename Tile::Sum* a_panel,
                                                const typename Tile::Sum* b_panel,
                                                const GemmFragment<Tile>& place, bool guarded) {
  typename Tile::Sum a[Tile::kFragmentRows], b[Tile::kFragmentColumns];
  const auto read = [&](int depth) {
    read_fragment<Tile, Tile::kFragmentRows, Tile::kLaneRows>(a, a_panel + Tile::at(depth, place.row(0)));
    read_fragment<Tile, Tile::kFragmentColumns, Tile::kLaneColumns>(
        b, b_panel + Tile::at(depth, place.column(0)));
  };
  if (guarded) {
#pragma unroll 1
    for (int depth = 0; depth < Tile::kDepth; ++depth) {
      read(depth);
#pragma unroll
      for (int n = 0; n < Tile::kFragmentColumns; ++n) {
        const bool outside = is_outside(b[n]);
#pragma unroll
        for (int m = 0; m < Tile::kFragmentRows; ++m) {
          sum[m][n] = outside ? sum[m][n] : multiply_add(a[m], b[n], sum[m][n]);
        }
      }
    }
    return;
  }
#pragma unroll
  for (int depth = 0; depth < Tile::kDepth; ++depth) {
    read(depth);
#pragma unroll
    for (int m = 0; m < Tile::kFragmentRows; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kFragmentColumns; ++n) sum[m][n] = multiply_add(a[m], b[n], sum[m][n]);
    }
  }
}

/// Whether the condition holds for any thread of the block, which all of them ask. votes: shared memory that
/// none of them reads otherwise, a value a warp.
template <class Tile>
__device__ __forceinline__ bool any_thread(bool condition, typename Tile::Sum* votes) {
  const bool found = __any_sync(kFullMask, condition);
  if (threadIdx.x % kWarp == 0) votes[threadIdx.x / kWarp] = found;
  __syncthreads();
  bool any = false;
#pragma unroll
  for (int warp = 0; warp < Tile::kThreads / kWarp; ++warp) any |= votes[warp] != 0;
  __syncthreads();
  return any;
}

/// sum = the product of both operands over `steps` times kDepth. Every thread of the block calls it.
///
/// panels: two buffers, each a panel of a and one of b. padded: whether b has elements outside. make:
/// function that gives the Source at its beginning.
template <class Tile, class Make>
__device__ __forceinline__ void multiply(GemmSum<Tile>& sum,
                                         typename Tile::Sum (&panels)[2][2 * Tile::kPanel], int steps,
                                         bool padded, const Make& make) {
  const GemmFragment<Tile> place(threadIdx.x);
  for (bool guarded = false;; guarded = true) {
#pragma unroll
    for (int m = 0; m < Tile::kFragmentRows; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kFragmentColumns; ++n) sum[m][n] = 0;
    }
    if (steps == 0) return;
    auto source = make();
    source.fetch();
    source.stash(panels[0], panels[0] + Tile::kPanel, guarded);
    __syncthreads();
    int now = 0;  // which buffer is multiplied, in elements
    for (int more = steps - 1; more >= 0; --more) {
      if (more > 0) source.fetch();  // arrives while the panels before it are multiplied
      const typename Tile::Sum* panel = panels[0] + now;
      multiply_panels<Tile>(sum, panel, panel + Tile::kPanel, place, guarded);
      now = 2 * Tile::kPanel - now;
      if (more > 0) source.stash(panels[0] + now, panels[0] + now + Tile::kPanel, guarded);
      __syncthreads();
    }
    if (!padded || guarded || !any_thread<Tile>(source.not_finite(), panels[0])) return;
  }
}

/// How many times kDepth a sum takes. Throws LaunchError where that is more than a kernel counts.
template <class Tile>
int steps_for(int64_t depth) {
  const int64_t steps = (depth + Tile::kDepth - 1) / Tile::kDepth;
  if (steps > std::numeric_limits<int32_t>::max() / Tile::kDepth) {
    throw LaunchError("sums of " + std::to_string(depth) + " products, expected fewer than 2^31");
  }
  return static_cast<int>(steps);
}

}  // namespace fastconv
