// depthwise_pixels.cuh -- depthwise convolution, channels last: pixels of a few channels in shared memory.
//
//   y[n,p,c] = activation(b[c] + sum_r source[n,i,c] * w[c,r])     see DepthwiseGather for i
//
// A block owns some channels of a tile and keeps a ring of slices of the source along the first axis,
// widened, with zeros around; each slice is loaded once. A thread sums kPixels neighbouring outputs of one
// quad of channels. At stride and dilation 1 it moves the source through registers, so that a pixel is read
// once for all the taps of a row. As with planes, taps that are not finite take the path that asks for every
// meeting.
#pragma once
#include "activation.h"
#include "conv/depthwise_patches.cuh"
#include "device/warp.h"

namespace fastconv {

/// Spread the taps of the block's channels; whether all that this thread saw are finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_pixel_taps(const T* __restrict__ w,
                                                          Quad<accumulator_t<T>>* taps,
                                                          const DepthwisePixels& plan,
                                                          const DepthwisePixelsPlace& at) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>;
  const DepthwiseGather& g = plan.gather;
  const int count = static_cast<int>(g.kernel.product());
  const int channels = min(plan.lanes * kR, g.channels - at.channel);
  const SmallDivisor by_count(count);
  bool finite = true;
  for (int i = threadIdx.x; i < channels * count; i += plan.threads) {
    uint32_t tap = i;
    const int channel = by_count.divide(tap);
    const int64_t filter = int64_t{at.channel} + channel;
    const A value = widen(w[filter * count + (g.flipped ? count - 1 - tap : tap)]);
    finite = finite && is_finite(value);
    const int lane = plan.vectors ? channel / kR : channel % plan.lanes;
    taps[tap * plan.tap_quads() + lane][plan.vectors ? channel % kR : channel / plan.lanes] = value;
  }
  return finite;
}

/// Add to acc one row of taps. kAsking leaves out meetings outside the image one by one.
///
/// row: the thread's first pixel, of its lane. taps: the row's first tap, of the lane. column: its input
/// position.
template <bool kAsking, class A>
__device__ __forceinline__ void add_depthwise_row(Quad<A> (&acc)[DepthwisePixelsTile::kPixels],
                                                  const Quad<A>* row, const Quad<A>* taps,
                                                  const DepthwisePixels& plan, int column) {
  using Tile = DepthwisePixelsTile;
  constexpr int kR = kRun<A>, kP = Tile::kPixels;
  const DepthwiseGather& g = plan.gather;
  const auto add = [&](const Quad<A>& tap, const Quad<A>& value, int j, int s) {
    if constexpr (kAsking) {
      const int c = column + j * g.stride[2] + s * g.dilation[2];
      if (c < 0 || c >= g.size[2]) return;
    }
#pragma unroll
    for (int k = 0; k < kR; ++k) acc[j][k] = multiply_add(tap[k], value[k], acc[j][k]);
  };
  if (kAsking || g.stride[2] != 1 || g.dilation[2] != 1) {
    for (int s = 0; s < g.kernel[2]; ++s) {
      const Quad<A> tap = load_vector<kR>(&taps[s * plan.tap_quads()][0]);
#pragma unroll
      for (int j = 0; j < kP; ++j) {
        const int c = j * g.stride[2] + s * g.dilation[2];
        add(tap, load_vector<kR>(&row[c * plan.lanes][0]), j, s);
      }
    }
    return;
  }
  // Pointers advance: products with the run-time distances would occupy registers.
  Quad<A> values[kP + Tile::kChunk - 1];
#pragma unroll
  for (int j = 0; j < kP - 1; ++j, row += plan.lanes) values[j] = load_vector<kR>(&row[0][0]);
  for (int first = 0; first < g.kernel[2]; first += Tile::kChunk) {
#pragma unroll
    for (int u = 0; u < Tile::kChunk; ++u, row += plan.lanes)
      values[kP - 1 + u] = load_vector<kR>(&row[0][0]);
#pragma unroll
    for (int u = 0; u < Tile::kChunk; ++u) {
      if (first + u >= g.kernel[2]) continue;
      const Quad<A> tap = load_vector<kR>(&taps[0][0]);
      taps += plan.tap_quads();
#pragma unroll
      for (int j = 0; j < kP; ++j) add(tap, values[j + u], j, first + u);
    }
#pragma unroll
    for (int j = 0; j < kP - 1; ++j) values[j] = values[j + Tile::kChunk];
  }
}

/// Write what is staged of `steps` positions of the first axis from p on. All threads call.
///
/// staged: [step, row, column, channel] of the block, its rows and columns as many as the tile's.
template <class T>
__device__ __forceinline__ void store_depthwise_pixels(T* __restrict__ y, const T* staged,
                                                       const DepthwisePixels& plan,
                                                       const DepthwisePixelsPlace& at, int64_t image, int p,
                                                       int steps) {
  constexpr int kChannels = kRun<accumulator_t<T>>;
  const DepthwiseGather& g = plan.gather;
  const int pitch = plan.units * DepthwisePixelsTile::kPixels;
  const int channels = min(plan.lanes * kChannels, g.channels - at.channel);
  const SmallDivisor by_channels(channels), by_columns(at.columns), by_rows(at.rows);
  __syncthreads();
  for (int i = threadIdx.x; i < steps * at.rows * at.columns * channels; i += plan.threads) {
    uint32_t channel = i;
    uint32_t column = by_channels.divide(channel);
    uint32_t row = by_columns.divide(column);
    const uint32_t step = by_rows.divide(row);
    const int64_t line = (image * g.output[0] + p + step) * g.output[1] + at.row + row;
    const int64_t position = line * g.output[2] + at.column + column;
    const int from = ((step * plan.tile_rows + row) * pitch + column) * plan.lanes * kChannels + channel;
    y[position * g.channels + at.channel + channel] = staged[from];
  }
}

