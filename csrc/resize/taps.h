// taps.h -- resizing by tables: the taps of each axis, and how blocks share the work.
//
// Tables hold what formulas would be long for: neighbours of cubics, filters that widen where an image
// shrinks, and both of them back.
#pragma once
#include "device/launch.h"

namespace fastconv {

/// Tables in memory of the device, in those of a call. Taps of output position p of an axis are [starts[p],
/// starts[p + 1]), the axes lie one after the other, and their starts count through.
template <class Number>
struct ResizeTaps {
  const int32_t* starts;     // [O + 1 + P + 1 + Q + 1]
  const int32_t* positions;  // [taps], input positions; neither the first nor the last of a p ever fall
  const Number* shares;      // [taps]
};

/// One problem: x is [outer, D, H, W, inner] and y [outer, O, P, Q, inner], which is N * C and 1 for channels
/// first, N and C for channels last.
struct ResizeByTaps {
  int64_t outer, inner;
  int32_t size[3];    // D, H, W
  int32_t output[3];  // O, P, Q
};

/// How blocks share y [outer, depth, height, width, vectors]: one walks over a strip of rows of `columns`
/// columns by `lanes` vectors of inner, a thread each.
struct ResizeTapsBlocks {
  int64_t vectors, lane_chunks, strips, segments, blocks;
  int32_t lanes, columns, rows;

  ResizeTapsBlocks(const ResizeByTaps& problem, int64_t vectors, int32_t threads, int32_t most_lanes,
                   int32_t rows)
      : vectors(vectors),
        lanes(static_cast<int32_t>(vectors < most_lanes ? vectors : most_lanes)),
        rows(rows) {
    columns = threads / lanes;
    lane_chunks = (vectors + lanes - 1) / lanes;
    segments = (problem.output[2] + columns - 1) / columns;
    strips = (problem.output[1] + rows - 1) / rows;
    blocks = problem.outer * problem.output[0] * strips * segments * lane_chunks;
  }
};

}  // namespace fastconv
