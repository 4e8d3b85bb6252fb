// tile.h -- how a pooling is cut into blocks: each makes a tile of results out of a box of operands, which it
// keeps in shared memory so that overlapping windows read global memory once. Plain C++.
//
// Results are y in a forward pooling and dx in a gradient, operands x and dy. The box of a tile is as large
// as its reach.
#pragma once
#include <algorithm>
#include <cstdlib>

#include "pool/geometry.h"

namespace fastconv {

/// The sizes of tile and box, from fastconv/cuda/pool_tile.py.
struct PoolTile {
  int32_t planes, axis[3], lanes;  // results of a block along each axis
  int32_t box[3];                  // most operand positions that a block needs along each axis
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

/// How rows of the box lie in shared memory: what avoids bank conflicts.
struct BoxLayout {
  int32_t alignment;  // elements that are loaded at once; rows and columns start at multiples of it
  int32_t sector;     // columns that the box begins at multiples of, where there are no lanes
  int32_t
      phases;     // 1, 2 or 4: columns of equal remainder lie together, so that a stride of it leaves no gaps
  int32_t bytes;  // of an element
  int32_t row_step;  // box rows from one result to the next
};

/// A PoolTile with what kernels derive from it. The box is an array [planes, box[0], box[1]] of rows; a row
/// holds its columns, phase by phase, each with all lanes of the tile.
class TilePlan {
 public:
  /// results: of all axes of the problem.
  TilePlan(const PoolTile& tile, int64_t planes, const int32_t (&results)[3], int32_t lanes,
           const BoxLayout& layout);

  FASTCONV_HOST_DEVICE int32_t axis(int a) const { return axis_[a].value(); }
  FASTCONV_HOST_DEVICE int32_t lanes() const { return lanes_.value(); }
  FASTCONV_HOST_DEVICE int32_t box(int a) const { return box_[a]; }
  /// Results of a tile, with those that make its rows fill whole warps but do not exist.
  FASTCONV_HOST_DEVICE int32_t results() const {
    return planes_ * axis(0) * axis(1) * columns_.value() * lanes();
  }
  FASTCONV_HOST_DEVICE bool exists(const TileResult& at) const { return at.axis[2] < axis(2); }
  /// Rows of the box, and elements from one to the next.
  FASTCONV_HOST_DEVICE int32_t rows() const { return planes_ * box_[0] * box_[1]; }
  FASTCONV_HOST_DEVICE int32_t row_elements() const { return row_elements_; }
  FASTCONV_HOST_DEVICE int32_t elements() const { return rows() * row_elements_; }
  /// Places in tables with an entry for each result, or each box position, along each axis.
  FASTCONV_HOST_DEVICE int32_t entries() const { return axis(0) + axis(1) + axis(2); }
  FASTCONV_HOST_DEVICE int32_t box_entries() const { return box_[0] + box_[1] + box_[2]; }

  /// Loads of `alignment` elements that the box takes; row, column and lane of one.
  FASTCONV_HOST_DEVICE int32_t loads() const { return rows() * row_loads_.value(); }
  FASTCONV_HOST_DEVICE void split_load(int32_t load, int32_t& row, int32_t& c, int32_t& lane) const {
    row = row_loads_(load);
    const int32_t in_row = load - row * row_loads_.value(), column = column_loads_(in_row);
    c = column * load_columns_;
    lane = (in_row - column * column_loads_.value()) * load_lanes_;
  }
  /// Plane and position along axes 0 and 1 of a row, relative to the box.
  FASTCONV_HOST_DEVICE void split_row(int32_t row, int32_t& plane, int32_t& d, int32_t& h) const {
    const int32_t slice = box_1_(row);
    h = row - slice * box_[1];
    plane = box_0_(slice);
    d = slice - plane * box_[0];
  }
  /// Columns that the box begins at a multiple of.
  FASTCONV_HOST_DEVICE int32_t sector() const { return sector_; }
  /// Place within a row of column c, lane 0.
  FASTCONV_HOST_DEVICE int32_t column(int32_t c) const {
    return ((c & ((1 << log_phases_) - 1)) * pitch_ + (c >> log_phases_)) * lanes();
  }
  FASTCONV_HOST_DEVICE int32_t phases() const { return 1 << log_phases_; }

