// input_grad.cuh -- the gradient of sampling by the images, its exact transpose.
//
//   dx[n,c,i] = sum over the points p that read position i of weight * dy[n,c,p]
//
// Which points read a position is known only after sorting. One kernel writes for each read of each point a
// key, the position that is read, and its weight; once reads are sorted by their keys, stably, another one
// sums for each position those that read it in the order of their numbers, so that there are no atomics.
#pragma once
#include "device/vector.h"
#include "grid/reads.h"

namespace fastconv {

struct GridReadsTile {
  static constexpr int kThreads = 256;  // one point each
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// Points [first, first + count) of all images; read number t * count + i is read t of point first + i. The
/// key of a position in image n is n * volume + place, that of a read outside batch * volume.
template <class T, class Tile = GridReadsTile>
__global__ void __launch_bounds__(Tile::kThreads)
    grid_reads_kernel(const T* __restrict__ grid,              // [N, points, axes]
                      int64_t* __restrict__ keys,              // [reads, count], all written
                      accumulator_t<T>* __restrict__ weights,  // like keys, all written
                      const GridSampling sampling, const int64_t first, const int64_t count) {
  using Number = accumulator_t<T>;
  using Reads = PointReads<Number, Tile::kThreads>;
  FASTCONV_SHARED(int32_t, positions, [Reads::kRows][Tile::kThreads]);
  FASTCONV_SHARED(Number, shares, [Reads::kRows][Tile::kThreads]);
  const int64_t i = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t volume = sampling.volume(), nowhere = sampling.batch * volume;
  const int64_t image = quotient(first + i, sampling.points) * volume;
  const Reads reads{positions, shares, nullptr, static_cast<int>(threadIdx.x)};
  reads.find(sampling, grid + (first + i) * sampling.axes);
  for (int t = 0; t < sampling.reads(); ++t) {
    keys[t * count + i] = nowhere;
    weights[t * count + i] = 0;
  }
  reads.for_each(sampling, [&](int64_t place, Number weight, int d, int h, int w) {
    if (place < 0) return;
    const int taps = sampling.taps();
    const int row = h - Reads::row(sampling, 1), column = w - Reads::row(sampling, 2);
    const int64_t at = ((d * taps + row) * taps + column) * count + i;
    keys[at] = image + place;
    weights[at] = weight;
  });
}

struct GridInputGradTile {
  static constexpr int kThreads = 256;
  static constexpr int kChannels = 8;  // of a thread where positions are innermost, by one walk over reads
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// One thread, one position of an image and R channels, or V at once where they are innermost. Reads
/// starts[key] to starts[key + 1] of `order` are those of a key.
template <class T, int V, int R, class Tile = GridInputGradTile>
__global__ void __launch_bounds__(Tile::kThreads)
    grid_sample_input_grad_kernel(const T* __restrict__ dy,            // [N, C, points] or [N, points, C]
                                  const int64_t* __restrict__ order,   // [reads * count] numbers of reads
                                  const int64_t* __restrict__ starts,  // [N * volume + 1]
                                  const accumulator_t<T>* __restrict__ weights,  // [reads, count]
                                  T* __restrict__ dx,  // [N, C, volume] or [N, volume, C], all written
                                  const GridSampling sampling, const int64_t runs, const int64_t first,
                                  const int64_t count, const bool accumulate) {
  static_assert(V == 1 || R == 1, "channels of one access lie next to each other");
  using Number = accumulator_t<T>;
  int64_t n = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  const int64_t volume = sampling.volume();
  if (n >= sampling.batch * volume * runs) return;
  const int64_t fast = split_fastest(n, sampling.last ? runs : volume);
  const int64_t slow = split_fastest(n, sampling.last ? volume : runs);
  const int64_t place = sampling.last ? slow : fast, begin = (sampling.last ? fast : slow) * (V * R);
  const int64_t key = n * volume + place;
  const int64_t step = sampling.position_step();
  const int64_t dy_step = sampling.channel_step(sampling.points), dx_step = sampling.channel_step(volume);
  dy += n * sampling.channels * sampling.points + begin * dy_step;
  dx += n * sampling.channels * volume + place * step + begin * dx_step;

  Number sum[R * V] = {};
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (!accumulate || begin + r >= sampling.channels) continue;
    const Vector<T, V> before = load_vector<V>(dx + r * dx_step);
#pragma unroll
    for (int v = 0; v < V; ++v) sum[r * V + v] = widen(before[v]);
  }
  for (int64_t i = starts[key]; i < starts[key + 1]; ++i) {
    const int64_t read = order[i];
    const Number weight = weights[read];
    const int64_t point = first + read - quotient(read, count) * count - n * sampling.points;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (begin + r >= sampling.channels) continue;
      const Vector<T, V> error = load_vector<V>(dy + point * step + r * dy_step);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[r * V + v] = multiply_add(weight, widen(error[v]), sum[r * V + v]);
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (begin + r >= sampling.channels) continue;
    Vector<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) result[v] = narrow<T>(sum[r * V + v]);
    store_vector(dx + r * dx_step, result);
  }
}

}  // namespace fastconv
