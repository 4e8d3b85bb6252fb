// forward.cuh -- sampling of images at the points of a grid, two or three axes.
//
//   y[n,c,p] = sum over what p reads of weight * x[n,c,place]
//
// Places and weights: reads.h. A point's are found once for all the channels of a thread.
#pragma once
#include "device/vector.h"
#include "grid/reads.h"

namespace fastconv {

struct GridForwardTile {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocksPerSm = 5;  // caps registers at 96: latency is hidden by many warps
  static constexpr int kChannels = 8;  // of a thread where points are innermost; they share what is read
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// One thread, one point of an image and a run of its channels: V of them at once where they are innermost,
/// so that neighbours access neighbours in either format.
template <class T, int V, class Tile = GridForwardTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    grid_sample_forward_kernel(const T* __restrict__ x,     // [N, C, D, H, W] or [N, D, H, W, C]
                               const T* __restrict__ grid,  // [N, points, axes]
                               T* __restrict__ y,           // [N, C, points] or [N, points, C], all written
                               const GridSampling sampling, const int64_t runs) {
  using Number = accumulator_t<T>;
  using Reads = PointReads<Number, Tile::kThreads>;
  FASTCONV_SHARED(int32_t, positions, [Reads::kRows][Tile::kThreads]);
  FASTCONV_SHARED(Number, weights, [Reads::kRows][Tile::kThreads]);
  int64_t n = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (n >= sampling.batch * sampling.points * runs) return;
  // Runs change fastest where channels are innermost, otherwise slowest within an image.
  const int64_t first = split_fastest(n, sampling.last ? runs : sampling.points);
  const int64_t second = split_fastest(n, sampling.last ? sampling.points : runs);
  const int64_t point = sampling.last ? second : first;
  const int64_t run = sampling.last ? V : Tile::kChannels;
  const int64_t begin = (sampling.last ? first : second) * run;
  const int64_t end = begin + run < sampling.channels ? begin + run : sampling.channels;

  const Reads reads{positions, weights, nullptr, static_cast<int>(threadIdx.x)};
  reads.find(sampling, grid + (n * sampling.points + point) * sampling.axes);
  const int64_t volume = sampling.volume();
  const int64_t step = sampling.position_step();
  x += n * sampling.channels * volume;
  y += n * sampling.channels * sampling.points + point * step;
  for (int64_t c = begin; c < end; c += V) {
    Number sum[V] = {};
    const T* source = x + c * sampling.channel_step(volume);
    reads.for_each(sampling, [&](int64_t place, Number weight, int, int, int) {
      Vector<T, V> value;
      if (place >= 0) value = load_vector<V>(source + place * step);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        sum[v] = multiply_add(weight, place >= 0 ? widen(value[v]) : Number(0), sum[v]);
      }
    });
    Vector<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) result[v] = narrow<T>(sum[v]);
    store_vector_global(y + c * sampling.channel_step(sampling.points), result);
  }
}

}  // namespace fastconv
