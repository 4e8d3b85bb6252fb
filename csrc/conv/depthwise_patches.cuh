// depthwise_patches.cuh -- patches of images in shared memory, for depthwise convolution with channels last.
//
// A patch holds some channels of its pixels, widened, one quad of them after the other.
#pragma once
#include "conv/depthwise_pixels_plan.h"
#include "conv/depthwise_quad.cuh"
#include "conv/small_divisor.cuh"

namespace fastconv {

/// Where a block and its tile lie.
struct DepthwisePixelsPlace {
  int64_t first_image;
  int images;
  int channel;        // first of the block's
  int row, column;    // first output of the tile
  int rows, columns;  // outputs of it
  int top, left;      // input position of row 0 and of column 0 in shared memory

  __device__ __forceinline__ DepthwisePixelsPlace(const DepthwisePixels& plan, int run, int64_t block) {
    const DepthwiseGather& g = plan.gather;
    channel = static_cast<int>(block % plan.chunks) * plan.lanes * run;
    block /= plan.chunks;
    column = static_cast<int>(block % plan.column_tiles) * plan.tile_columns;
    block /= plan.column_tiles;
    row = static_cast<int>(block % plan.row_tiles) * plan.tile_rows;
    first_image = block / plan.row_tiles * plan.images;
    images = static_cast<int>(min(int64_t{plan.images}, g.batch - first_image));
    rows = min(plan.tile_rows, g.output[1] - row);
    columns = min(plan.tile_columns, g.output[2] - column);
    top = row * g.stride[1] - g.padding[1];
    left = column * g.stride[2] - g.padding[2];
  }
};

/// Copy `rows` rows of `columns` pixels of the block's channels; whether all that this thread saw is finite.
///
/// from: the first channel of the first pixel. row_step: elements between rows. pitch: pixels of a row of
/// `to`.
template <class T>
__device__ __forceinline__ bool load_depthwise_patch(const T* __restrict__ from, int64_t row_step, int rows,
                                                     int columns, Quad<accumulator_t<T>>* to, int pitch,
                                                     const DepthwisePixels& plan,
                                                     const DepthwisePixelsPlace& at) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kV = kVector<T>;
  const int channels = plan.gather.channels;
  bool finite = true;
  if (rows <= 0 || columns <= 0) return finite;
  const int many = plan.lanes * kR / (plan.vectors ? kV : 1);  // a power of two
  const SmallDivisor by_columns(columns);
  for (int i = threadIdx.x; i < rows * columns * many; i += plan.threads) {
    const int v = i & (many - 1);
    uint32_t c = i / many;
    const uint32_t r = by_columns.divide(c);
    const int channel = plan.vectors ? v * kV : v;
    if (at.channel + channel >= channels) continue;
    const T* source = from + r * row_step + int64_t{c} * channels + channel;
    Quad<A>* pixel = to + (r * pitch + c) * plan.lanes;
    if (plan.vectors) {
      const Vector<T, kV> part = load_vector<kV>(source);
#pragma unroll
      for (int j = 0; j < kV; ++j) finite = finite && is_finite(widen(part[j]));
      store_quads(pixel, channel / kR, 0, plan.lanes, part);
    } else {
      const A value = widen(*source);
      finite = finite && is_finite(value);
      pixel[v & (plan.lanes - 1)][v / plan.lanes] = value;
    }
  }
  return finite;
}

/// Copy what the tile meets of slice `depth` of an image to its slot; the zeros around stay. Whether what
/// this thread saw is finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_pixels(const T* __restrict__ x, Quad<accumulator_t<T>>* tile,
                                                      const DepthwisePixels& plan,
                                                      const DepthwisePixelsPlace& at, int64_t image,
                                                      int depth) {
  const DepthwiseGather& g = plan.gather;
  const int top = max(at.top, 0), left = max(at.left, 0);
  const int bottom = at.top + (at.rows - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
  const int right = at.left + (at.columns - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  const int64_t pixel = ((image * g.size[0] + depth) * g.size[1] + top) * g.size[2] + left;
  const int place = (depth % plan.slots * plan.rows + top - at.top) * plan.columns + left - at.left;
  return load_depthwise_patch(x + pixel * g.channels + at.channel, int64_t{g.size[2]} * g.channels,
                              min(bottom, g.size[1]) - top, min(right, g.size[2]) - left,
                              tile + place * plan.lanes, plan.columns, plan, at);
}

/// Channel k of a lane, from the block's first: neighbours of a vector; or, where pixels are not aligned, in
/// an order in which neighbouring lanes access neighbouring channels.
template <class A>
__device__ __forceinline__ int depthwise_channel(const DepthwisePixels& plan, int lane, int k) {
  return plan.vectors ? lane * kRun<A> + k : k * plan.lanes + lane;
}

}  // namespace fastconv
