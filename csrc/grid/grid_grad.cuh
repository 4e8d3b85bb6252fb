// grid_grad.cuh -- the derivatives of sampling by the coordinates of the points.
//
//   dgrid[n,p,a] = sum over c of dy[n,c,p] * sum over what p reads of weight * x[n,c,place],
//                  the weight differentiated by coordinate a
//
// Places and weights: reads.h. Sums have a fixed order: of a thread, or of a warp whose lanes share the
// channels.
#pragma once
#include "device/warp.h"
#include "grid/reads.h"

namespace fastconv {

struct GridGradTile {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocksPerSm = 7;  // caps registers at 72: latency is hidden by many warps
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// One point: of a thread where points are innermost, of a warp where channels are.
template <class T, bool kWarps, class Tile = GridGradTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    grid_sample_grid_grad_kernel(const T* __restrict__ dy,    // [N, C, points] or [N, points, C]
                                 const T* __restrict__ x,     // [N, C, D, H, W] or [N, D, H, W, C]
                                 const T* __restrict__ grid,  // [N, points, axes]
                                 T* __restrict__ dgrid,       // like grid, all written
                                 const GridSampling sampling) {
  using Number = accumulator_t<T>;
  using Reads = PointReads<Number, Tile::kThreads>;
  FASTCONV_SHARED(int32_t, positions, [Reads::kRows][Tile::kThreads]);
  FASTCONV_SHARED(Number, weights, [Reads::kRows][Tile::kThreads]);
  FASTCONV_SHARED(Number, slopes, [Reads::kRows][Tile::kThreads]);
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  const int64_t task = kWarps ? thread / kWarp : thread;
  if (task >= sampling.batch * sampling.points) return;  // of whole warps where a warp has a task
  int64_t n = task;
  const int64_t point = split_fastest(n, sampling.points);
  const int lane = kWarps ? static_cast<int>(thread % kWarp) : 0;

  const Reads reads{positions, weights, slopes, static_cast<int>(threadIdx.x)};
  reads.find(sampling, grid + task * sampling.axes);
  const int64_t volume = sampling.volume();
  const int64_t step = kWarps ? sampling.channels : 1;
  x += n * sampling.channels * volume;
  dy += n * sampling.channels * sampling.points + point * step;
  const bool deep = sampling.axes == 3;
  Number sum[3] = {};  // of D, H and W
  for (int64_t c = lane; c < sampling.channels; c += kWarps ? kWarp : 1) {
    const Number error = widen(dy[kWarps ? c : c * sampling.points]);
    const T* source = x + (kWarps ? c : c * volume);
    Number slope[3] = {};  // summed before it meets dy, which may be infinite
    reads.for_each(sampling, [&](int64_t place, Number, int i, int j, int k) {
      const Number value = place >= 0 ? widen(source[place * step]) : Number(0);
      const int column = reads.column;
      const Number depth = deep ? weights[i][column] : Number(1);
      const Number h = weights[j][column], w = weights[k][column];
      if (deep) slope[0] = multiply_add(slopes[i][column] * h * w, value, slope[0]);
      slope[1] = multiply_add(depth * slopes[j][column] * w, value, slope[1]);
      slope[2] = multiply_add(depth * h * slopes[k][column], value, slope[2]);
    });
#pragma unroll
    for (int a = 0; a < 3; ++a) sum[a] = multiply_add(error, slope[a], sum[a]);
  }
  if (kWarps) {
#pragma unroll
    for (int a = 0; a < 3; ++a) sum[a] = warp_sum(sum[a]);
    if (lane > 0) return;
  }
  dgrid += task * sampling.axes;
  dgrid[0] = narrow<T>(sum[2]);
  dgrid[1] = narrow<T>(sum[1]);
  if (deep) dgrid[2] = narrow<T>(sum[0]);
}

}  // namespace fastconv
