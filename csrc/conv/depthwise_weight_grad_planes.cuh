// depthwise_weight_grad_planes.cuh -- weight gradient of depthwise convolution, channels first.
//
//   dw[k,r] = sum over n, p of dy[n,k,p] * x[n,c,i]      i = p * stride - padding + r * dilation
//
// A block sums one filter over a split of its tiles and images. The tile of x lies in shared memory as for
// forward, that of dy beside it. A thread sums kWindows windows of neighbouring taps over every shares-th run
// of outputs; the shares, then the splits, are added in their order. Zeros around the tiles add nothing as
// long as everything that they meet is finite; a step that holds anything else asks for every meeting.
// Source: Dumoulin & Visin, arXiv:1603.07285.
#pragma once
#include "conv/depthwise_slices.cuh"
#include "conv/depthwise_weight_grad_plan.h"
#include "device/warp.h"

namespace fastconv {

/// Copy the tile of dy at position p of the first axis, zeros beyond its columns; whether what was seen is
/// finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_errors(const T* __restrict__ dy,
                                                      Quad<accumulator_t<T>>* errors,
                                                      const DepthwiseWeightGradPlanes& plan,
                                                      const DepthwisePlanesPlace& at, int p) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kV = kVector<T>;
  const DepthwisePlanes& tile = plan.tile;
  const DepthwiseGather& g = tile.gather;
  const int units = (at.columns + kR - 1) / kR;
  const int count = plan.vector_errors ? (at.columns + kV - 1) / kV : units * kR;
  const SmallDivisor by_count(count), by_rows(at.rows);
  bool finite = true;
  for (int i = threadIdx.x; i < at.planes * at.rows * count; i += tile.threads) {
    uint32_t c = i;
    const uint32_t line = by_count.divide(c);  // a row of one of the planes
    uint32_t r = line;
    const int64_t plane = at.first_plane + by_rows.divide(r) * at.plane_step;
    const int64_t from = ((plane * g.output[0] + p) * g.output[1] + at.row + r) * g.output[2] + at.column;
    if (plan.vector_errors) {
      const Vector<T, kV> part = load_vector<kV>(dy + from + c * kV);
#pragma unroll
      for (int j = 0; j < kV; ++j) finite = finite && is_finite(widen(part[j]));
      store_quads(errors + line * units, static_cast<int>(c) * (kV / kR), 0, units, part);
    } else {
      const A value = static_cast<int>(c) < at.columns ? widen(dy[from + c]) : A(0);
      finite = finite && is_finite(value);
      errors[line * units + c / kR][c % kR] = value;
    }
  }
  return finite;
}

/// What a thread sums: the taps of a row in kWindows windows of a phase.
struct DepthwiseTapGroup {
  int pair, phase, t, r;

  __device__ __forceinline__ DepthwiseTapGroup(const DepthwisePlanes& tile, int sum) {
    const int pairs =
        (tile.windows + DepthwiseWeightGradTile::kWindows - 1) / DepthwiseWeightGradTile::kWindows;
    pair = sum % pairs;
    phase = sum / pairs % tile.phases;
    const int row = sum / pairs / tile.phases;
    t = row / tile.gather.kernel[1];
    r = row % tile.gather.kernel[1];
  }
};

