// depthwise_planes.cuh -- depthwise convolution, channels first: planes in shared memory.
//
//   y[n,c,p] = activation(b[c] + sum over m, r of source[n,s,i] * w[f,r])     see DepthwiseGather for s, i
//   and f
//
// A block owns a tile of a plane, or several small planes whole. Along the first axis it keeps a ring of
// slices of the source, widened, with zeros around. A thread sums kRows x run neighbouring outputs: each quad
// that it loads serves all the taps and rows that meet it. Zeros around are multiplied by the taps, which is
// right for finite ones; where a plane has a tap that is not, its block takes the path that asks for every
// meeting. Source: arXiv:2106.00992 for tiling by planes; the rest is ours.
#pragma once
#include "activation.h"
#include "conv/depthwise_plan.h"
#include "conv/depthwise_quad.cuh"
#include "conv/small_divisor.cuh"
#include "device/warp.h"

namespace fastconv {

/// Where a block and its tile lie.
struct DepthwiseTilePlace {
  int64_t first_plane;
  int planes;         // of the result, from first_plane on
  int row, column;    // first output of the tile
  int rows, columns;  // outputs of it
  int top, left;      // input position of row 0 and of column 0 in shared memory

  __device__ __forceinline__ explicit DepthwiseTilePlace(const DepthwisePlanes& plan, int64_t block) {
    const DepthwiseGather& g = plan.gather;
    column = static_cast<int>(block % plan.column_tiles) * plan.tile_columns;
    block /= plan.column_tiles;
    row = static_cast<int>(block % plan.row_tiles) * plan.tile_rows;
    first_plane = block / plan.row_tiles * plan.planes;
    planes = static_cast<int>(min(int64_t{plan.planes}, g.planes() - first_plane));
    rows = min(plan.tile_rows, g.output[1] - row);
    columns = min(plan.tile_columns, g.output[2] - column);
    top = row * g.stride[1] - g.padding[1];
    left = column * g.stride[2] - plan.lead;
  }
};

/// Plane of the source that is the m-th of a plane of the result.
__device__ __forceinline__ int64_t depthwise_source(const DepthwiseGather& g, int64_t plane, int m) {
  if (g.channels == g.sources) return plane;
  const int64_t n = plane / g.channels;
  return n * g.sources + (plane - n * g.channels) / g.divisor * g.pairs + m;
}

/// Copy what the tile meets of slice `depth` to its slot of every plane; the zeros around stay.
template <class T>
__device__ __forceinline__ void load_depthwise_slice(const T* __restrict__ x, Quad<accumulator_t<T>>* tile,
                                                     const DepthwisePlanes& plan,
                                                     const DepthwiseTilePlace& at, int m, int depth) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kV = kVector<T>;
  const DepthwiseGather& g = plan.gather;
  const int top = max(at.top, 0), left = max(at.left, 0);
  const int rows =
      min(at.top + (at.rows - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1, g.size[1]) - top;
  const int right =
      min(at.left + plan.shift + (at.columns - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1,
          g.size[2]);
  if (rows <= 0 || right <= left) return;
  const int64_t slice = int64_t{g.size[1]} * g.size[2];
  const T* from = x + depth * slice;
  Quad<A>* to = tile + depth % plan.slots * plan.slot_quads + (top - at.top) * plan.row_quads;
  const SmallDivisor by_rows(rows);
  if (plan.vector_loads) {
    const int first = left / kV, count = (right - 1) / kV + 1 - first;
    const SmallDivisor by_count(count);
    for (int i = threadIdx.x; i < at.planes * rows * count; i += plan.threads) {
      uint32_t v = i;
      uint32_t r = by_count.divide(v);
      const int plane = by_rows.divide(r);
      const int column = (first + v) * kV;
      const int64_t source = depthwise_source(g, at.first_plane + plane, m) * g.size[0];
      const Vector<T, kV> part =
          load_vector<kV>(from + source * slice + int64_t{top + static_cast<int>(r)} * g.size[2] + column);
      Quad<A>* row = to + plane * plan.plane_quads + r * plan.row_quads;
      store_quads(row, (column - at.left) / kR, 0, plan.phase_quads, part);
    }
    return;
  }
  const int count = right - left;
  const SmallDivisor by_count(count), by_stride(g.stride[2]);
  for (int i = threadIdx.x; i < at.planes * rows * count; i += plan.threads) {
    uint32_t c = i;
    uint32_t r = by_count.divide(c);
    const int plane = by_rows.divide(r);
    const int64_t source = depthwise_source(g, at.first_plane + plane, m) * g.size[0];
    const A value = widen(from[source * slice + int64_t{top + static_cast<int>(r)} * g.size[2] + left + c]);
    uint32_t phase = left - at.left + c;
    const uint32_t place = by_stride.divide(phase);
    Quad<A>* row = to + plane * plan.plane_quads + r * plan.row_quads + phase * plan.phase_quads;
    if (static_cast<int>(phase) < plan.phases && static_cast<int>(place) < plan.phase_quads * kR) {
      row[place / kR][place % kR] = value;
    }
  }
}

/// Spread the taps of every plane over the places where they meet; whether all that this thread saw are
/// finite.
template <class T>
__device__ __forceinline__ bool load_depthwise_taps(const T* __restrict__ w, Quad<accumulator_t<T>>* taps,
                                                    const DepthwisePlanes& plan, const DepthwiseTilePlace& at,
                                                    int m) {
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

template <class T>
__global__ void __launch_bounds__(DepthwisePlanesTile::kMaxThreads)
    depthwise_gather_planes_kernel(const T* __restrict__ x,  // [N, sources, *size]
                                   const T* __restrict__ w,  // [max(sources, channels), *kernel]
                                   const T* __restrict__ b,  // [channels], or nullptr
                                   T* __restrict__ y,        // [N, channels, *output], all written
                                   const DepthwisePlanes plan, const Activation activation) {
  using A = accumulator_t<T>;
  constexpr int kR = kRun<A>, kRows = DepthwisePlanesTile::kRows;
  FASTCONV_DYNAMIC_SHARED(Quad<A>, tile);
  FASTCONV_SHARED(int, wild, [DepthwisePlanesTile::kMaxThreads / kWarp]);
  Quad<A>* taps = tile + plan.planes * plan.plane_quads;
  T* staged = reinterpret_cast<T*>(taps + plan.planes * plan.weight_quads);
  const DepthwiseGather& g = plan.gather;
  const DepthwiseTilePlace at(plan, blockIdx.x);
  const int thread = threadIdx.x;

  for (int i = thread; i < plan.planes * (plan.plane_quads + plan.weight_quads); i += plan.threads) {
    store_vector(&tile[i][0], Quad<A>{});
  }

  const int unit = thread % plan.lanes, group = thread / plan.lanes % plan.groups;
  const int plane = thread / plan.lanes / plan.groups;
  const bool computes =
      unit < plan.units && plane < at.planes && unit * kR < at.columns && group * kRows < at.rows;
  const int first_row = group * kRows;
  const Quad<A>* mine = tile + plane * plan.plane_quads + first_row * g.stride[1] * plan.row_quads + unit;
  const int h = at.top + first_row * g.stride[1], column = at.left + unit * kR * g.stride[2];
  const int64_t result = at.first_plane + plane;
  const A bias = b && computes ? widen(b[result % g.channels]) : A(0);

  int loaded = -1;  // slices up to this one have been in the ring
  bool finite = true;
  for (int p = 0; p < g.output[0]; ++p) {
    A acc[kRows][kR] = {};
    const int first = p * g.stride[0] - g.padding[0];
    const int end = min(first + (g.kernel[0] - 1) * g.dilation[0] + 1, g.size[0]);
    for (int m = 0; m < g.pairs; ++m) {
      __syncthreads();  // the ring is zeroed, or read to the end
      if (p == 0 || g.pairs > 1) {
        const bool calm = load_depthwise_taps(w, taps, plan, at, m);
        const int any = __any_sync(kFullMask, !calm);
        if (thread % kWarp == 0) wild[thread / kWarp] = any;
      }
      for (int d = max(first, g.pairs > 1 ? 0 : loaded + 1); d < end; ++d) {
        load_depthwise_slice(x, tile, plan, at, m, d);
      }
      __syncthreads();
      if (p == 0 || g.pairs > 1) {
        finite = true;
        for (int warp = 0; warp < plan.threads / kWarp; ++warp) finite = finite && !wild[warp];
      }
      if (!computes) continue;
      for (int t = 0; t < g.kernel[0]; ++t) {
        const int d = first + t * g.dilation[0];
        if (d < 0 || d >= g.size[0]) continue;
        const Quad<A>* slice = mine + d % plan.slots * plan.slot_quads;
        const Quad<A>* rows = taps + plane * plan.weight_quads + t * g.kernel[1] * plan.phases * plan.windows;
        if (finite) {
          add_depthwise_slice<false>(acc, slice, rows, plan, h, column);
        } else {
          add_depthwise_slice<true>(acc, slice, rows, plan, h, column);
        }
      }
    }
    loaded = max(loaded, end - 1);

    const int64_t start = (result * g.output[0] + p) * g.output[1];
    if (computes) {
#pragma unroll
      for (int o = 0; o < kRows; ++o) {
        if (first_row + o >= at.rows) continue;
        Vector<T, kR> out;
#pragma unroll
        for (int j = 0; j < kR; ++j) out[j] = narrow<T>(activate(acc[o][j] + bias, activation));
        const int row = first_row + o;
        if (plan.vector_stores) {
          store_vector(y + (start + at.row + row) * g.output[2] + at.column + unit * kR, out);
          continue;
        }
        T* to = staged + (plane * at.rows + row) * at.columns + unit * kR;
#pragma unroll
        for (int j = 0; j < kR; ++j) {
          if (unit * kR + j < at.columns) to[j] = out[j];
        }
      }
    }
    if (plan.vector_stores) continue;
    // Rows that are short or not aligned are written through shared memory, along the memory of y.
    __syncthreads();
    const SmallDivisor by_columns(at.columns), by_rows(at.rows);
    for (int i = thread; i < at.planes * at.rows * at.columns; i += plan.threads) {
      uint32_t q = i;
      uint32_t row = by_columns.divide(q);
      const int64_t to = (at.first_plane + by_rows.divide(row)) * g.output[0] + p;
      y[(to * g.output[1] + at.row + row) * g.output[2] + at.column + q] = staged[i];
    }
  }
}

}  // namespace fastconv
