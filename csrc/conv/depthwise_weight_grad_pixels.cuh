// depthwise_weight_grad_pixels.cuh -- weight gradient of depthwise convolution, channels last.
//
//   dw[k,r] = sum over n, p of dy[n,p,k] * x[n,i,k]      i = p * stride - padding + r * dilation
//
// A block sums some filters over a split of their tiles and images. A ring of slices of x lies in shared
// memory as for forward, the tile of dy beside it. A thread sums kTaps neighbouring taps of one quad of
// filters over every shares-th run of outputs, and at stride and dilation 1 moves x through registers. The
// shares, then the splits, are added in their order. Zeros around add nothing as long as everything that they
// meet is finite; steps that hold anything else ask for every meeting. Source: Dumoulin & Visin,
// arXiv:1603.07285.
#pragma once
#include "conv/depthwise_patches.cuh"
#include "conv/depthwise_weight_grad_plan.h"
#include "device/warp.h"

namespace fastconv {

/// What a thread sums: kTaps taps of a row from `s` on.
struct DepthwiseTapChunk {
  int t, r, s;

  __device__ __forceinline__ DepthwiseTapChunk(const DepthwiseGather& g, int sum) {
    const int rows = g.kernel[0] * g.kernel[1];
    // Rows before chunks: those of four lanes fill different banks.
    s = sum / rows * DepthwisePixelsTile::kTaps;
    t = sum % rows / g.kernel[1];
    r = sum % rows % g.kernel[1];
  }
};

/// Add a run of kPixels outputs. kAsking leaves out meetings outside the image one by one.
///
/// source: where the first of them meets the first tap. errors: the first. column: input position of source;
/// count: outputs of the run.
template <bool kAsking, class A>
__device__ __forceinline__ void add_depthwise_run(Quad<A> (&acc)[DepthwisePixelsTile::kTaps],
                                                  const Quad<A>* source, const Quad<A>* errors,
                                                  const DepthwisePixels& tile, int column, int count) {
  constexpr int kR = kRun<A>, kT = DepthwisePixelsTile::kTaps;
  const DepthwiseGather& g = tile.gather;
  const auto add = [&](const Quad<A>& error, const Quad<A>& value, int j, int u) {
    if constexpr (kAsking) {
      const int c = column + j * g.stride[2] + u * g.dilation[2];
      if (j >= count || c < 0 || c >= g.size[2]) return;
    }
#pragma unroll
    for (int k = 0; k < kR; ++k) acc[u][k] = multiply_add(error[k], value[k], acc[u][k]);
  };
  if (kAsking || g.stride[2] != 1 || g.dilation[2] != 1) {
    for (int j = 0; j < DepthwisePixelsTile::kPixels; ++j) {
      const Quad<A> error = load_vector<kR>(&errors[j * tile.lanes][0]);
#pragma unroll
      for (int u = 0; u < kT; ++u) {
        const int c = j * g.stride[2] + u * g.dilation[2];
        add(error, load_vector<kR>(&source[c * tile.lanes][0]), j, u);
      }
    }
    return;
  }
  // Pointers advance: products with the run-time distances would occupy registers.
  Quad<A> values[DepthwisePixelsTile::kPixels + kT - 1];
#pragma unroll
  for (int u = 0; u < kT - 1; ++u, source += tile.lanes) values[u] = load_vector<kR>(&source[0][0]);
#pragma unroll
  for (int j = 0; j < DepthwisePixelsTile::kPixels; ++j) {
    const Quad<A> error = load_vector<kR>(&errors[0][0]);
    values[j + kT - 1] = load_vector<kR>(&source[0][0]);
    errors += tile.lanes;
    source += tile.lanes;
#pragma unroll
    for (int u = 0; u < kT; ++u) add(error, values[j + u], j, u);
  }
}

template <class T>
__global__ void __launch_bounds__(DepthwiseWeightGradTile::kPixelsThreads,
                                  DepthwiseWeightGradTile::kPixelsBlocksPerSm)
    depthwise_weight_grad_pixels_kernel(
        const T* __restrict__ x,   // [N, *size, C]
        const T* __restrict__ dy,  // [N, *output, C]
        T* __restrict__ dw,        // [C, *kernel], all written; unused if there are partial sums
        accumulator_t<T>* __restrict__ partial,  // [splits, C, *kernel], all written, or nullptr for one
                                                 // split
        const DepthwiseWeightGradPixels plan, const int splits) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kT = DepthwisePixelsTile::kTaps;
  FASTCONV_DYNAMIC_SHARED(Quad<A>, shared);
  FASTCONV_SHARED(int, wild, [kDepthwiseFlags]);
  const DepthwisePixels& tile = plan.tile;
  const DepthwiseGather& g = tile.gather;
  const int row_pixels = tile.units * DepthwisePixelsTile::kPixels;
  const int source_quads = tile.tile_quads();
  const int error_quads = tile.steps * tile.tile_rows * row_pixels * tile.lanes;
  Quad<A>* errors = shared + source_quads;
  const int64_t chunk = blockIdx.x % tile.chunks;
  const int part = blockIdx.x / tile.chunks % plan.share.parts;
  const int64_t split = blockIdx.x / tile.chunks / plan.share.parts;
  const int64_t share = (plan.items + splits - 1) / splits;
  const int64_t last_item = min((split + 1) * share, plan.items);

