// store.cuh -- a tile from registers to global memory, coalesced whichever of its axes is contiguous there.
//
// A Target says where a tile goes, relative to its first row and column:
//
//   T* p                     of element (0, 0), with row(0) and column(0) not yet added
//   int rows, columns        how many of each are to be written
//   bool along_rows          whether rows are contiguous in memory, and not columns
//   bool vectors             whether kGroup of them from a multiple of kGroup on are contiguous and aligned
//   int64_t row(int), column(int)   offsets, which add up
#pragma once
#include "gemm/multiply.cuh"

namespace fastconv {

/// c as a plain matrix, its columns contiguous.
template <class T>
struct MatrixTarget {
  T* p;           // [rows, columns]
  int64_t pitch;  // elements from one row to the next
  int rows, columns;
  bool vectors;
  static constexpr bool along_rows = false;
  __device__ int64_t row(int r) const { return r * pitch; }
  __device__ int64_t column(int c) const { return c; }
};

/// Straight from registers, by vectors: lanes of a warp complete whole sectors.
template <class Tile, class Target>
__device__ __forceinline__ void store_vectors(const GemmSum<Tile>& sum, const Target& target,
                                              const GemmFragment<Tile>& place) {
  using T = std::remove_reference_t<decltype(*target.p)>;
  Vector<T, Tile::kGroup> group;
  if (target.along_rows) {
#pragma unroll
    for (int n = 0; n < Tile::kFragmentColumns; ++n) {
      if (place.column(n) >= target.columns) continue;
      T* to = target.p + target.column(place.column(n));
#pragma unroll
      for (int m = 0; m < Tile::kFragmentRows; m += Tile::kGroup) {
        if (place.row(m) >= target.rows) continue;
#pragma unroll
        for (int i = 0; i < Tile::kGroup; ++i) group[i] = narrow<T>(sum[m + i][n]);
        store_vector_global(to + target.row(place.row(m)), group);
      }
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < Tile::kFragmentColumns; n += Tile::kGroup) {
    if (place.column(n) >= target.columns) continue;
    T* to = target.p + target.column(place.column(n));
#pragma unroll
    for (int m = 0; m < Tile::kFragmentRows; ++m) {
      if (place.row(m) >= target.rows) continue;
#pragma unroll
      for (int i = 0; i < Tile::kGroup; ++i) group[i] = narrow<T>(sum[m][n + i]);
      store_vector_global(to + target.row(place.row(m)), group);
    }
  }
}

/// By way of shared memory, one element a lane: for sizes that no vectors fit. A warp turns a few rows or
/// columns at a time in its own part of it.
template <class Tile, class Target>
__device__ __forceinline__ void store_elements(const GemmSum<Tile>& sum, const Target& target,
                                               const GemmFragment<Tile>& place, typename Tile::Sum* staging) {
  using T = std::remove_reference_t<decltype(*target.p)>;
  constexpr int kRowPitch = Tile::kWarpColumns + Tile::kGroup;
  constexpr int kColumnPitch = Tile::kWarpRows + Tile::kGroup;
  constexpr int kPart = 4 * Tile::kPanel / (Tile::kThreads / kWarp) / Tile::kGroup * Tile::kGroup;
  static_assert(Tile::kLaneRows * kRowPitch <= kPart && Tile::kLaneColumns * kColumnPitch <= kPart, "fits");
  typename Tile::Sum* part = staging + threadIdx.x / kWarp * kPart;
  const int lane = threadIdx.x % kWarp;
  Vector<typename Tile::Sum, Tile::kGroup> group;
  if (target.along_rows) {
    const int row = place.warp_row + lane;
    static_assert(Tile::kWarpRows == kWarp, "a lane a row");
#pragma unroll
    for (int n = 0; n < Tile::kFragmentColumns; ++n) {
#pragma unroll
      for (int m = 0; m < Tile::kFragmentRows; m += Tile::kGroup) {
#pragma unroll
        for (int i = 0; i < Tile::kGroup; ++i) group[i] = sum[m + i][n];
        store_vector(part + place.lane_column * kColumnPitch + place.row(m) - place.warp_row, group);
      }
      __syncwarp();
      for (int i = 0; i < Tile::kLaneColumns; ++i) {
        const int column = place.column(n) + (i - place.lane_column) * Tile::kGroup;
        if (row < target.rows && column < target.columns) {
          target.p[target.row(row) + target.column(column)] = narrow<T>(part[i * kColumnPitch + lane]);
        }
      }
      __syncwarp();
    }
    return;
  }
  constexpr int kTurns = Tile::kWarpColumns / kWarp;
  int64_t to[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int column = place.warp_column + turn * kWarp + lane;
    to[turn] = column < target.columns ? target.column(column) : 0;
  }
#pragma unroll
  for (int m = 0; m < Tile::kFragmentRows; ++m) {
#pragma unroll
    for (int n = 0; n < Tile::kFragmentColumns; n += Tile::kGroup) {
#pragma unroll
      for (int i = 0; i < Tile::kGroup; ++i) group[i] = sum[m][n + i];
      store_vector(part + place.lane_row * kRowPitch + place.column(n) - place.warp_column, group);
    }
    __syncwarp();
    for (int i = 0; i < Tile::kLaneRows; ++i) {
      const int row = place.row(m) + (i - place.lane_row) * Tile::kGroup;
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        const int column = turn * kWarp + lane;
        if (row < target.rows && place.warp_column + column < target.columns) {
          target.p[target.row(row) + to[turn]] = narrow<T>(part[i * kRowPitch + column]);
        }
      }
    }
    __syncwarp();
  }
}

/// Write the tile. staging: the panels, which no thread of the block reads any more.
template <class Tile, class Target>
__device__ __forceinline__ void store_tile(const GemmSum<Tile>& sum, const Target& target,
                                           typename Tile::Sum* staging) {
  const GemmFragment<Tile> place(threadIdx.x);
  if (target.vectors) {
    store_vectors<Tile>(sum, target, place);
  } else {
    store_elements<Tile>(sum, target, place, staging);
  }
}

}  // namespace fastconv
