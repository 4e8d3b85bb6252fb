// depthwise_weight_grad_direct.cuh -- weight gradient of a depthwise convolution of any geometry.
//
//   dw[k,r] = sum over n, p of dy[n,k,p] * x[n,c,i]      i = p * stride - padding + r * dilation
//
// A block sums one tap over a split of the output positions: of one filter for channels first, where lanes
// walk positions, and of 32 neighbouring ones for channels last, where lanes walk filters. Either way
// neighbours read neighbours. Meetings outside the input are left out. Splits are added by a second kernel in
// their order.
#pragma once
#include "device/warp.h"
#include "window.h"

namespace fastconv {

/// Where a plane begins, and elements from one of its positions to the next.
struct DepthwisePlane {
  int64_t start, step;
  __device__ __forceinline__ DepthwisePlane(int64_t n, int32_t channel, bool last, int32_t channels,
                                            const Axes& size)
      : start(last ? n * size.product() * channels + channel : (n * channels + channel) * size.product()),
        step(last ? channels : 1) {}
};

struct DepthwiseWeightGradDirectTile {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarp;
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

template <class T>
__global__ void
__launch_bounds__(DepthwiseWeightGradDirectTile::kThreads) depthwise_weight_grad_direct_kernel(
    const T* __restrict__ x,                 // [N, C, *size]
    const T* __restrict__ dy,                // [N, K, *output]
    T* __restrict__ dw,                      // [K, *kernel], all written; unused if there are partial sums
    accumulator_t<T>* __restrict__ partial,  // [splits, K, *kernel], all written, or nullptr for one split
    const Window window, const bool last, const int splits) {
  using A = accumulator_t<T>;
  using Tile = DepthwiseWeightGradDirectTile;
  FASTCONV_SHARED(A, sums, [Tile::kWarps][kWarp]);
  const int64_t taps = window.kernel.product();
  int64_t block = blockIdx.x;
  const int64_t tap = block % taps;
  block /= taps;
  const int64_t split = block % splits;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t k = last ? block / splits * kWarp + lane : block / splits;
  const int32_t r[3] = {static_cast<int32_t>(tap / window.kernel[2] / window.kernel[1]),
                        static_cast<int32_t>(tap / window.kernel[2] % window.kernel[1]),
                        static_cast<int32_t>(tap % window.kernel[2])};
  const int64_t positions = window.batch * window.output.product();
  const int64_t share = (positions + splits - 1) / splits;
  const int64_t end = min((split + 1) * share, positions);
  const int steps = last ? Tile::kWarps : Tile::kThreads;
  A sum = 0;
  for (int64_t i = split * share + (last ? warp : threadIdx.x); i < end && k < window.filters; i += steps) {
    int64_t rest = i, at = 0, from = 0;
    int32_t p[3];
    for (int axis = 2; axis >= 0; --axis) {
      p[axis] = static_cast<int32_t>(rest % window.output[axis]);
      rest /= window.output[axis];
    }
    bool inside = true;
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t meeting = window.meeting(axis, p[axis], r[axis]);
      inside = inside && meeting >= 0 && meeting < window.size[axis];
      from = from * window.size[axis] + meeting;
      at = at * window.output[axis] + p[axis];
    }
    if (!inside) continue;
    const int32_t filter = static_cast<int32_t>(k);
    const DepthwisePlane input(rest, filter / window.group_filters(), last, window.channels, window.size);
    const DepthwisePlane result(rest, filter, last, window.filters, window.output);
    sum = multiply_add(widen(dy[result.start + at * result.step]), widen(x[input.start + from * input.step]),
                       sum);
  }
  if (!last) sum = warp_sum(sum);
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || (last ? k >= window.filters : lane > 0)) return;
  A total = sums[0][lane];
  for (int i = 1; i < Tile::kWarps; ++i) total += sums[i][lane];
  if (partial) {
    partial[(split * window.filters + k) * taps + tap] = total;
  } else {
    dw[k * taps + tap] = narrow<T>(total);
  }
}

struct DepthwiseSplitsTile {
  static constexpr int kThreads = 256;  // one element of dw each
};

/// dw = partial sums added in their order.
template <class T>
__global__ void __launch_bounds__(DepthwiseSplitsTile::kThreads)
    depthwise_add_splits_kernel(const accumulator_t<T>* __restrict__ partial,  // [splits, elements]
                                T* __restrict__ dw,                            // [elements], all written
                                const int64_t elements, const int splits) {
  const int64_t i = int64_t{blockIdx.x} * DepthwiseSplitsTile::kThreads + threadIdx.x;
  if (i >= elements) return;
  accumulator_t<T> sum = partial[i];
  for (int split = 1; split < splits; ++split) sum += partial[split * elements + i];
  dw[i] = narrow<T>(sum);
}

}  // namespace fastconv
