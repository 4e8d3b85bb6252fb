// depthwise_planes.cuh -- depthwise convolution, channels first: planes in shared memory.
//
//   y[n,c,p] = activation(b[c] + sum over m, r of source[n,s,i] * w[f,r])     see DepthwiseGather for s, i
//   and f
//
// A block owns a tile of a plane, or several small planes whole. Along the first axis it keeps a ring of
// slices of the source, widened, with zeros around. A thread sums kRows x run neighbouring outputs: each quad
// that it loads serves all the taps and rows that meet it. Zeros around are multiplied by the taps, which is
// right for finite ones; where a plane has a tap that is not, its block takes the path that asks for every
// meeting. Source: Dumoulin & Visin, arXiv:1603.07285.
#pragma once
#include "activation.h"
#include "conv/depthwise_slices.cuh"
#include "device/warp.h"

namespace fastconv {

/// What a thread computes: kRows rows of run columns.
struct DepthwisePlanesThread {
  int plane, row, unit;  // of the block's planes, of the tile's rows, and the run in it
  bool computes;

  __device__ __forceinline__ DepthwisePlanesThread(const DepthwisePlanes& plan,
                                                   const DepthwisePlanesPlace& at, int run) {
    const int thread = threadIdx.x;
    unit = thread % plan.lanes;
    // Neighbours share an access of shared memory. At an even stride groups of rows begin in the same bank,
    // planes do not.
    const int rest = thread / plan.lanes;
    const bool by_planes = plan.gather.stride[1] % 2 == 0;
    plane = by_planes ? rest % plan.planes : rest / plan.groups;
    row = (by_planes ? rest / plan.planes : rest % plan.groups) * DepthwisePlanesTile::kRows;
    computes = unit < plan.units && plane < at.planes && unit * run < at.columns && row < at.rows;
  }
};

/// Spread the taps of every plane over the places where they meet; whether all that this thread saw are
/// finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_taps(const T* __restrict__ w, Quad<accumulator_t<T>>* taps,
                                                    const DepthwisePlanes& plan,
                                                    const DepthwisePlanesPlace& at, int m) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>;
  const DepthwiseGather& g = plan.gather;
  const int count = static_cast<int>(g.kernel.product());
  const SmallDivisor by_count(count), by_columns(g.kernel[2]), by_stride(g.stride[2]);
  bool finite = true;
  for (int i = threadIdx.x; i < at.planes * count; i += plan.threads) {
    uint32_t tap = i;
    const int plane = by_count.divide(tap);
    const int64_t result = at.first_plane + plane;
    const int64_t filter =
        (g.sources > g.channels ? depthwise_source(g, result, m) % g.sources : result % g.channels);
    const A value = widen(w[filter * count + (g.flipped ? count - 1 - tap : tap)]);
    finite = finite && is_finite(value);
    uint32_t s = tap;
    const uint32_t row = by_columns.divide(s);
    uint32_t phase = s * g.dilation[2] + plan.shift;
    const uint32_t place = by_stride.divide(phase);
    const int quad = (row * plan.phases + phase) * plan.windows + place / kR;
    taps[plane * plan.weight_quads + quad][place % kR] = value;
  }
  return finite;
}

/// Add to acc the taps of one slice. kAsking leaves out meetings outside the plane one by one.
///
/// tile: the thread's first quad in the slice's rows. h, column: its input position.
template <bool kAsking, class A>
__device__ __forceinline__ void add_depthwise_slice(A (&acc)[DepthwisePlanesTile::kRows][kRun<A>],
                                                    const Quad<A>* tile, const Quad<A>* taps,
                                                    const DepthwisePlanes& plan, int h, int column) {
  constexpr int kR = kRun<A>, kRows = DepthwisePlanesTile::kRows;
  const DepthwiseGather& g = plan.gather;
  const int tap_row = plan.phases * plan.windows;
  int due[kRows], next[kRows];  // the row that the next tap of each output row meets, and which tap that is
#pragma unroll
  for (int o = 0; o < kRows; ++o) {
    due[o] = o * g.stride[1];
    next[o] = 0;
  }
  const int last = (kRows - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1];
  for (int i = 0; i <= last; ++i, tile += plan.row_quads) {
    bool met = false;
#pragma unroll
    for (int o = 0; o < kRows; ++o) met = met || (due[o] == i && next[o] < g.kernel[1]);
    if (!met) continue;
    uint64_t masks = plan.taps;
    for (int f = 0; f < plan.phases; ++f) {
      const Quad<A>* row = tile + f * plan.phase_quads;
      Quad<A> low = load_vector<kR>(&row[0][0]);
      for (int v = 0; v < plan.windows; ++v, masks >>= kR) {
        const Quad<A> high = load_vector<kR>(&row[v + 1][0]);
        const unsigned mask = static_cast<unsigned>(masks) & ((1u << kR) - 1);
#pragma unroll
        for (int o = 0; o < kRows; ++o) {
          if (mask == 0 || due[o] != i || next[o] >= g.kernel[1]) continue;
          const Quad<A> tap = load_vector<kR>(&taps[next[o] * tap_row + f * plan.windows + v][0]);
#pragma unroll
          for (int u = 0; u < kR; ++u) {
            if (!(mask >> u & 1)) continue;
#pragma unroll
            for (int j = 0; j < kR; ++j) {
              const A value = u + j < kR ? low[(u + j) % kR] : high[(u + j) % kR];
              if constexpr (kAsking) {
                const int c = column + (v * kR + u + j) * g.stride[2] + f;
                const bool inside = h + i >= 0 && h + i < g.size[1] && c >= 0 && c < g.size[2];
                if (!inside) continue;
              }
              acc[o][j] = multiply_add(tap[u], value, acc[o][j]);
            }
          }
        }
        low = high;
      }
    }
#pragma unroll
    for (int o = 0; o < kRows; ++o) {
      if (due[o] == i) {
        due[o] += g.dilation[1];
        ++next[o];
      }
    }
  }
}