  /// A result by its number; those of neighbouring numbers lie side by side in memory.
  FASTCONV_HOST_DEVICE TileResult result(int32_t number) const {
    TileResult at;
    int32_t rest = lanes_(number), above = columns_(rest);
    at.lane = number - rest * lanes();
    at.axis[2] = rest - above * columns_.value();
    for (int a = 1; a >= 0; --a) {
      rest = above;
      above = axis_[a](rest);
      at.axis[a] = rest - above * axis(a);
    }
    at.plane = above;
    return at;
  }

  FASTCONV_HOST_DEVICE TileOrigin origin(int32_t block) const {
    TileOrigin at;
    int32_t rest = tiles_lane_(block);
    at.lane = (block - rest * tiles_lane_.value()) * lanes();
    for (int a = 2; a >= 0; --a) {
      const int32_t above = tiles_[a](rest);
      at.axis[a] = (rest - above * tiles_[a].value()) * axis(a);
      rest = above;
    }
    at.plane = int64_t{rest} * planes_;
    return at;
  }

  int64_t blocks() const { return blocks_; }

 private:
  void avoid_conflicts(const BoxLayout& layout);

  int32_t planes_, box_[3];
  int32_t log_phases_, pitch_, row_elements_;
  int32_t load_columns_, load_lanes_, sector_;  // columns and lanes of a load, columns of a sector
  Divisor row_loads_, column_loads_, box_0_, box_1_, lanes_, axis_[3], columns_, tiles_lane_, tiles_[3];
  int64_t blocks_;
};

inline TilePlan::TilePlan(const PoolTile& tile, int64_t planes, const int32_t (&results)[3], int32_t lanes,
                          const BoxLayout& layout)
    : planes_(tile.planes),
      box_{tile.box[0], tile.box[1], tile.box[2]},
      log_phases_(layout.phases == 4   ? 2
                  : layout.phases == 2 ? 1
                                       : 0),
      load_columns_(lanes > 1 ? 1 : layout.alignment),
      load_lanes_(lanes > 1 ? layout.alignment : 1),
      sector_(lanes > 1 ? 1 : layout.sector),
      box_0_(tile.box[0]),
      box_1_(tile.box[1]),
      lanes_(tile.lanes) {
  // Rows are loaded by whole sectors, of which the first may begin before the box, and the last end after it.
  const int32_t loads = (tile.box[2] + 2 * (sector_ - 1)) / sector_ * sector_ / load_columns_;
  column_loads_ = Divisor(tile.lanes / load_lanes_);
  row_loads_ = Divisor(loads * column_loads_.value());
  pitch_ = (loads + layout.phases - 1) / layout.phases * load_columns_;
  const auto tiles = [](int64_t items, int32_t in_tile) { return (items + in_tile - 1) / in_tile; };
  tiles_lane_ = Divisor(static_cast<int32_t>(tiles(lanes, tile.lanes)));
  blocks_ = tiles(planes, tile.planes) * tiles_lane_.value();
  for (int a = 0; a < 3; ++a) {
    axis_[a] = Divisor(tile.axis[a]);
    tiles_[a] = Divisor(static_cast<int32_t>(tiles(results[a], tile.axis[a])));
    blocks_ *= tiles_[a].value();
  }
  columns_ = axis_[2];
  row_elements_ = layout.phases * pitch_ * tile.lanes;
  avoid_conflicts(layout);
}

/// A warp that spans rows of results meets no bank twice if these rows follow one another in the banks, for
/// which rows of the box are padded, or if there are no such warps, for which threads are left idle. Either
/// is done where it takes little.
inline void TilePlan::avoid_conflicts(const BoxLayout& layout) {
  const int32_t unit = load_lanes_ > 1 ? layout.alignment : std::max(layout.alignment / layout.phases, 1);
  const int32_t line = 128 / layout.bytes, row = row_elements_, run = axis(2) * lanes();
  for (const int32_t multiple : {1, 4, 8, 16, 32}) {
    const int32_t padded = (run + multiple - 1) / multiple * multiple;
    if (padded % lanes() != 0 || padded - run > run / 7) continue;
    for (int32_t pad = 0; pad <= std::min(line, row / 4); pad += unit) {
      if (multiple == 32 || (int64_t{row + pad} * layout.row_step - padded) % line == 0) {
        row_elements_ = row + pad;
        columns_ = Divisor(padded / lanes());
        return;
      }
    }
    if (layout.bytes < 4) return;  // rows of halves are too short for whole sectors without their neighbours
  }
}

}  // namespace fastconv
