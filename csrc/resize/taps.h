// taps.h -- resizing by tables: the taps of each axis, and how blocks share the work.
//
// Tables hold what formulas would be long for: neighbours of cubics, filters that widen where an image
// shrinks, and both of them back.
#pragma once
#include <array>

#include "device/launch.h"

namespace fastconv {

/// Tables in memory of the device. Those of a depth or row are [starts[p], starts[p + 1]), the two axes one
/// after the other; those of columns lie side by side, for the threads of a warp to read.
template <class Number>
struct ResizeTaps {
  const int32_t* starts;         // [O + 1 + P + 1]
  const int32_t* positions;      // [taps of depths and rows], positions in x
  const Number* shares;          // [taps of depths and rows]
  const int32_t* column_counts;  // [Q], taps of each
  const int32_t* column_bounds;  // [2][Q], the first column of x that it or a later one reads, and behind the
                                 // last one that it or an earlier one does
  const int32_t* column_positions;  // [most taps][Q], columns of x
  const Number* column_shares;      // [most taps][Q]
};

/// One problem: x is [outer, D, H, W, inner] and y [outer, O, P, Q, inner], which is N * C and 1 for channels
/// first, N and C for channels last.
struct ResizeByTaps {
  int64_t outer, inner;
  int32_t depth, height, width;              // D, H, W
  int32_t depth_out, height_out, width_out;  // O, P, Q
};

/// How blocks share y [outer, O, P, Q, vectors]: one walks over a strip of rows of `columns` columns by
/// `lanes` vectors of inner, a thread each; and where it stages columns of x, `at_once` of them by `lanes`.
///
/// Threads next to each other read columns `stride` apart, which lie next to each other: column w is the
/// (w / stride)-th of those with its remainder. How far these are apart keeps the writes of a warp, which are
/// of columns in order, in different banks as well.
struct ResizeTapsBlocks {
  int64_t vectors, lane_chunks, strips, segments, blocks;
  int32_t lanes, columns, rows, at_once, shift, pitch;

  ResizeTapsBlocks(const ResizeByTaps& problem, int64_t vectors, int32_t threads, int32_t most_lanes,
                   int32_t rows, int32_t staged, int32_t banks)
      : vectors(vectors),
        lanes(static_cast<int32_t>(vectors < most_lanes ? vectors : most_lanes)),
        rows(rows) {
    columns = threads / lanes;
    lane_chunks = (vectors + lanes - 1) / lanes;
    segments = (problem.width_out + columns - 1) / columns;
    strips = (problem.height_out + rows - 1) / rows;
    blocks = problem.outer * problem.depth_out * strips * segments * lane_chunks;
    const int32_t ratio =
        static_cast<int32_t>((int64_t{2} * problem.width + problem.width_out) / (2 * problem.width_out));
    shift = 0;  // of the power of two in the ratio: odd strides need no care
    while (ratio >> shift != 0 && (ratio >> shift) % 2 == 0 && 2 << shift <= banks) ++shift;
    const int32_t most = (staged / lanes) >> shift;
    const int32_t spread = lanes > (banks >> shift) ? lanes : banks >> shift;
    pitch = most;
    while (pitch > 1 && most - pitch < banks && (pitch * lanes - spread) % banks != 0) --pitch;
    if ((pitch * lanes - spread) % banks != 0) pitch = most;  // lanes that divide no round of banks
    at_once = pitch << shift;
  }

  /// Where column w of those staged, and a lane of it, are.
  __host__ __device__ __forceinline__ int32_t at(int32_t w, int32_t lane) const {
    return ((w & ((1 << shift) - 1)) * pitch + (w >> shift)) * lanes + lane;
  }
};

}  // namespace fastconv