/// Write the outputs of a tile at position p of the first axis. All threads call.
template <class T>
__device__ __forceinline__ void store_depthwise_rows(
    const accumulator_t<T> (&acc)[DepthwisePlanesTile::kRows][kRun<accumulator_t<T>>], accumulator_t<T> bias,
    Activation activation, T* __restrict__ y, T* staged, const DepthwisePlanes& plan,
    const DepthwisePlanesPlace& at, const DepthwisePlanesThread& thread, int p) {
  constexpr int kR = kRun<accumulator_t<T>>;
  const DepthwiseGather& g = plan.gather;
  if (thread.computes) {
#pragma unroll
    for (int o = 0; o < DepthwisePlanesTile::kRows; ++o) {
      const int row = thread.row + o;
      if (row >= at.rows) continue;
      Vector<T, kR> out;
#pragma unroll
      for (int j = 0; j < kR; ++j) out[j] = narrow<T>(activate(acc[o][j] + bias, activation));
      if (plan.vector_stores) {
        const int64_t plane = (at.first_plane + thread.plane) * g.output[0] + p;
        store_vector(y + (plane * g.output[1] + at.row + row) * g.output[2] + at.column + thread.unit * kR,
                     out);
        continue;
      }
      T* to = staged + (thread.plane * at.rows + row) * at.columns + thread.unit * kR;
#pragma unroll
      for (int j = 0; j < kR; ++j) {
        if (thread.unit * kR + j < at.columns) to[j] = out[j];
      }
    }
  }
  if (plan.vector_stores) return;
  // Rows that are short or not aligned are written through shared memory, along the memory of y.
  __syncthreads();
  const SmallDivisor by_columns(at.columns), by_rows(at.rows);
  for (int i = threadIdx.x; i < at.planes * at.rows * at.columns; i += plan.threads) {
    uint32_t q = i;
    uint32_t row = by_columns.divide(q);
    const int64_t plane = (at.first_plane + by_rows.divide(row)) * g.output[0] + p;
    y[(plane * g.output[1] + at.row + row) * g.output[2] + at.column + q] = staged[i];
  }
}

template <class T>
__global__ void __launch_bounds__(DepthwisePlanesTile::kMaxThreads)
    depthwise_gather_planes_kernel(const T* __restrict__ x,  // [N, sources, *size]
                                   const T* __restrict__ w,  // [max(sources, channels), *kernel]
                                   const T* __restrict__ b,  // [channels], or nullptr
                                   T* __restrict__ y,        // [N, channels, *output], all written
                                   const DepthwisePlanes plan, const Activation activation) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>;
  FASTCONV_DYNAMIC_SHARED(Quad<A>, tile);
  FASTCONV_SHARED(int, wild, [kDepthwiseFlags]);
  Quad<A>* taps = tile + plan.planes * plan.plane_quads;
  T* staged = reinterpret_cast<T*>(taps + plan.planes * plan.weight_quads);
  const DepthwiseGather& g = plan.gather;
  DepthwisePlanesPlace at = DepthwisePlanesPlace::of_block(plan, blockIdx.x);

  for (int i = threadIdx.x; i < plan.planes * (plan.plane_quads + plan.weight_quads); i += plan.threads) {
    store_vector(&tile[i][0], Quad<A>{});
  }

  if (threadIdx.x < kDepthwiseFlags) wild[threadIdx.x] = 0;
  const DepthwisePlanesThread thread(plan, at, kR);
  const Quad<A>* mine =
      tile + thread.plane * plan.plane_quads + thread.row * g.stride[1] * plan.row_quads + thread.unit;
  const int h = at.top + thread.row * g.stride[1], column = at.left + thread.unit * kR * g.stride[2];
  const A bias = b && thread.computes ? widen(b[(at.first_plane + thread.plane) % g.channels]) : A(0);
  bool finite = true;
  for (int image = 0; image < at.images; ++image, at.first_plane += g.channels) {
    int loaded = -1;  // slices up to this one have been in the ring
    for (int p = 0; p < g.output[0]; ++p) {
      A acc[DepthwisePlanesTile::kRows][kR] = {};
      const int first = p * g.stride[0] - g.padding[0];
      const int end = min(first + plan.slots, g.size[0]);
      for (int m = 0; m < g.pairs; ++m) {
        const bool new_taps = (image == 0 && p == 0) || g.pairs > 1;
        __syncthreads();  // the ring is zeroed, or read to the end
        if (new_taps) {
          flag_if_wild(wild, load_depthwise_taps(w, taps, plan, at, m), false);
        }
        load_depthwise_slices(x, tile, plan, at, m, max(first, g.pairs > 1 ? 0 : loaded + 1), end);
        __syncthreads();
        if (new_taps) finite = all_finite(wild);
        if (!thread.computes) continue;
        for (int t = 0; t < g.kernel[0]; ++t) {
          const int d = first + t * g.dilation[0];
          if (d < 0 || d >= g.size[0]) continue;
          const Quad<A>* slice = mine + d % plan.slots * plan.slot_quads;
          const Quad<A>* rows =
              taps + thread.plane * plan.weight_quads + t * g.kernel[1] * plan.phases * plan.windows;
          if (finite) {
            add_depthwise_slice<false>(acc, slice, rows, plan, h, column);
          } else {
            add_depthwise_slice<true>(acc, slice, rows, plan, h, column);
          }
        }
      }
      loaded = max(loaded, end - 1);
      store_depthwise_rows(acc, bias, activation, y, staged, plan, at, thread, p);
    }
  }
}

}  // namespace fastconv
