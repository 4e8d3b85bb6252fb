// bias_grad.cuh -- the gradient of a bias: db[k] = sum over n, p of dy[n,k,p].
//
// Two stages with a fixed order: blocks sum a part of the batch and pixels each into [parts, K], of the type
// that sums are kept in, and sum_splits_kernel adds the parts. A single part is db itself. Each element of dy
// is read once.
#pragma once
#include "device/vector.h"
#include "device/warp.h"

namespace fastconv {

struct BiasGradTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocks = 6;  // leaves 40 registers a thread: at 32, a block more, sums would spill
  // Channels last, a warp reads 32 vectors of neighbouring channels, 512 bytes of a row.
  static constexpr int kRowsAtOnce = kThreads / kWarp;
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// Channels first. One block, one channel and one part of N * positions, in vectors of kElements.
template <class T, class Out, int kElements>
__global__ void __launch_bounds__(BiasGradTile::kThreads, BiasGradTile::kMinBlocks)
    conv_bias_grad_channels_first_kernel(const T* __restrict__ dy,   // [N, K, positions]
                                         Out* __restrict__ partial,  // [parts, K], all written
                                         int64_t batch, int32_t channels, int64_t positions, int parts) {
  using Sum = accumulator_t<T>;
  static_assert(std::is_same_v<accumulator_t<Out>, Sum>, "db or its parts");
  const int32_t channel = blockIdx.x % channels, part = blockIdx.x / channels;
  const int64_t vectors = positions / kElements;
  const int64_t all = batch * vectors;
  const int64_t first = all * part / parts, end = all * (part + 1) / parts;
  // A vector's image and place are stepped along rather than divided out each time.
  const int64_t step_images = BiasGradTile::kThreads / vectors, step = BiasGradTile::kThreads % vectors;
  int64_t image = (first + threadIdx.x) / vectors, at = (first + threadIdx.x) % vectors;
  Sum sum[kElements] = {};
  for (int64_t i = first + threadIdx.x; i < end; i += BiasGradTile::kThreads) {
    const auto value = load_vector<kElements>(dy + ((image * channels + channel) * vectors + at) * kElements);
#pragma unroll
    for (int j = 0; j < kElements; ++j) sum[j] += widen(value[j]);
    at += step;
    image += step_images;
    if (at >= vectors) {
      at -= vectors;
      ++image;
    }
  }
#pragma unroll
  for (int j = 1; j < kElements; ++j) sum[0] += sum[j];
  const Sum total = block_sum<BiasGradTile::kThreads>(sum[0]);
  if (threadIdx.x == 0) partial[int64_t{part} * channels + channel] = narrow<Out>(total);
}

/// Channels last. One block, 32 vectors of channels and one part of the rows.
template <class T, class Out, int kElements>
__global__ void __launch_bounds__(BiasGradTile::kThreads, BiasGradTile::kMinBlocks)
    conv_bias_grad_channels_last_kernel(const T* __restrict__ dy,   // [rows, K]
                                        Out* __restrict__ partial,  // [parts, K], all written
                                        int64_t rows, int32_t channels, int32_t channel_tiles, int parts) {
  using Sum = accumulator_t<T>;
  FASTCONV_SHARED(Sum, sums, [BiasGradTile::kRowsAtOnce][kElements][kWarp]);
  const int32_t part = blockIdx.x / channel_tiles;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t channel = (int64_t{blockIdx.x % channel_tiles} * kWarp + lane) * kElements;
  const int64_t first = rows * part / parts, end = rows * (part + 1) / parts;
  Sum sum[kElements] = {};
  if (channel < channels) {
    for (int64_t row = first + warp; row < end; row += BiasGradTile::kRowsAtOnce) {
      const auto value = load_vector<kElements>(dy + row * channels + channel);
#pragma unroll
      for (int j = 0; j < kElements; ++j) sum[j] += widen(value[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < kElements; ++j) sums[warp][j][lane] = sum[j];
  __syncthreads();
  if (warp == 0 && channel < channels) {
#pragma unroll
    for (int j = 0; j < kElements; ++j) {
      Sum total = sums[0][j][lane];
      for (int w = 1; w < BiasGradTile::kRowsAtOnce; ++w) total += sums[w][j][lane];
      partial[int64_t{part} * channels + channel + j] = narrow<Out>(total);
    }
  }
}

}  // namespace fastconv
