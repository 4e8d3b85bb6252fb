// depthwise_weight_grad_plan.h -- how the tiled weight gradients of depthwise convolution divide a problem.
// Plain C++.
//
// Both take the tile and the ring of slices of forward, see depthwise_plan.h and depthwise_pixels_plan.h, and
// hold the gradient of the result beside it. A thread sums a few neighbouring taps over its share of the
// outputs.
#pragma once
#include "conv/depthwise_pixels_plan.h"
#include "conv/depthwise_plan.h"

namespace fastconv {

/// Tuning of both kernels.
struct DepthwiseWeightGradTile {
  static constexpr int kPlanesThreads = 256;    // most of a block for channels first
  static constexpr int kPlanesBlocksPerSm = 2;  // caps registers at 128 a thread
  static constexpr int kPixelsThreads = 128;    // most of a block for channels last
  static constexpr int kPixelsBlocksPerSm = 3;  // caps registers at 170 a thread: at 128 some spill
  static constexpr int kWindows = 2;            // of `run` taps, of a thread for channels first
  static constexpr int kMostShares = 32;        // threads that sum the same taps
  static constexpr int kEnoughBlocks = 1056;    // a few for every multiprocessor of any GPU
  static constexpr int kBudget = 48 * 1024;     // shared memory that needs no opt-in
  static_assert(kPlanesThreads % 32 == 0 && kPixelsThreads % 32 == 0, "whole warps only");
};

/// Threads of a block: `shares` for each of `sums` groups of taps, which are a part of all of them.
struct DepthwiseShares {
  int32_t all, sums, parts, shares, threads;
};

inline DepthwiseShares depthwise_shares(int64_t all, int32_t lanes, int32_t most_threads) {
  const int64_t parts = depthwise::divide_up(all, int64_t{most_threads / lanes});
  const int64_t sums = depthwise::divide_up(all, parts);
  int32_t shares = DepthwiseWeightGradTile::kMostShares;
  while (shares > 1 && sums * shares * lanes > most_threads) shares /= 2;
  const int64_t threads = depthwise::round_up(sums * shares * lanes, int64_t{32});
  return {static_cast<int32_t>(all), static_cast<int32_t>(sums), static_cast<int32_t>(parts), shares,
          static_cast<int32_t>(threads)};
}

/// The division for channels first: a block sums one filter over tiles of several images.
struct DepthwiseWeightGradPlanes {
  DepthwisePlanes tile;   // its planes are one of each of several images
  DepthwiseShares share;  // of rows of taps, phases and pairs of windows
  int64_t items;          // tiles and groups of images that a filter is summed over
  int32_t error_quads;    // of a plane of the gradient of the result
  bool vector_errors;
};

inline bool plan_weight_grad_planes(const Window& window, int run, int element_bytes, bool aligned,
                                    DepthwiseWeightGradPlanes& plan) {
  using depthwise::divide_up;
  using depthwise::from_on;
  using Tile = DepthwiseWeightGradTile;
  plan = DepthwiseWeightGradPlanes{};
  DepthwisePlanes& tile = plan.tile;
  if (!plan_planes(forward_gather(window), run, element_bytes, aligned, tile)) return false;
  const DepthwiseGather& g = tile.gather;
  const int64_t sums =
      int64_t{g.kernel[0]} * g.kernel[1] * tile.phases * divide_up(tile.windows, Tile::kWindows);
  if (sums > 1 << 20) return false;
  plan.share = depthwise_shares(sums, 1, Tile::kPlanesThreads);
  tile.threads = plan.share.threads;
  // Neighbouring threads take neighbouring runs of the outputs, row after row: rows of the source lie so that
  // they access neighbouring banks. One quad more than the last window is read.
  const int64_t phase_quads = tile.phase_quads + 1;
  int64_t row_quads = phase_quads * tile.phases;
  for (int more = 0; more < 8; ++more) {
    if ((g.stride[1] * (row_quads + more) - tile.units) % 8 != 0) continue;
    row_quads += more;
    break;
  }
  const int64_t slots = depthwise_span(g, 0);
  const int64_t slot_quads = row_quads * tile.rows;
  const int64_t plane_quads =
      from_on(slot_quads * slots, int64_t{tile.units} * std::min(tile.tile_rows, g.output[1]) % 8);
  plan.error_quads = tile.units * tile.tile_rows;
  const int64_t bytes = 16 * (plane_quads + plan.error_quads);
  const int64_t wanted = divide_up(int64_t{4} * plan.share.shares, int64_t{plan.error_quads});
  const int64_t planes = std::max<int64_t>(std::min({g.batch, Tile::kBudget / bytes, wanted}), 1);
  if (planes * bytes > DepthwisePlanesTile::kLargest) return false;
  tile.planes = static_cast<int32_t>(planes);
  tile.phase_quads = static_cast<int32_t>(phase_quads);
  tile.row_quads = static_cast<int32_t>(row_quads);
  tile.slots = static_cast<int32_t>(slots);
  tile.slot_quads = static_cast<int32_t>(slot_quads);
  tile.plane_quads = static_cast<int32_t>(plane_quads);
  tile.shared_bytes = planes * bytes;
  tile.image_groups = static_cast<int32_t>(divide_up(g.batch, planes));
  tile.blocks = int64_t{g.channels} * plan.share.parts;
  plan.items = int64_t{tile.row_tiles} * tile.column_tiles * tile.image_groups;
  plan.vector_errors = aligned && g.output[2] % (16 / element_bytes) == 0;
  return true;
}

/// The division for channels last: a block sums some filters over tiles of images, one after the other.
struct DepthwiseWeightGradPixels {
  DepthwisePixels tile;
  DepthwiseShares share;  // of rows of taps and chunks of kTaps
  int64_t items;          // tiles and images
};

inline bool plan_weight_grad_pixels(const Window& window, int run, int element_bytes, bool aligned,
                                    DepthwiseWeightGradPixels& plan) {
  using depthwise::divide_up;
  using Tile = DepthwiseWeightGradTile;
  plan = DepthwiseWeightGradPixels{};
  DepthwisePixels& tile = plan.tile;
  if (!plan_pixels(forward_gather(window), run, element_bytes, aligned, true, tile)) return false;
  const DepthwiseGather& g = tile.gather;
  const int64_t sums =
      int64_t{g.kernel[0]} * g.kernel[1] * divide_up(g.kernel[2], DepthwisePixelsTile::kTaps);
  if (sums > 1 << 20) return false;
  plan.share = depthwise_shares(sums, tile.lanes, Tile::kPixelsThreads);
  tile.threads = plan.share.threads;
  const int64_t totals = 16 * int64_t{DepthwisePixelsTile::kTaps} * (tile.threads + 1);
  tile.shared_bytes = std::max(tile.shared_bytes, totals);
  plan.items = g.batch * tile.row_tiles * tile.column_tiles;
  tile.blocks = int64_t{tile.chunks} * plan.share.parts;
  return true;
}

/// Splits of `items` for `blocks` blocks each.
inline int depthwise_splits(int64_t items, int64_t blocks) {
  const int64_t wanted = depthwise::divide_up(int64_t{DepthwiseWeightGradTile::kEnoughBlocks}, blocks);
  return static_cast<int>(std::max<int64_t>(std::min(items, wanted), 1));
}

}  // namespace fastconv
