// pool_forward.cuh -- the largest elements in the cells of regions.
//
// By > alone, from the least finite float on: of NaN none is taken, of equal ones the first. A cell without
// positions gives 0 and the index -1, a region of an image that does not exist NaN and -1.
#pragma once
#include "roi/geometry.h"

namespace fastconv {

struct RoiPoolForwardTile {
  static constexpr int kThreads = 256;       // one element of y each; neighbours write neighbours
  static constexpr int kMinBlocksPerSm = 3;  // leaves 80 registers: with 48 of them sm_80 spills
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// What an output is before any element is seen: of a cell with positions, and of an image that does not
/// exist.
template <class Number>
struct RoiPoolStart {
  static constexpr Number kLeast = -std::numeric_limits<float>::max();
  static constexpr Number kNone = std::numeric_limits<Number>::quiet_NaN();
};

template <class T, class Tile = RoiPoolForwardTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    roi_pool_forward_kernel(const T* __restrict__ x,        // [images, planes, D, H, W, lanes]
                            T* __restrict__ y,              // [regions, planes, O, P, Q, lanes], all written
                            int64_t* __restrict__ indices,  // like y, position in [D, H, W], all written
                            const RoiCells cells, const Roi roi) {
  using Number = accumulator_t<T>;
  const int64_t element = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (element >= roi.regions * roi.planes * roi.bins() * roi.lanes) return;
  int64_t rest = element;
  const int64_t lane = roi_split(rest, roi.lanes);
  const int64_t q = roi_split(rest, roi.output[2]), p = roi_split(rest, roi.output[1]);
  const int64_t o = roi_split(rest, roi.output[0]), plane = roi_split(rest, roi.planes), region = rest;
  const int64_t image = cells.image[region];
  const int64_t at[3] = {cells.at(roi, region, 0, o), cells.at(roi, region, 1, p),
                         cells.at(roi, region, 2, q)};
  int32_t begin[3], end[3];
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    begin[axis] = cells.begin[at[axis]];
    end[axis] = image >= 0 ? cells.end[at[axis]] : begin[axis];
  }
  const bool empty = end[0] <= begin[0] || end[1] <= begin[1] || end[2] <= begin[2];
  Number largest = empty ? Number(0) : RoiPoolStart<Number>::kLeast;
  if (image < 0) largest = RoiPoolStart<Number>::kNone;
  int64_t where = -1;
  const T* source = x + (image * roi.planes + plane) * roi.positions() * roi.lanes + lane;
  for (int32_t d = begin[0]; d < end[0]; ++d) {
    for (int32_t h = begin[1]; h < end[1]; ++h) {
      for (int32_t w = begin[2]; w < end[2]; ++w) {
        const int64_t position = (int64_t{d} * roi.size[1] + h) * roi.size[2] + w;
        const Number value = widen(source[position * roi.lanes]);
        if (value > largest) {
          largest = value;
          where = position;
        }
      }
    }
  }
  y[element] = narrow<T>(largest);
  indices[element] = where;
}

}  // namespace fastconv
