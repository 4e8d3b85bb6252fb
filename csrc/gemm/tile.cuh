// tile.cuh -- the tile of a matrix product: its sizes, its panels in shared memory, and who holds what of it.
//
//   c[row, column] = sum over depth of a[row, depth] * b[depth, column]
//
// A block computes kRows x kColumns of c, kDepth of the sum at a time. Both operands lie in shared memory by
// depth, [kDepth][kRows], widened to the type of the sum. Source: the hierarchy of CUTLASS's documentation,
// "Efficient GEMM in CUDA".
#pragma once
#include "device/vector.h"

namespace fastconv {

/// Everything there is to tune in the tiled product of elements of T.
template <class T, bool kLarge>
struct GemmTile {
  using Element = T;
  using Sum = accumulator_t<T>;
  // Of global memory a row is read in pieces of 32 bytes at least, one sector; 8 doubles are two of them.
  static constexpr int kDepth = sizeof(T) == 2 ? 16 : 8;
  static constexpr int kRows = kLarge ? 128 : 64;  // the smaller one fills a GPU with smaller problems
  static constexpr int kColumns = kRows;
  // Of c a thread holds 8 x 8, or 8 x 4: 4 or 2.7 multiply-adds for each value it reads from shared memory.
  static constexpr int kFragmentRows = 8;
  static constexpr int kFragmentColumns = kLarge ? 8 : 4;
  // A warp is 4 x 8 threads: it reads few distinct words, 21 or 16 multiply-adds for each of them.
  static constexpr int kLaneRows = 4;
  static constexpr int kLaneColumns = 8;
  static constexpr int kWarpRows = kLaneRows * kFragmentRows;
  static constexpr int kWarpColumns = kLaneColumns * kFragmentColumns;
  static constexpr int kThreads = kWarp * (kRows / kWarpRows) * (kColumns / kWarpColumns);
  // Blocks that share a multiprocessor at least: of floats in small tiles 16 warps, at 128 registers a
  // thread. The others keep more in registers and would spill.
  static constexpr int kMinBlocks = kLarge ? 1 : (sizeof(T) == 4 ? 4 : 2);
  static constexpr int kLoad = kDepth * kRows / kThreads;  // elements of each operand that a thread moves
  static constexpr int kGroup = 16 / sizeof(Sum);          // sums in one access of shared memory
  // Rows of a panel are four banks apart, so that 8 depths of 4 neighbours, or 2 x 16, meet all 32 banks.
  static constexpr int kPitch = kRows + kGroup;
  static constexpr int kPanel = kDepth * kPitch + kDepth / 8 * 4 * kGroup;

  static_assert(kLaneRows * kLaneColumns == kWarp, "a warp is all of its lanes");
  static_assert(kRows % kWarpRows == 0 && kColumns % kWarpColumns == 0, "whole warps only");
  static_assert(kLoad % kVector<T> == 0 && kLoad % kGroup == 0, "a thread's share is whole vectors");
  static_assert(8 % kLoad == 0, "a share along the depth does not reach over the shift at depth 8");
  static_assert(kFragmentRows % kGroup == 0 && kFragmentColumns % kGroup == 0, "fragments are whole groups");

  /// Place of (depth, row) in a panel. From depth 8 on it is shifted by 16 banks: a thread's share of halves
  /// is 8 depths, and two of those would meet the same banks.
  static __host__ __device__ constexpr int at(int depth, int row) {
    return depth * kPitch + depth / 8 * (4 * kGroup) + row;
  }
};

/// Which kLoad elements of a panel a thread moves: those of one row along the depth, or those of one depth.
struct GemmShare {
  int row;
  int depth;
  int step;  // from one row to the next; 0 along the depth

  /// kLoad depths of one row, its neighbour has the next ones: vectors of an operand contiguous along the
  /// depth.
  template <class Tile>
  static __device__ GemmShare depth_vectors(int thread) {
    constexpr int kPieces = Tile::kDepth / Tile::kLoad;
    return {thread / kPieces, thread % kPieces * Tile::kLoad, 0};
  }
  /// kLoad depths of one row, its neighbour has the next row: gathers where neighbouring rows are adjacent.
  template <class Tile>
  static __device__ GemmShare depth_of_rows(int thread) {
    return {thread % Tile::kRows, thread / Tile::kRows * Tile::kLoad, 0};
  }
  /// One depth of kLoad rows, its neighbour has the next depth: single elements contiguous along the depth.
  template <class Tile>
  static __device__ GemmShare depth_elements(int thread) {
    return {thread / Tile::kDepth, thread % Tile::kDepth, Tile::kThreads / Tile::kDepth};
  }
  /// kLoad adjacent rows at one depth: vectors of an operand contiguous along its rows.
  template <class Tile>
  static __device__ GemmShare row_vectors(int thread) {
    constexpr int kPieces = Tile::kRows / Tile::kLoad;
    return {thread % kPieces * Tile::kLoad, thread / kPieces, 1};
  }
  /// kLoad rows at one depth, its neighbour has the next row: single elements contiguous along the rows.
  template <class Tile>
  static __device__ GemmShare row_elements(int thread) {
    constexpr int kPieces = Tile::kRows / Tile::kLoad;
    return {thread % kPieces, thread / kPieces, kPieces};
  }
};

/// Write a thread's share into a panel.
template <class Tile>
__device__ __forceinline__ void stash(typename Tile::Sum* panel, const GemmShare& share,
                                      const typename Tile::Sum (&value)[Tile::kLoad]) {
  constexpr int kGroups = Tile::kLoad / Tile::kGroup;
  typename Tile::Sum* to = panel + Tile::at(share.depth, share.row);
  if (share.step == 0) {
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) to[i * Tile::kPitch] = value[i];
  } else if (share.step == 1) {
    // Where a share is two groups, every second four lanes begin with the other one: neighbours are then
    // eight banks apart, and eight lanes would meet but half of the banks.
    const int first = kGroups == 1 ? 0 : threadIdx.x / 4 % 2;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      Vector<typename Tile::Sum, Tile::kGroup> group;
#pragma unroll
      for (int i = 0; i < Tile::kGroup; ++i) {
        const int other = kGroups == 1 ? g : 1 - g;
        group[i] = first ? value[other * Tile::kGroup + i] : value[g * Tile::kGroup + i];
      }
      store_vector(to + (g ^ first) * Tile::kGroup, group);
    }
  } else {
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) to[i * share.step] = value[i];
  }
}

/// Which elements of the tile a thread holds: groups of adjacent rows and columns.
template <class Tile>
struct GemmFragment {
  int warp_row, warp_column;  // where the tile of its warp begins
  int lane_row, lane_column;  // its place in the warp

  __device__ explicit GemmFragment(int thread) {
    constexpr int kAcross = Tile::kColumns / Tile::kWarpColumns;
    const int warp = thread / kWarp, lane = thread % kWarp;
    warp_row = warp / kAcross * Tile::kWarpRows;
    warp_column = warp % kAcross * Tile::kWarpColumns;
    lane_row = lane / Tile::kLaneColumns;
    lane_column = lane % Tile::kLaneColumns;
  }
  __device__ int row(int m) const {
    return warp_row + (m / Tile::kGroup * Tile::kLaneRows + lane_row) * Tile::kGroup + m % Tile::kGroup;
  }
  __device__ int column(int n) const {
    return warp_column + (n / Tile::kGroup * Tile::kLaneColumns + lane_column) * Tile::kGroup +
           n % Tile::kGroup;
  }
};

}  // namespace fastconv