/// Add a thread's share of the outputs in shared memory. kAsking leaves out meetings outside the plane one by
/// one.
///
/// slice: x at the depth that the taps meet.
template <bool kAsking, class A>
__device__ __forceinline__ void add_depthwise_weight_grad(
    A (&acc)[DepthwiseWeightGradTile::kWindows][kRun<A>], const Quad<A>* slice, const Quad<A>* errors,
    const DepthwiseWeightGradPlanes& plan, const DepthwisePlanesPlace& at, const DepthwiseTapGroup& taps) {
  constexpr int kR = kRun<A>, kW = DepthwiseWeightGradTile::kWindows;
  const DepthwisePlanes& tile = plan.tile;
  const DepthwiseGather& g = tile.gather;
  slice += taps.r * g.dilation[1] * tile.row_quads + taps.phase * tile.phase_quads + taps.pair * kW;
  const int units = (at.columns + kR - 1) / kR;
  const SmallDivisor by_units(units), by_rows(at.rows);
  const int first = static_cast<int>(threadIdx.x) % plan.share.shares;
  for (int i = first; i < at.planes * at.rows * units; i += plan.share.shares) {
    uint32_t unit = i;
    uint32_t row = by_units.divide(unit);
    const uint32_t plane = by_rows.divide(row);
    const int h = at.top + static_cast<int>(row) * g.stride[1] + taps.r * g.dilation[1];
    if (kAsking && (h < 0 || h >= g.size[1])) continue;
    const Quad<A> error = load_vector<kR>(&errors[i][0]);
    const Quad<A>* from = slice + plane * tile.plane_quads + row * g.stride[1] * tile.row_quads + unit;
    Quad<A> values[kW + 1];
#pragma unroll
    for (int v = 0; v <= kW; ++v) values[v] = load_vector<kR>(&from[v][0]);
#pragma unroll
    for (int v = 0; v < kW; ++v) {
#pragma unroll
      for (int u = 0; u < kR; ++u) {
#pragma unroll
        for (int j = 0; j < kR; ++j) {
          if constexpr (kAsking) {
            const int q = static_cast<int>(unit) * kR + j;
            const int c = at.left + (q + (taps.pair * kW + v) * kR + u) * g.stride[2] + taps.phase;
            if (q >= at.columns || c < 0 || c >= g.size[2]) continue;
          }
          acc[v][u] = multiply_add(error[j], values[v + (u + j) / kR][(u + j) % kR], acc[v][u]);
        }
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(DepthwiseWeightGradTile::kPlanesThreads,
                                  DepthwiseWeightGradTile::kPlanesBlocksPerSm)
    depthwise_weight_grad_planes_kernel(
        const T* __restrict__ x,   // [N, C, *size]
        const T* __restrict__ dy,  // [N, K, *output]
        T* __restrict__ dw,        // [K, *kernel], all written; unused if there are partial sums
        accumulator_t<T>* __restrict__ partial,  // [splits, K, *kernel], all written, or nullptr for one
                                                 // split
        const DepthwiseWeightGradPlanes plan, const int splits) {
  using A = accumulator_t<T>;
  using Tile = DepthwiseWeightGradTile;
  constexpr int kR = kRun<A>, kW = Tile::kWindows;
  FASTCONV_DYNAMIC_SHARED(Quad<A>, shared);
  FASTCONV_SHARED(int, wild, [kDepthwiseFlags]);
  const DepthwisePlanes& tile = plan.tile;
  const DepthwiseGather& g = tile.gather;
  Quad<A>* errors = shared + tile.planes * tile.plane_quads;
  const int part = blockIdx.x % plan.share.parts;
  const int64_t split = blockIdx.x / plan.share.parts % splits;
  const int64_t k = blockIdx.x / plan.share.parts / splits;
  const int64_t share = (plan.items + splits - 1) / splits;
  const int64_t last_item = min((split + 1) * share, plan.items);

  const int thread = threadIdx.x;
  if (thread < kDepthwiseFlags) wild[thread] = 0;
  const int of_part = thread / plan.share.shares, sum = part * plan.share.sums + of_part;
  const bool sums = of_part < plan.share.sums && sum < plan.share.all;
  const DepthwiseTapGroup taps(tile, sum);
  A acc[kW][kR] = {};
  int64_t zeroed = -1;  // the tile whose surroundings are zero
  for (int64_t item = split * share; item < last_item; ++item) {
    const int64_t here = item / tile.image_groups;
    const int64_t image = item % tile.image_groups * tile.planes;
    DepthwisePlanesPlace at(tile, static_cast<int>(here));
    at.first_plane = image * g.channels + k;
    at.plane_step = g.channels;
    at.planes = static_cast<int>(min(int64_t{tile.planes}, g.batch - image));
    if (here != zeroed) {
      __syncthreads();  // the tile before is read to the end
      for (int i = thread; i < tile.planes * tile.plane_quads; i += tile.threads) {
        store_vector(&shared[i][0], Quad<A>{});
      }
      zeroed = here;
    }
    int loaded = -1;  // slices up to this one have been in the ring
    for (int p = 0; p < g.output[0]; ++p) {
      const int first = p * g.stride[0] - g.padding[0];
      const int end = min(first + tile.slots, g.size[0]);
      __syncthreads();  // the ring is zeroed, or read to the end
      bool calm = load_depthwise_slices(x, shared, tile, at, 0, max(first, loaded + 1), end);
      calm = load_depthwise_errors(dy, errors, plan, at, p) && calm;
      loaded = max(loaded, end - 1);
      flag_if_wild(wild, calm, p > 0);  // slices that stay in the ring stay as they are
      __syncthreads();
      const int d = first + taps.t * g.dilation[0];
      if (!sums || d < 0 || d >= g.size[0]) continue;
      const bool finite = all_finite(wild);
      const Quad<A>* slice = shared + d % tile.slots * tile.slot_quads;
      if (finite) {
        add_depthwise_weight_grad<false>(acc, slice, errors, plan, at, taps);
      } else {
        add_depthwise_weight_grad<true>(acc, slice, errors, plan, at, taps);
      }
    }
  }

  // The shares of a sum are neighbouring lanes: all of them receive its total, and write a part of it.
  const int mine = thread % plan.share.shares;
#pragma unroll
  for (int place = 0; place < kW * kR; ++place) {
    A total = acc[place / kR][place % kR];
    for (int distance = plan.share.shares / 2; distance > 0; distance /= 2) {
      total += __shfl_xor_sync(kFullMask, total, distance);
    }
    // The tap, if any, at this place of its phase.
    const int offset = taps.pair * kW * kR + place;
    const int s = (offset * g.stride[2] + taps.phase - tile.shift) / g.dilation[2];
    const bool exists =
        sums && offset < tile.windows * kR && (tile.taps >> (taps.phase * tile.windows * kR + offset) & 1);
    if (!exists || place % plan.share.shares != mine) continue;
    const int64_t tap = (int64_t{taps.t} * g.kernel[1] + taps.r) * g.kernel[2] + s;
    if (partial) {
      partial[(split * g.channels + k) * g.kernel.product() + tap] = total;
    } else {
      dw[k * g.kernel.product() + tap] = narrow<T>(total);
    }
  }
}

}  // namespace fastconv