template <class T>
__global__ void __launch_bounds__(DepthwisePixelsTile::kMaxThreads, DepthwisePixelsTile::kMinBlocksPerSm<T>)
    depthwise_gather_pixels_kernel(const T* __restrict__ x,  // [N, *size, C]
                                   const T* __restrict__ w,  // [C, *kernel]
                                   const T* __restrict__ b,  // [C], or nullptr
                                   T* __restrict__ y,        // [N, *output, C], all written
                                   const DepthwisePixels plan, const Activation activation) {
  using A = accumulator_t<T>;
  using Tile = DepthwisePixelsTile;
  constexpr int kR = kRun<A>, kP = Tile::kPixels;
  FASTCONV_DYNAMIC_SHARED(Quad<A>, tile);
  FASTCONV_SHARED(int, wild, [kDepthwiseFlags]);
  Quad<A>* taps = tile + plan.tile_quads();
  const DepthwiseGather& g = plan.gather;
  const DepthwisePixelsPlace at(plan, kR, blockIdx.x);
  const int thread = threadIdx.x;
  const int all_quads = plan.tile_quads() + static_cast<int>(g.kernel.product()) * plan.tap_quads();
  for (int i = thread; i < all_quads; i += plan.threads) store_vector(&tile[i][0], Quad<A>{});

  if (thread < kDepthwiseFlags) wild[thread] = 0;
  const int lane = thread % plan.lanes;
  int rest = thread / plan.lanes;
  const int row = rest % plan.tile_rows;  // before the units: rows of four lanes fill different banks
  rest /= plan.tile_rows;
  const int step = rest % plan.steps, unit = rest / plan.steps;
  const bool computes = unit < plan.units && row < at.rows && unit * kP < at.columns &&
                        at.channel + depthwise_channel<A>(plan, lane, 0) < g.channels;
  const int column = at.left + unit * kP * g.stride[2];
  __syncthreads();
  flag_if_wild(wild, load_depthwise_pixel_taps(w, taps, plan, at), false);

  for (int64_t image = at.first_image; image < at.first_image + at.images; ++image) {
    int loaded = -1;  // slices up to this one have been in the ring
    for (int p0 = 0; p0 < g.output[0]; p0 += plan.steps) {
      const int begin = p0 * g.stride[0] - g.padding[0];
      const int steps = min(plan.steps, g.output[0] - p0);
      const int end =
          min(begin + (steps - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1, g.size[0]);
      __syncthreads();  // the ring is zeroed, or read to the end
      for (int d = max(begin, loaded + 1); d < end; ++d) load_depthwise_pixels(x, tile, plan, at, image, d);
      loaded = max(loaded, end - 1);
      __syncthreads();
      const bool active = computes && step < steps;
      Quad<A> acc[kP] = {};
      if (active) {
        const bool finite = all_finite(wild);
        for (int t = 0; t < g.kernel[0]; ++t) {
          const int d = begin + step * g.stride[0] + t * g.dilation[0];
          if (d < 0 || d >= g.size[0]) continue;
          for (int r = 0; r < g.kernel[1]; ++r) {
            const int h = row * g.stride[1] + r * g.dilation[1];
            if (at.top + h < 0 || at.top + h >= g.size[1]) continue;
            const int first = (d % plan.slots * plan.rows + h) * plan.columns + unit * kP * g.stride[2];
            const Quad<A>* tap = taps + (t * g.kernel[1] + r) * g.kernel[2] * plan.tap_quads() + lane;
            if (finite) {
              add_depthwise_row<false>(acc, tile + first * plan.lanes + lane, tap, plan, column);
            } else {
              add_depthwise_row<true>(acc, tile + first * plan.lanes + lane, tap, plan, column);
            }
          }
        }
      }
      A bias[kR] = {};
#pragma unroll
      for (int k = 0; k < kR; ++k) {
        const int channel = at.channel + depthwise_channel<A>(plan, lane, k);
        if (b && channel < g.channels) bias[k] = widen(b[channel]);
      }
      // Where vectors do not fit, pixels are written through shared memory, along the memory of y.
      T* staged = reinterpret_cast<T*>(taps + static_cast<int>(g.kernel.product()) * plan.tap_quads());
      const int channels = plan.lanes * kR, first_pixel = (step * plan.tile_rows + row) * plan.units + unit;
      const int64_t position =
          ((image * g.output[0] + p0 + step) * g.output[1] + at.row + row) * g.output[2] + at.column +
          unit * kP;
      T* to = plan.vectors ? y + position * g.channels + at.channel : staged + first_pixel * kP * channels;
#pragma unroll
      for (int j = 0; j < kP; ++j, to += plan.vectors ? g.channels : channels) {
        if (!active || unit * kP + j >= at.columns) continue;
        Vector<T, kR> out;
#pragma unroll
        for (int k = 0; k < kR; ++k) out[k] = narrow<T>(activate(acc[j][k] + bias[k], activation));
        if (plan.vectors) {
          store_vector(to + lane * kR, out);
          continue;
        }
#pragma unroll
        for (int k = 0; k < kR; ++k) to[k * plan.lanes + lane] = out[k];
      }
      if (!plan.vectors) store_depthwise_pixels(y, staged, plan, at, image, p0, steps);
    }
  }
}

}  // namespace fastconv
