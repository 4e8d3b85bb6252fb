// depthwise_direct.cuh -- depthwise convolution of any geometry, one thread an element of the result.
//
//   y[n,k,p]  = activation(b[k] + sum_r x[n,c,i] * w[k,r])
//   dx[n,c,i] = b[c] + sum over m, r of dy[n,k,p] * w[k,r]      k = c * multiplier + m
//
// where p and r meet at i = p * stride - padding + r * dilation, and meetings outside are left out.
// Neighbouring threads write neighbouring elements in either memory format and read neighbours at stride 1.
// What is read again comes from the caches: this serves what the tiled kernels do not hold, see
// depthwise_plan.h. The input gradient is a gather as well: of each axis only the taps are visited that meet
// a whole output position. Source: Dumoulin & Visin, arXiv:1603.07285.
#pragma once
#include "activation.h"
#include "device/numeric.h"
#include "window.h"

namespace fastconv {

struct DepthwiseDirectTile {
  static constexpr int kThreads = 256;       // one element each
  static constexpr int kMinBlocksPerSm = 4;  // caps registers at 64 a thread, where none spills
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// Place of an element in a result [N, channels, *size].
struct DepthwisePlace {
  int64_t n;
  int32_t channel;
  int32_t at[3];
};

/// The place of element i in memory.
__device__ __forceinline__ DepthwisePlace depthwise_place(int64_t i, bool last, int32_t channels,
                                                          const Axes& size) {
  DepthwisePlace place;
  if (last) {
    place.channel = static_cast<int32_t>(i % channels);
    i /= channels;
  }
  for (int axis = 2; axis >= 0; --axis) {
    place.at[axis] = static_cast<int32_t>(i % size[axis]);
    i /= size[axis];
  }
  if (!last) {
    place.channel = static_cast<int32_t>(i % channels);
    i /= channels;
  }
  place.n = i;
  return place;
}

/// Elements from one position of a plane to the next, and where a plane begins.
struct DepthwisePlane {
  int64_t start, step;
  __device__ __forceinline__ DepthwisePlane(int64_t n, int32_t channel, bool last, int32_t channels,
                                            const Axes& size)
      : start(last ? n * size.product() * channels + channel : (n * channels + channel) * size.product()),
        step(last ? channels : 1) {}
};

template <class T>
__global__ void __launch_bounds__(DepthwiseDirectTile::kThreads, DepthwiseDirectTile::kMinBlocksPerSm)
    depthwise_forward_direct_kernel(const T* __restrict__ x,  // [N, C, *size]
                                    const T* __restrict__ w,  // [K, *kernel]
                                    const T* __restrict__ b,  // [K], or nullptr
                                    T* __restrict__ y,        // [N, K, *output], all written
                                    const Window window, const bool last, const Activation activation) {
  using A = accumulator_t<T>;
  const int64_t i = int64_t{blockIdx.x} * DepthwiseDirectTile::kThreads + threadIdx.x;
  if (i >= window.output_elements()) return;
  const DepthwisePlace place = depthwise_place(i, last, window.filters, window.output);
  const DepthwisePlane plane(place.n, place.channel / window.group_filters(), last, window.channels,
                             window.size);
  const T* tap = w + place.channel * window.kernel.product();
  A sum = 0;
  for (int t = 0; t < window.kernel[0]; ++t) {
    const int d = window.meeting(0, place.at[0], t);
    for (int r = 0; r < window.kernel[1]; ++r) {
      const int h = window.meeting(1, place.at[1], r);
      for (int s = 0; s < window.kernel[2]; ++s, ++tap) {
        const int c = window.meeting(2, place.at[2], s);
        const bool inside =
            d >= 0 && d < window.size[0] && h >= 0 && h < window.size[1] && c >= 0 && c < window.size[2];
        if (!inside) continue;
        const int64_t at = (int64_t{d} * window.size[1] + h) * window.size[2] + c;
        sum = multiply_add(widen(x[plane.start + at * plane.step]), widen(*tap), sum);
      }
    }
  }
  if (b) sum += widen(b[place.channel]);
  y[i] = narrow<T>(activate(sum, activation));
}

/// The taps of one axis that meet input position i: `first`, then every `step`, as long as they are below
/// `taps`; output position `position` for the first, less `back` for each further one.
struct DepthwiseMeetings {
  int32_t first, position;
  __device__ __forceinline__ DepthwiseMeetings(const Window& window, int axis, int32_t i, int32_t step) {
    const int32_t stride = window.stride[axis], dilation = window.dilation[axis];
    const int64_t from = int64_t{i} + window.padding[axis];
    first = 0;
    while (first < step && (from - int64_t{first} * dilation) % stride != 0) ++first;
    if (first == step) first = window.kernel[axis];  // no tap meets i
    position = static_cast<int32_t>((from - int64_t{first} * dilation) / stride);
  }
};

/// Per axis, taps from one that meets an input position to the next, at most all, and output positions
/// between them.
struct DepthwiseSteps {
  Axes taps, positions;
};

template <class T>
__global__ void __launch_bounds__(DepthwiseDirectTile::kThreads, DepthwiseDirectTile::kMinBlocksPerSm)
    depthwise_input_grad_direct_kernel(const T* __restrict__ dy,  // [N, K, *output]
                                       const T* __restrict__ w,   // [K, *kernel]
                                       const T* __restrict__ b,   // [C], or nullptr
                                       T* __restrict__ dx,        // [N, C, *size], all written
                                       const Window window, const DepthwiseSteps steps, const bool last) {
  using A = accumulator_t<T>;
  const int64_t i = int64_t{blockIdx.x} * DepthwiseDirectTile::kThreads + threadIdx.x;
  if (i >= window.input_elements()) return;
  const DepthwisePlace place = depthwise_place(i, last, window.channels, window.size);
  const DepthwiseMeetings depth(window, 0, place.at[0], steps.taps[0]);
  const DepthwiseMeetings row(window, 1, place.at[1], steps.taps[1]);
  const DepthwiseMeetings column(window, 2, place.at[2], steps.taps[2]);
  A sum = 0;
  for (int m = 0; m < window.group_filters(); ++m) {
    const int32_t k = place.channel * window.group_filters() + m;
    const DepthwisePlane plane(place.n, k, last, window.filters, window.output);
    const T* taps = w + k * window.kernel.product();
    int32_t d = depth.position;
    for (int t = depth.first; t < window.kernel[0]; t += steps.taps[0], d -= steps.positions[0]) {
      int32_t p = row.position;
      for (int r = row.first; r < window.kernel[1]; r += steps.taps[1], p -= steps.positions[1]) {
        int32_t q = column.position;
        for (int s = column.first; s < window.kernel[2]; s += steps.taps[2], q -= steps.positions[2]) {
          const bool inside = d >= 0 && d < window.output[0] && p >= 0 && p < window.output[1] && q >= 0 &&
                              q < window.output[2];
          if (!inside) continue;
          const int64_t at = (int64_t{d} * window.output[1] + p) * window.output[2] + q;
          const A tap = widen(taps[(t * window.kernel[1] + r) * window.kernel[2] + s]);
          sum = multiply_add(widen(dy[plane.start + at * plane.step]), tap, sum);
        }
      }
    }
  }
  if (b) sum += widen(b[place.channel]);
  dx[i] = narrow<T>(sum);
}

}  // namespace fastconv
