// input_grad.cuh -- gradients of roi_align and roi_pool, in gather form.
//
//   dx[n,d,h,w] = sum over the regions k of image n, in their order, of what the bins of k give to that
//   position
//
// A block owns a row of positions and some channels. Its threads first ask, each for one region, whether it
// reaches the row; those that do are listed in order, and every thread then sums over the list. There are no
// atomics.
#pragma once
#include "device/vector.h"
#include "device/warp.h"
#include "roi/geometry.h"

namespace fastconv {

struct RoiInputGradTile {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kMinBlocksPerSm =
      2;  // caps registers at 128, but for double, whose division is a call
};

/// How a block's threads share dx. Channels are planes: lanes of a warp walk over columns, and each warp has
/// a plane. Channels are lanes: a warp has a column, and its lanes walk over channels, V at a time.
struct RoiBlocks {
  int64_t columns, channels;  // of a block
  int64_t column_blocks, channel_blocks;
  bool last;

  RoiBlocks(const Roi& roi, int vector) : last(roi.lanes > 1) {
    columns = last ? RoiInputGradTile::kWarps : kWarp;
    channels = last ? kWarp * vector : RoiInputGradTile::kWarps;
    const int64_t all = last ? roi.lanes : roi.planes;
    column_blocks = (roi.size[2] + columns - 1) / columns;
    channel_blocks = (all + channels - 1) / channels;
  }
  int64_t blocks(const Roi& roi) const {
    return roi.images * channel_blocks * roi.size[0] * roi.size[1] * column_blocks;
  }
};

/// Gradient of roi_align: what the samples of a region read of a position.
template <class T>
struct AlignedGradient {
  using Number = accumulator_t<T>;
  const T* dy;  // [regions, planes, O, P, Q, lanes]
  RoiSamples<Number> regions;
  const int32_t* extent;  // [regions, 6]: first and last position that may be read, by axis

  __device__ __forceinline__ int64_t image(int64_t region) const { return regions.image[region]; }
  /// Whether a region may read columns [first, last] of a row.
  __device__ __forceinline__ bool reaches(const Roi&, int64_t region, int32_t d, int32_t h, int64_t first,
                                          int64_t last) const {
    const int32_t* of = extent + 6 * region;
    return of[0] <= d && d <= of[3] && of[1] <= h && h <= of[4] && of[2] <= last && first <= of[5];
  }

  template <int V>
  __device__ __forceinline__ void add(Number (&sum)[V], const Roi& roi, int64_t region, int64_t plane,
                                      int64_t lane, const int32_t (&at)[3]) const {
    const T* source = dy + (region * roi.planes + plane) * roi.bins() * roi.lanes + lane;
    const Number samples = regions.samples(region);
    each(roi, region, 0, at[0], [&](int32_t o, Number in_depth) {
      each(roi, region, 1, at[1], [&](int32_t p, Number in_height) {
        each(roi, region, 2, at[2], [&](int32_t q, Number in_width) {
          const int64_t bin = (int64_t{o} * roi.output[1] + p) * roi.output[2] + q;
          const Vector<T, V> read = load_vector<V>(source + bin * roi.lanes);
          const Number share = in_depth * in_height * in_width;
#pragma unroll
          for (int v = 0; v < V; ++v) sum[v] = multiply_add(share, widen(read[v]) / samples, sum[v]);
        });
      });
    });
  }

 private:
  /// body(bin, share) for each time that a sample of the region reads a position of an axis.
  template <class Body>
  __device__ __forceinline__ void each(const Roi& roi, int64_t region, int a, int32_t position,
                                       Body&& body) const {
    const RoiAxis<Number> axis = regions.axis(roi, region, a);
    const Number low = Number(position - 1), high = Number(position + 1);
    for (int32_t p = 0; p < roi.output[a]; ++p) {
      if (!axis.may_reach(p, low, high)) continue;
      int32_t first, last;
      axis.range(p, low, high, first, last);
      for (int32_t i = first; i < last; ++i) {
        const Number r = axis.at(p, i);
        if (!(r >= low && r <= high && r >= Number(-1) && r <= Number(axis.size))) continue;
        const RoiTaps<Number> taps = axis.taps(r);
        for (int tap = 0; tap < (a < roi.missing ? 1 : 2); ++tap) {
          // Chosen rather than indexed, which would keep the taps in local memory.
          if ((tap == 0 ? taps.position[0] : taps.position[1]) != position) continue;
          body(p, tap == 0 ? taps.share[0] : taps.share[1]);
        }
      }
    }
  }
};

/// Gradient of roi_pool: bins whose largest element a position was.
template <class T>
struct PooledGradient {
  using Number = accumulator_t<T>;
  const T* dy;             // [regions, planes, O, P, Q, lanes]
  const int64_t* indices;  // like dy, position in [D, H, W] or -1
  RoiCells cells;

