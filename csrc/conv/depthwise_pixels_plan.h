// depthwise_pixels_plan.h -- how the tiled depthwise kernel for channels last divides a problem. Plain C++.
#pragma once
#include "conv/depthwise_plan.h"

namespace fastconv {

/// Tuning of the kernel for channels last.
struct DepthwisePixelsTile {
  static constexpr int kMaxThreads = 256;
  // Caps registers at 128 a thread, where none spills; double needs more.
  template <class T>
  static constexpr int kMinBlocksPerSm = sizeof(T) == 8 ? 1 : 2;
  static constexpr int kPixels = 8;         // neighbouring outputs of a thread, each a quad of channels
  static constexpr int kTaps = 8;           // neighbouring taps that a thread of the weight gradient sums
  static constexpr int kChunk = 4;          // taps between two moves of the registers that hold the source
  static constexpr int kLanes = 8;          // threads side by side in the channels: 128 bytes of accumulators
  static constexpr int kFewLanes = 4;       // with few channels, or where a ring along three axes has to fit
  static constexpr int kMostSteps = 8;      // outputs along the first axis that a block computes at once
  static constexpr int kLeastThreads = 64;  // of a block, before the larger budget is taken
  static constexpr int kLeastSide = 14;     // of a tile in either axis, likewise
  static constexpr int kBudget = 48 * 1024;   // shared memory that needs no opt-in
  static constexpr int kLargest = 96 * 1024;  // what any GPU since 8.0 gives one block
  static constexpr int kEnoughBlocks = 1056;  // above, a block computes several images with the same taps
  static constexpr int kMostImages = 8;
  static_assert(kMaxThreads % 32 == 0, "whole warps only");
};

/// The division of a gather for channels last. Where the first axis is trivial the first two are exchanged,
/// so that the ring of slices runs along the height of an image.
struct DepthwisePixels {
  DepthwiseGather gather;
  int32_t lanes, chunks;            // threads across the channels; groups of lanes * run channels
  int32_t tile_rows, tile_columns;  // of the result
  int32_t row_tiles, column_tiles;
  int32_t steps;                 // outputs along the first axis at once
  int32_t images, image_groups;  // of a block, one after the other
  int32_t units;                 // runs of kPixels in a row of a tile
  int32_t slots, rows, columns;  // of the source in shared memory
  int32_t threads;
  int64_t blocks, shared_bytes;
  bool vectors;  // whether pixels are loaded and stored in vectors