  const int thread = threadIdx.x;
  if (thread < kDepthwiseFlags) wild[thread] = 0;
  const int lane = thread % tile.lanes, of_part = thread / tile.lanes % plan.share.sums;
  const int mine = thread / tile.lanes / plan.share.sums;
  const int sum = part * plan.share.sums + of_part;
  const DepthwiseTapChunk taps(g, sum);

  Quad<A> acc[kT] = {};
  int64_t zeroed = -1;  // the tile whose surroundings are zero
  for (int64_t item = split * share; item < last_item; ++item) {
    const int64_t here = item / g.batch, image = item % g.batch;
    const DepthwisePixelsPlace at(tile, kR, here * tile.chunks + chunk);
    if (here != zeroed) {
      __syncthreads();  // the tile before is read to the end
      for (int i = thread; i < source_quads + error_quads; i += tile.threads)
        store_vector(&shared[i][0], Quad<A>{});
      zeroed = here;
    }
    const int units = (at.columns + DepthwisePixelsTile::kPixels - 1) / DepthwisePixelsTile::kPixels;
    const SmallDivisor by_units(units), by_rows(at.rows);
    int loaded = -1;  // slices up to this one have been in the ring
    for (int p0 = 0; p0 < g.output[0]; p0 += tile.steps) {
      const int begin = p0 * g.stride[0] - g.padding[0];
      const int steps = min(tile.steps, g.output[0] - p0);
      const int end =
          min(begin + (steps - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1, g.size[0]);
      __syncthreads();  // the ring is zeroed, or read to the end
      bool calm = true;
      for (int d = max(begin, loaded + 1); d < end; ++d) {
        calm = load_depthwise_pixels(x, shared, tile, at, image, d) && calm;
      }
      loaded = max(loaded, end - 1);
      for (int step = 0; step < steps; ++step) {
        const int64_t pixel =
            ((image * g.output[0] + p0 + step) * g.output[1] + at.row) * g.output[2] + at.column;
        calm = load_depthwise_patch(dy + pixel * g.channels + at.channel, int64_t{g.output[2]} * g.channels,
                                    at.rows, at.columns,
                                    errors + step * tile.tile_rows * row_pixels * tile.lanes, row_pixels,
                                    tile, at) &&
               calm;
      }
      flag_if_wild(wild, calm, p0 > 0);  // slices that stay in the ring stay as they are
      __syncthreads();
      if (mine >= plan.share.shares || sum >= plan.share.all) continue;
      const bool finite = all_finite(wild);
      for (int i = mine; i < steps * at.rows * units; i += plan.share.shares) {
        uint32_t unit = i;
        uint32_t row = by_units.divide(unit);
        const int step = by_rows.divide(row);
        const int d = begin + step * g.stride[0] + taps.t * g.dilation[0];
        const int h = static_cast<int>(row) * g.stride[1] + taps.r * g.dilation[1];
        if (d < 0 || d >= g.size[0] || at.top + h < 0 || at.top + h >= g.size[1]) continue;
        const int first = static_cast<int>(unit) * DepthwisePixelsTile::kPixels;
        const int column = first * g.stride[2] + taps.s * g.dilation[2];
        const Quad<A>* source =
            shared + ((d % tile.slots * tile.rows + h) * tile.columns + column) * tile.lanes + lane;
        const Quad<A>* run =
            errors + ((step * tile.tile_rows + static_cast<int>(row)) * row_pixels + first) * tile.lanes +
            lane;
        if (finite) {
          add_depthwise_run<false>(acc, source, run, tile, at.left + column, at.columns - first);
        } else {
          add_depthwise_run<true>(acc, source, run, tile, at.left + column, at.columns - first);
        }
      }
    }
  }

  __syncthreads();
  const int place_quads = tile.threads + 1;  // neighbouring taps in neighbouring banks
#pragma unroll
  for (int u = 0; u < kT; ++u) store_vector(&shared[u * place_quads + thread][0], acc[u]);
  __syncthreads();
  const int count = static_cast<int>(g.kernel.product());
  const int first_channel = static_cast<int>(chunk) * tile.lanes * kR;
  const SmallDivisor by_count(count), by_columns(g.kernel[2]);
  for (int i = thread; i < min(tile.lanes * kR, g.channels - first_channel) * count; i += tile.threads) {
    uint32_t tap = i;
    const int channel = by_count.divide(tap);
    uint32_t s = tap;
    const int row = by_columns.divide(s);
    const int of_sum = static_cast<int>(s) / kT * g.kernel[0] * g.kernel[1] + row - part * plan.share.sums;
    if (of_sum < 0 || of_sum >= plan.share.sums) continue;
    const int of_lane = tile.vectors ? channel / kR : channel % tile.lanes;
    const int k = tile.vectors ? channel % kR : channel / tile.lanes;
    const Quad<A>* from = shared + s % kT * place_quads + of_sum * tile.lanes + of_lane;
    A total = 0;
    for (int j = 0; j < plan.share.shares; ++j) total += from[j * plan.share.sums * tile.lanes][k];
    const int64_t to = (int64_t{first_channel} + channel) * count + tap;
    if (partial) {
      partial[split * g.channels * count + to] = total;
    } else {
      dw[to] = narrow<T>(total);
    }
  }
}

}  // namespace fastconv
