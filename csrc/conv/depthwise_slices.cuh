// depthwise_slices.cuh -- slices of planes in shared memory, for depthwise convolution with channels first.
//
// A tile of a plane lies there widened, with zeros around where its taps reach beyond the plane; see
// DepthwisePlanes for the order of its columns. Several planes, and a ring of slices of each, lie one after
// the other.
#pragma once
#include "conv/depthwise_plan.h"
#include "conv/depthwise_quad.cuh"
#include "conv/small_divisor.cuh"

namespace fastconv {

/// Where a block and its tile lie.
struct DepthwisePlanesPlace {
  int64_t first_plane;
  int planes;          // of the result, from first_plane on
  int64_t plane_step;  // from one of them to the next
  int images;          // so many of them, the same planes of each
  int row, column;     // first output of the tile
  int rows, columns;   // outputs of it
  int top, left;       // input position of row 0 and of column 0 in shared memory

  /// Of a block that computes neighbouring planes.
  __device__ __forceinline__ static DepthwisePlanesPlace of_block(const DepthwisePlanes& plan,
                                                                  int64_t block) {
    const DepthwiseGather& g = plan.gather;
    const int64_t tiles = plan.row_tiles * plan.column_tiles;
    DepthwisePlanesPlace place(plan, static_cast<int>(block % tiles));
    block /= tiles;
    const int channel = static_cast<int>(block % plan.plane_groups) * plan.planes;
    const int64_t image = block / plan.plane_groups * plan.images;
    place.first_plane = image * g.channels + channel;
    place.planes = min(plan.planes, g.channels - channel);
    place.plane_step = 1;
    place.images = static_cast<int>(min(int64_t{plan.images}, g.batch - image));
    return place;
  }

  /// The tile alone.
  __device__ __forceinline__ DepthwisePlanesPlace(const DepthwisePlanes& plan, int tile) {
    const DepthwiseGather& g = plan.gather;
    column = tile % plan.column_tiles * plan.tile_columns;
    row = tile / plan.column_tiles * plan.tile_rows;
    rows = min(plan.tile_rows, g.output[1] - row);
    columns = min(plan.tile_columns, g.output[2] - column);
    top = row * g.stride[1] - g.padding[1];
    left = column * g.stride[2] - plan.lead;
  }
};

/// Plane of the source that is the m-th of a plane of the result.
__device__ __forceinline__ int64_t depthwise_source(const DepthwiseGather& g, int64_t plane, int m) {
  if (g.channels == g.sources) return plane;
  const int64_t n = plane / g.channels;
  return n * g.sources + (plane - n * g.channels) / g.divisor * g.pairs + m;
}

/// Copy what the tile meets of slices [begin, end) to their slots of every plane; the zeros around stay.
/// Returns whether all that this thread saw is finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_slices(const T* __restrict__ x, Quad<accumulator_t<T>>* tile,
                                                      const DepthwisePlanes& plan,
                                                      const DepthwisePlanesPlace& at, int m, int begin,
                                                      int end) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kV = kVector<T>;
  const DepthwiseGather& g = plan.gather;
  const int top = max(at.top, 0), left = max(at.left, 0);
  const int bottom = at.top + (at.rows - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
  const int right =
      min(at.left + plan.shift + (at.columns - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1,
          g.size[2]);
  const int rows = min(bottom, g.size[1]) - top;
  bool finite = true;
  if (rows <= 0 || right <= left || end <= begin) return finite;
  const T* from = x + int64_t{top} * g.size[2];
  Quad<A>* to = tile + (top - at.top) * plan.row_quads;
  // Vectors or elements of a row: as whole planes lie one after the other, so do the accesses of a warp.
  const int first = plan.vector_loads ? left / kV : left;
  const int count = plan.vector_loads ? (right - 1) / kV + 1 - first : right - left;
  const SmallDivisor by_count(count), by_rows(rows), by_slices(end - begin), by_stride(g.stride[2]);
  for (int i = threadIdx.x; i < at.planes * (end - begin) * rows * count; i += plan.threads) {
    uint32_t c = i;
    uint32_t r = by_count.divide(c);
    uint32_t slice = by_rows.divide(r);
    const int plane = by_slices.divide(slice);
    const int depth = begin + static_cast<int>(slice);
    const int64_t source = depthwise_source(g, at.first_plane + plane * at.plane_step, m) * g.size[0] + depth;
    const T* row = from + (source * g.size[1] + r) * g.size[2];
    Quad<A>* slot = to + plane * plan.plane_quads + depth % plan.slots * plan.slot_quads + r * plan.row_quads;
    if (plan.vector_loads) {
      const int column = (first + static_cast<int>(c)) * kV;
      const Vector<T, kV> part = load_vector<kV>(row + column);
#pragma unroll
      for (int j = 0; j < kV; ++j) finite = finite && is_finite(widen(part[j]));
      store_quads(slot, (column - at.left) / kR, 0, plan.phase_quads, part);
    } else {
      const A value = widen(row[left + c]);
      finite = finite && is_finite(value);
      uint32_t phase = left - at.left + c;
      const uint32_t place = by_stride.divide(phase);
      if (static_cast<int>(phase) < plan.phases && static_cast<int>(place) < plan.phase_quads * kR) {
        slot[phase * plan.phase_quads + place / kR][place % kR] = value;
      }
    }
  }
  return finite;
}

}  // namespace fastconv