  FASTCONV_HOST_DEVICE int32_t tile_quads() const { return slots * rows * columns * lanes; }
  FASTCONV_HOST_DEVICE int32_t tap_quads() const { return lanes + 1; }  // not all taps in the same bank
};

inline void exchange_axes(DepthwiseGather& gather) {
  for (Axes* axes :
       {&gather.size, &gather.output, &gather.kernel, &gather.stride, &gather.dilation, &gather.padding}) {
    std::swap((*axes)[0], (*axes)[1]);
  }
}

/// Fill in what follows from tile, lanes and steps; false if it does not fit `budget`. For the weight
/// gradient the tile of the result is held as well, and taps are not.
inline bool lay_out(DepthwisePixels& plan, bool weight_grad, int64_t budget) {
  using depthwise::divide_up;
  using depthwise::round_up;
  using Tile = DepthwisePixelsTile;
  const DepthwiseGather& g = plan.gather;
  plan.units = divide_up(plan.tile_columns, Tile::kPixels);
  const int64_t slots = int64_t{plan.steps - 1} * g.stride[0] + depthwise_span(g, 0);
  const int64_t rows = int64_t{plan.tile_rows - 1} * g.stride[1] + depthwise_span(g, 1);
  // A row of taps is read in whole chunks.
  const bool chunks = weight_grad || (g.stride[2] == 1 && g.dilation[2] == 1);
  const int64_t taps = chunks ? round_up(g.kernel[2], weight_grad ? Tile::kTaps : Tile::kChunk) : g.kernel[2];
  int64_t columns = int64_t{plan.units * Tile::kPixels - 1} * g.stride[2] + (taps - 1) * g.dilation[2] + 1;
  columns |= plan.lanes == Tile::kLanes ? 0 : 1;  // rows of four lanes begin in different banks by turns
  const int64_t results = int64_t{plan.units} * plan.tile_rows * plan.steps * plan.lanes;
  const int64_t held = results * Tile::kPixels;  // quads of the tile of the result
  const int64_t beside =
      weight_grad ? held : g.kernel.product() * plan.tap_quads() + (plan.vectors ? 0 : held);
  const int64_t quads = slots * rows * columns * plan.lanes + beside;
  if ((results > Tile::kMaxThreads && !weight_grad) || 16 * quads > budget) return false;
  plan.slots = static_cast<int32_t>(slots);
  plan.rows = static_cast<int32_t>(rows);
  plan.columns = static_cast<int32_t>(columns);
  plan.threads = static_cast<int32_t>(round_up(results, int64_t{32}));
  plan.shared_bytes = 16 * quads;
  return true;
}

/// Divide a gather for channels last; false where no tile holds it and the direct kernels serve.
///
/// run: accumulators in a quad. aligned: whether source and result are.
inline bool plan_pixels(const DepthwiseGather& gather, int run, int element_bytes, bool aligned,
                        bool weight_grad, DepthwisePixels& plan) {
  using depthwise::divide_up;
  using depthwise::round_up;
  using Tile = DepthwisePixelsTile;
  plan = DepthwisePixels{};
  plan.gather = gather;
  DepthwiseGather& g = plan.gather;
  if (g.channels != g.sources) return false;
  const bool flat = g.size[0] == 1 && g.kernel[0] == 1 && g.output[0] == 1 && g.padding[0] == 0;
  if (flat) exchange_axes(g);
  for (int axis = 0; axis < 3; ++axis) {
    if (depthwise_span(g, axis) >= 1 << 12 || g.stride[axis] > 8) return false;
  }
  plan.vectors = aligned && g.channels % (16 / element_bytes) == 0;

  const auto accept = [&](int32_t lanes, int64_t budget, bool last_resort) {
    plan.lanes = lanes;
    for (int32_t column_parts = 1; column_parts <= g.output[2]; column_parts *= 2) {
      plan.tile_columns = divide_up(g.output[2], column_parts);
      if (column_parts > 1) plan.tile_columns = round_up(plan.tile_columns, 2);
      for (int32_t row_parts = 1; row_parts <= g.output[1]; row_parts *= 2) {
        plan.tile_rows = divide_up(g.output[1], row_parts);
        const bool small = plan.tile_columns < std::min(g.output[2], Tile::kLeastSide) ||
                           plan.tile_rows < std::min(g.output[1], Tile::kLeastSide);
        if (small && !last_resort) break;
        for (plan.steps = std::min(g.output[0], Tile::kMostSteps); plan.steps > 0; plan.steps /= 2) {
          if (!lay_out(plan, weight_grad, budget)) continue;
          const bool idle = plan.threads < Tile::kLeastThreads && plan.steps < g.output[0];
          if (!idle || last_resort) return true;
        }
      }
    }
    return false;
  };
  // At stride 1 rows of four lanes share an access of shared memory without conflict, otherwise they do not;
  // and pixels that no vector fits are best written in long runs.
  const bool narrow = g.channels <= Tile::kFewLanes * run || (!flat && g.stride[1] == 1 && plan.vectors);
  const int32_t lanes = narrow ? Tile::kFewLanes : Tile::kLanes;
  if (!accept(lanes, Tile::kBudget, false) && !accept(lanes, Tile::kLargest, false) &&
      !accept(Tile::kFewLanes, Tile::kLargest, true)) {
    return false;
  }
  plan.chunks = divide_up(g.channels, plan.lanes * run);
  plan.row_tiles = divide_up(g.output[1], plan.tile_rows);
  plan.column_tiles = divide_up(g.output[2], plan.tile_columns);
  const int64_t tiles = int64_t{plan.row_tiles} * plan.column_tiles * plan.chunks;
  const int64_t images =
      std::min({tiles * g.batch / Tile::kEnoughBlocks, g.batch, int64_t{Tile::kMostImages}});
  plan.images = static_cast<int32_t>(std::max(images, int64_t{1}));
  plan.image_groups = static_cast<int32_t>(divide_up(g.batch, int64_t{plan.images}));
  plan.blocks = tiles * plan.image_groups;
  return true;
}

}  // namespace fastconv
