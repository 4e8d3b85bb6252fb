// depthwise_plan.h -- how the tiled depthwise kernels divide a problem among blocks. Plain C++.
//
// Forward, and the input gradient at stride 1, are the same gather: every plane of the result sums taps over
// planes of a source. A block holds the part of the source that its tile of the result meets in shared
// memory, and walks along the first axis with a ring of as many slices as the kernel spans there: each slice
// is loaded once.
#pragma once
#include <algorithm>
#include <cstdint>

#include "window.h"

namespace fastconv {

/// y[n,c,p] = sum over m, r of source[n, s, i] * w[f, r], i = p * stride - padding + r * dilation, where
/// s = c / divisor * pairs + m and f is the one of s and c of which there are more. Padding may be negative.
struct DepthwiseGather {
  int64_t batch;
  int32_t channels;  // of the result
  int32_t sources;   // channels of the source
  int32_t pairs;     // planes of the source that a plane of the result sums
  int32_t divisor;   // planes of the result that read the same plane of the source
  bool flipped;      // taps in reverse order
  Axes size, output, kernel, stride, dilation, padding;  // size of the source, output of the result

  FASTCONV_HOST_DEVICE int64_t planes() const { return batch * channels; }
};

inline DepthwiseGather forward_gather(const Window& w) {
  return {w.batch, w.filters, w.channels, 1,        w.group_filters(), false,
          w.size,  w.output,  w.kernel,   w.stride, w.dilation,        w.padding};
}

/// Of a window of stride 1.
inline DepthwiseGather input_grad_gather(const Window& w) {
  DepthwiseGather gather = {w.batch,  w.channels, w.filters, w.group_filters(), 1,          true,
                            w.output, w.size,     w.kernel,  w.stride,          w.dilation, w.padding};
  for (int axis = 0; axis < 3; ++axis) {
    gather.padding[axis] = (w.kernel[axis] - 1) * w.dilation[axis] - w.padding[axis];
  }
  return gather;
}

/// Input positions that the taps of an axis span.
inline int64_t depthwise_span(const DepthwiseGather& g, int axis) {
  return int64_t{g.kernel[axis] - 1} * g.dilation[axis] + 1;
}

/// Tuning of the kernel for channels first.
struct DepthwisePlanesTile {
  static constexpr int kMaxThreads = 256;
  static constexpr int kRows = 4;             // rows of the result that a thread computes from the same loads
  static constexpr int kMostColumns = 64;     // of a tile; wider planes are divided evenly
  static constexpr int kLeastColumns = 32;    // of a tile of wider planes
  static constexpr int kSmallThreads = 128;   // that several small planes may fill together
  static constexpr int kMostPlanes = 64;      // of a block
  static constexpr int kFewBlocks = 264;      // below, planes share a block only to fill a warp
  static constexpr int kEnoughBlocks = 1056;  // above, a block computes several images with the same taps
  static constexpr int kMostImages = 8;
  static constexpr int kBudget = 36 * 1024;      // shared memory at which six blocks fit a multiprocessor
  static constexpr int kLargest = 96 * 1024;     // what any GPU since 8.0 gives one block
  static constexpr int kWholeVolume = 8 * 1024;  // of a volume that is held whole
  static constexpr int kMaskBits = 64;           // of the map of taps
  static constexpr int kWorthwhileRows = 16;     // of a tile, for a larger budget is taken rather than fewer
  static_assert(kMaxThreads % 32 == 0 && kSmallThreads % 32 == 0, "whole warps only");
};

/// The division of a gather among blocks for channels first. A quad is 16 bytes of accumulators, 4 float or 2
/// double, `run` for short. Columns of the source lie in shared memory by phases, columns of equal remainder
/// modulo the stride, so that a run of outputs and a tap meet a run of neighbours. Whether a phase has a tap
/// at offset e is bit e of that phase's windows of `run` bits in `taps`.
struct DepthwisePlanes {
  DepthwiseGather gather;
  int32_t tile_rows, tile_columns;  // of the result
  int32_t row_tiles, column_tiles;  // of a plane
  int32_t planes, plane_groups;     // of a block, all of one image; groups of them in an image
  int32_t images, image_groups;     // of a block, one after the other
  int32_t units, lanes;             // runs in a row of a tile, and threads set aside for them
  int32_t groups;                   // of kRows rows in a tile
  int32_t lead, shift;              // columns before column 0 of the tile; position of the first tap in them
  int32_t phases, windows;          // windows of `run` offsets in a phase
  int32_t rows, slots;              // of the source in a slice of the tile; slices of the ring
  int32_t phase_quads, row_quads, slot_quads, plane_quads, weight_quads;  // distances in shared memory
  uint64_t taps;
  int32_t threads;
  int64_t blocks, shared_bytes;
  bool vector_loads, vector_stores;
};

namespace depthwise {

template <class N>
constexpr N divide_up(N a, N b) {
  return (a + b - 1) / b;
}

template <class N>
constexpr N round_up(N a, N b) {
  return divide_up(a, b) * b;
}

/// The least number from `least` on that is `rest` modulo 8.
inline int64_t from_on(int64_t least, int64_t rest) { return least + ((rest - least) % 8 + 8) % 8; }

}  // namespace depthwise

/// Fill in everything that follows from the tile; false if its ring does not fit `budget`.
inline bool lay_out(DepthwisePlanes& plan, int run, int element_bytes, int64_t budget) {
  using depthwise::divide_up;
  using depthwise::from_on;
  using Tile = DepthwisePlanesTile;
  const DepthwiseGather& g = plan.gather;
  plan.units = divide_up(plan.tile_columns, run);
  // Lanes of one access lie in the same row, or in rows whose distance in banks continues it.
  plan.lanes = 1;
  while (plan.lanes < plan.units && plan.lanes < 8) plan.lanes *= 2;
  if (plan.units > 8) plan.lanes = depthwise::round_up(plan.units, g.stride[1] == 1 ? 4 : 8);
  plan.groups = divide_up(plan.tile_rows, Tile::kRows);
  plan.rows =
      static_cast<int32_t>(int64_t{plan.groups * Tile::kRows - 1} * g.stride[1] + depthwise_span(g, 1));
  int64_t phase_quads = plan.units + plan.windows;
  if (plan.phases == 2) phase_quads = from_on(phase_quads, 4);  // both phases of a row in different banks
  const int64_t row_quads = phase_quads * plan.phases | 1;
  const int64_t slot_quads = row_quads * plan.rows;
  const int rest = plan.lanes <= 4 ? plan.lanes : plan.lanes * plan.groups % 8;
  // A shallow volume of one tile fits whole, and is loaded at once.
  const int64_t spans = depthwise_span(g, 0), depth = std::max<int64_t>(g.size[0], spans);
  const bool whole =
      plan.row_tiles == 1 && plan.column_tiles == 1 && 16 * slot_quads * depth <= Tile::kWholeVolume;
  const int64_t slots = whole ? depth : spans;
  const int64_t plane_quads = from_on(slot_quads * slots, rest);
  // Odd: planes that one access reads have their taps in different banks.
  const int64_t weight_quads = int64_t{g.kernel[0]} * g.kernel[1] * plan.phases * plan.windows | 1;
  const int64_t staged = int64_t{plan.tile_rows} * plan.tile_columns * element_bytes;
  const auto bytes = [&](int64_t planes) {
    return planes * (16 * (plane_quads + weight_quads) + (plan.vector_stores ? 0 : staged));
  };
  const int64_t threads = int64_t{plan.lanes} * plan.groups;
  if (threads > Tile::kMaxThreads || bytes(1) > budget) return false;
  plan.planes = 1;
  if (plan.row_tiles == 1 && plan.column_tiles == 1) {
    const int64_t most = std::min(
        {Tile::kSmallThreads / threads, budget / bytes(1), int64_t{Tile::kMostPlanes}, int64_t{g.channels}});
    const int64_t wanted = std::max(g.planes() / Tile::kFewBlocks, divide_up(int64_t{32}, threads));
    plan.planes = static_cast<int32_t>(std::max(std::min(most, wanted), int64_t{1}));
  }
  plan.plane_groups = divide_up(g.channels, plan.planes);
  plan.slots = static_cast<int32_t>(slots);
  plan.phase_quads = static_cast<int32_t>(phase_quads);
  plan.row_quads = static_cast<int32_t>(row_quads);
  plan.slot_quads = static_cast<int32_t>(slot_quads);
  plan.plane_quads = static_cast<int32_t>(plane_quads);
  plan.weight_quads = static_cast<int32_t>(weight_quads);
  plan.threads = static_cast<int32_t>(depthwise::round_up(threads * plan.planes, int64_t{32}));
  plan.shared_bytes = bytes(plan.planes);
  const int64_t tiles = int64_t{plan.row_tiles} * plan.column_tiles * plan.plane_groups;
  const int64_t images =
      std::min({tiles * g.batch / Tile::kEnoughBlocks, g.batch, int64_t{Tile::kMostImages}});
  plan.images = static_cast<int32_t>(std::max(images, int64_t{1}));
  plan.image_groups = static_cast<int32_t>(divide_up(g.batch, int64_t{plan.images}));
  plan.blocks = tiles * plan.image_groups;
  return true;
}

/// Divide a gather for channels first; false where no tile holds it and the direct kernels serve.
///
/// run: accumulators in a quad. aligned: whether source and result are.
inline bool plan_planes(const DepthwiseGather& gather, int run, int element_bytes, bool aligned,
                        DepthwisePlanes& plan) {
  using depthwise::divide_up;
  using depthwise::round_up;
  using Tile = DepthwisePlanesTile;
  plan = DepthwisePlanes{};
  plan.gather = gather;
  const int vector = 16 / element_bytes;
  const int32_t stride = gather.stride[2];
  const int64_t span = depthwise_span(gather, 2);
  plan.lead =
      stride == 1 ? divide_up(gather.padding[2] + (1 << 20), run) * run - (1 << 20) : gather.padding[2];
  plan.shift = plan.lead - gather.padding[2];
  const int64_t phases = std::min<int64_t>(stride, span);
  const int64_t windows = (span - 1 + plan.shift) / stride / run + 1;
  const bool sane = span < (1 << 16) && std::abs(int64_t{gather.padding[2]}) < (1 << 20) &&
                    depthwise_span(gather, 1) < (1 << 16) && depthwise_span(gather, 0) < (1 << 16) &&
                    gather.stride[1] <= 8 && stride <= 8;
  if (!sane || phases * windows * run > Tile::kMaskBits) return false;
  plan.phases = static_cast<int32_t>(phases);
  plan.windows = static_cast<int32_t>(windows);
  for (int32_t s = 0; s < gather.kernel[2]; ++s) {
    const int32_t at = s * gather.dilation[2] + plan.shift;
    plan.taps |= uint64_t{1} << (at % stride * windows * run + at / stride);
  }
  plan.vector_loads = aligned && stride == 1 && gather.size[2] % vector == 0;
  plan.vector_stores = aligned && gather.output[2] % run == 0 && gather.output[2] >= Tile::kMostColumns / 2;

  const int64_t rows = round_up(int64_t{gather.output[1]}, int64_t{Tile::kRows});
  const int64_t columns = gather.output[2];
  for (const int64_t budget : {int64_t{Tile::kBudget}, int64_t{Tile::kLargest}}) {
    const int64_t least =
        budget == Tile::kBudget ? std::min(rows, int64_t{Tile::kWorthwhileRows}) : Tile::kRows;
    for (int64_t wide = Tile::kMostColumns; wide >= Tile::kLeastColumns; wide /= 2) {
      const int64_t parts = divide_up(columns, wide);
      plan.tile_columns =
          static_cast<int32_t>(parts == 1 ? columns : round_up(divide_up(columns, parts), int64_t{8}));
      plan.column_tiles = static_cast<int32_t>(divide_up(columns, int64_t{plan.tile_columns}));
      for (int64_t high = std::min(rows, int64_t{Tile::kMaxThreads} * Tile::kRows); high >= least;
           high = high * 7 / 8) {
        const int64_t even = divide_up(int64_t{gather.output[1]}, divide_up(int64_t{gather.output[1]}, high));
        plan.tile_rows = static_cast<int32_t>(round_up(even, int64_t{Tile::kRows}));
        plan.row_tiles = divide_up(gather.output[1], plan.tile_rows);
        if (lay_out(plan, run, element_bytes, budget)) return true;
      }
    }
  }
  return false;
}

}  // namespace fastconv
