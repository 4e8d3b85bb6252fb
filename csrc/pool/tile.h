// tile.h -- how a pooling is cut into blocks: each makes a tile of results out of a box of operands, which it
// keeps in shared memory so that overlapping windows read global memory once. Plain C++.
//
// Results are y in a forward pooling and dx in a gradient, operands x and dy. A tile has a power of two of
// results along each axis; its box is as large as the reach of the tile.
#pragma once
#include "pool/geometry.h"

namespace fastconv {

/// The sizes of tile and box, from fastconv/cuda/pool_tile.py.
struct PoolTile {
  int32_t log_planes, log_axis[3], log_lanes;  // results of a block along each axis, as powers of two
  int32_t box[3];                              // most operand positions that a block needs along each axis
};

/// One result of a tile, relative to where the tile begins.
struct TileResult {
  int32_t plane, axis[3], lane;
};

/// Where a tile begins.
struct TileOrigin {
  int64_t plane;
  int32_t axis[3], lane;
};

/// A PoolTile with what kernels derive from it. The box is an array [planes, box[0], box[1]] of rows; in a
/// row the columns of equal remainder by `phases` lie together, each with all lanes of the tile. A window
/// stride of `phases` then walks shared memory without gaps, and a warp meets no bank twice.
class TilePlan {
 public:
  /// results: of all axes of the problem. alignment: elements that are loaded at once, which rows of the box
  /// and its columns start at multiples of. phases: 1, 2 or 4. line: elements in the 128 bytes of all banks.
  /// row_step: box rows from one result to the next.
  TilePlan(const PoolTile& tile, int64_t planes, const int32_t (&results)[3], int32_t lanes,
           int32_t alignment, int32_t phases, int32_t line, int32_t row_step);

  FASTCONV_HOST_DEVICE int32_t axis(int a) const { return 1 << tile_.log_axis[a]; }
  FASTCONV_HOST_DEVICE int32_t planes() const { return 1 << tile_.log_planes; }
  FASTCONV_HOST_DEVICE int32_t lanes() const { return 1 << tile_.log_lanes; }
  FASTCONV_HOST_DEVICE int32_t log_lanes() const { return tile_.log_lanes; }
  FASTCONV_HOST_DEVICE int32_t box(int a) const { return tile_.box[a]; }
  FASTCONV_HOST_DEVICE int32_t results() const {
    return 1 << (tile_.log_planes + tile_.log_axis[0] + tile_.log_axis[1] + tile_.log_axis[2] +
                 tile_.log_lanes);
  }
  /// Rows of the box, and elements from one to the next.
  FASTCONV_HOST_DEVICE int32_t rows() const { return planes() * tile_.box[0] * tile_.box[1]; }
  FASTCONV_HOST_DEVICE int32_t row_elements() const { return row_elements_; }
  FASTCONV_HOST_DEVICE int32_t elements() const { return rows() * row_elements_; }
  /// Places in tables with an entry for each result, or each box position, along each axis.
  FASTCONV_HOST_DEVICE int32_t entries() const { return axis(0) + axis(1) + axis(2); }
  FASTCONV_HOST_DEVICE int32_t box_entries() const { return tile_.box[0] + tile_.box[1] + tile_.box[2]; }

  /// Loads of `alignment` elements that a row takes.
  FASTCONV_HOST_DEVICE int32_t loads_in_row() const { return loads_.value(); }
  FASTCONV_HOST_DEVICE int32_t row_of_load(int32_t load) const { return loads_(load); }
  /// (plane, position along axes 0 and 1) of a row, relative to the box.
  FASTCONV_HOST_DEVICE void split_row(int32_t row, int32_t& plane, int32_t& d, int32_t& h) const {
    const int32_t slice = box_1_(row);
    h = row - slice * tile_.box[1];
    plane = box_0_(slice);
    d = slice - plane * tile_.box[0];
  }
  /// Place within a row of column c, lane 0.
  FASTCONV_HOST_DEVICE int32_t column(int32_t c) const {
    return ((c & ((1 << log_phases_) - 1)) * pitch_ + (c >> log_phases_)) << tile_.log_lanes;
  }
  FASTCONV_HOST_DEVICE int32_t phases() const { return 1 << log_phases_; }

  /// A result by its number; those of neighbouring numbers lie side by side in memory.
  FASTCONV_HOST_DEVICE TileResult result(int32_t number) const {
    TileResult at;
    at.lane = number & (lanes() - 1);
    number >>= tile_.log_lanes;
    for (int a = 2; a >= 0; --a) {
      at.axis[a] = number & (axis(a) - 1);
      number >>= tile_.log_axis[a];
    }
    at.plane = number;
    return at;
  }

  FASTCONV_HOST_DEVICE TileOrigin origin(int32_t block) const {
    TileOrigin at;
    int32_t rest = tiles_lane_(block);
    at.lane = (block - rest * tiles_lane_.value()) << tile_.log_lanes;
    for (int a = 2; a >= 0; --a) {
      const int32_t quotient = tiles_[a](rest);
      at.axis[a] = (rest - quotient * tiles_[a].value()) << tile_.log_axis[a];
      rest = quotient;
    }
    at.plane = int64_t{rest} << tile_.log_planes;
    return at;
  }

  int64_t blocks() const { return blocks_; }

 private:
  PoolTile tile_;
  int32_t log_phases_, pitch_, row_elements_;
  Divisor loads_, box_0_, box_1_, tiles_lane_, tiles_[3];
  int64_t blocks_;
};

inline TilePlan::TilePlan(const PoolTile& tile, int64_t planes, const int32_t (&results)[3], int32_t lanes,
                          int32_t alignment, int32_t phases, int32_t line, int32_t row_step)
    : tile_(tile),
      log_phases_(phases == 4   ? 2
                  : phases == 2 ? 1
                                : 0) {
  const auto tiles = [](int64_t items, int log) { return (items + (int64_t{1} << log) - 1) >> log; };
  const int32_t in_load = lanes > 1 ? 1 : alignment;  // columns; the first load may begin before the box
  const int32_t columns = (tile.box[2] + 2 * (in_load - 1)) / in_load * in_load;
  pitch_ = (columns + phases * in_load - 1) / (phases * in_load) * in_load;
  row_elements_ = (phases * pitch_) << tile.log_lanes;
  loads_ = Divisor((columns << tile.log_lanes) / alignment);
  // A warp that spans several rows of results meets no bank twice if these rows follow one another in banks.
  const int32_t run = (1 << tile.log_axis[2]) << tile.log_lanes;
  if (run < line) {
    for (int32_t pad = 0; pad < line; pad += alignment) {
      if ((int64_t{row_elements_ + pad} * row_step - run) % line == 0) {
        row_elements_ += pad;
        break;
      }
    }
  }
  box_0_ = Divisor(tile.box[0]);
  box_1_ = Divisor(tile.box[1]);
  tiles_lane_ = Divisor(static_cast<int32_t>(tiles(lanes, tile.log_lanes)));
  blocks_ = tiles(planes, tile.log_planes) * tiles_lane_.value();
  for (int a = 0; a < 3; ++a) {
    tiles_[a] = Divisor(static_cast<int32_t>(tiles(results[a], tile.log_axis[a])));
    blocks_ *= tiles_[a].value();
  }
}

}  // namespace fastconv