  __device__ __forceinline__ int64_t image(int64_t region) const { return cells.image[region]; }
  /// Whether the bins of a region, which follow each other, cover columns among [first, last] of a row.
  __device__ __forceinline__ bool reaches(const Roi& roi, int64_t region, int32_t d, int32_t h, int64_t first,
                                          int64_t last) const {
    const auto begin = [&](int axis) { return cells.begin[cells.at(roi, region, axis, 0)]; };
    const auto end = [&](int axis) { return cells.end[cells.at(roi, region, axis, roi.output[axis] - 1)]; };
    return begin(0) <= d && d < end(0) && begin(1) <= h && h < end(1) && begin(2) <= last && first < end(2);
  }

  template <int V>
  __device__ __forceinline__ void add(Number (&sum)[V], const Roi& roi, int64_t region, int64_t plane,
                                      int64_t lane, const int32_t (&at)[3]) const {
    static_assert(V == 1, "indices are read one by one");
    const int64_t first = (region * roi.planes + plane) * roi.bins() * roi.lanes + lane;
    const int64_t position = (int64_t{at[0]} * roi.size[1] + at[1]) * roi.size[2] + at[2];
    for (int32_t o = 0; o < roi.output[0]; ++o) {
      if (!cells.covers(cells.at(roi, region, 0, o), at[0])) continue;
      for (int32_t p = 0; p < roi.output[1]; ++p) {
        if (!cells.covers(cells.at(roi, region, 1, p), at[1])) continue;
        for (int32_t q = 0; q < roi.output[2]; ++q) {
          if (!cells.covers(cells.at(roi, region, 2, q), at[2])) continue;
          const int64_t i = first + ((int64_t{o} * roi.output[1] + p) * roi.output[2] + q) * roi.lanes;
          if (indices[i] == position) sum[0] += widen(dy[i]);
        }
      }
    }
  }
};

template <class T, int V, class Gradient, class Tile = RoiInputGradTile>
__global__ void __launch_bounds__(Tile::kThreads, sizeof(accumulator_t<T>) == 8 ? 1 : Tile::kMinBlocksPerSm)
    roi_input_grad_kernel(T* __restrict__ dx,  // [images, planes, D, H, W, lanes], all written
                          const Gradient gradient, const Roi roi, const RoiBlocks blocks) {
  using Number = accumulator_t<T>;
  FASTCONV_SHARED(int64_t, list, [Tile::kThreads]);
  FASTCONV_SHARED(int, found, [Tile::kWarps]);
  const int thread = threadIdx.x, in_warp = thread % kWarp, warp = thread / kWarp;
  int64_t rest = blockIdx.x;
  const int64_t first_column = roi_split(rest, blocks.column_blocks) * blocks.columns;
  const int32_t h = static_cast<int32_t>(roi_split(rest, roi.size[1]));
  const int32_t d = static_cast<int32_t>(roi_split(rest, roi.size[0]));
  const int64_t first_channel = roi_split(rest, blocks.channel_blocks) * blocks.channels, image = rest;
  const int64_t column = first_column + (blocks.last ? warp : in_warp);
  const int64_t channel = first_channel + (blocks.last ? in_warp * V : warp);
  const int64_t plane = blocks.last ? 0 : channel, lane = blocks.last ? channel : 0;
  const bool exists = column < roi.size[2] && plane < roi.planes && lane < roi.lanes;
  const int32_t at[3] = {d, h, static_cast<int32_t>(column)};
  const int64_t last_column = first_column + blocks.columns - 1;
  Number sum[V];
#pragma unroll
  for (int v = 0; v < V; ++v) sum[v] = Number(0);
  for (int64_t base = 0; base < roi.regions; base += Tile::kThreads) {
    const int64_t region = base + thread;
    const bool listed = region < roi.regions && gradient.image(region) == image &&
                        gradient.reaches(roi, region, d, h, first_column, last_column);
    const unsigned those = __ballot_sync(kFullMask, listed);
    if (in_warp == 0) found[warp] = __popc(those);
    __syncthreads();
    int before = 0, total = 0;
#pragma unroll
    for (int w = 0; w < Tile::kWarps; ++w) {
      before += w < warp ? found[w] : 0;
      total += found[w];
    }
    if (listed) list[before + __popc(those & ((1u << in_warp) - 1))] = region;
    __syncthreads();
    for (int i = 0; exists && i < total; ++i) gradient.add(sum, roi, list[i], plane, lane, at);
    __syncthreads();  // the list may still be read
  }
  if (!exists) return;
  Vector<T, V> written;
#pragma unroll
  for (int v = 0; v < V; ++v) written[v] = narrow<T>(sum[v]);
  const int64_t position = (int64_t{d} * roi.size[1] + h) * roi.size[2] + column;
  store_vector(dx + ((image * roi.planes + plane) * roi.positions() + position) * roi.lanes + lane, written);
}

}  // namespace fastconv
