// indexed.cuh -- gather and scatter by the indices of maxima, any indices.
//
//   gather   y[plane, o, lane] = x[plane, indices[plane, o, lane], lane]
//   scatter  dx[plane, i, lane] = sum of dy[plane, o, lane] over the o whose index is i, in the order of o
//   place    the same with the last of them instead of their sum
//
// x, dx [planes, size, lanes]; y, dy, indices [planes, outputs, lanes]. An index outside [0, size) names a
// position that does not exist: it reads as 0, and what is sent there is lost. Telling the caller would take
// waiting for the GPU.
#pragma once
#include "device/numeric.h"
#include "pool/indexed.h"

namespace fastconv {

struct PoolGatherTile {
  static constexpr int kThreads = 256;  // one element of y each; neighbours write neighbours
};

template <class T>
__global__ void __launch_bounds__(PoolGatherTile::kThreads)
    pool_gather_kernel(const T* __restrict__ x,              // [planes, size, lanes]
                       const int64_t* __restrict__ indices,  // [planes, outputs, lanes]
                       T* __restrict__ y,                    // like indices, all written
                       const PoolIndexed shape) {
  const int64_t i = int64_t{blockIdx.x} * PoolGatherTile::kThreads + threadIdx.x;
  if (i >= shape.planes * shape.outputs * shape.lanes) return;
  const int64_t index = indices[i], plane = i / (shape.outputs * shape.lanes);
  const bool exists = index >= 0 && index < shape.size;
  y[i] = exists ? x[(plane * shape.size + index) * shape.lanes + i % shape.lanes] : narrow<T>(0);
}

struct PoolScatterTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBytes = 8192;  // sums of a warp; four blocks or more fit a multiprocessor
  static_assert(kWarps * (kBytes + kWarp * 12) <= kDefaultShared, "static shared memory");
};

/// A warp owns a slice of positions, its sums in shared memory, and walks all outputs of the plane: of 32
/// lanes if there are several, each on its own; of one lane 32 at a time, of which those with the same index
/// are added, or passed over for the last, by the first.
template <class T>
__global__ void __launch_bounds__(PoolScatterTile::kThreads)
    pool_scatter_kernel(const T* __restrict__ dy,             // [planes, outputs, lanes]
                        const int64_t* __restrict__ indices,  // like dy
                        T* __restrict__ dx,                   // [planes, size, lanes], all written
                        const PoolIndexed shape, const bool adds) {
  using A = accumulator_t<T>;
  constexpr int kSums = PoolScatterTile::kBytes / sizeof(A);
  FASTCONV_SHARED(A, memory, [PoolScatterTile::kWarps][kSums]);
  FASTCONV_SHARED(A, all_summands, [PoolScatterTile::kWarps][kWarp]);
  FASTCONV_SHARED(int, all_targets, [PoolScatterTile::kWarps][kWarp]);
  const int thread = threadIdx.x % kWarp;
  A* sums = memory[threadIdx.x / kWarp];
  int* targets = all_targets[threadIdx.x / kWarp];  // what 32 outputs add, and where
  A* summands = all_summands[threadIdx.x / kWarp];
  const int width = shape.lanes > 1 ? kWarp : 1;  // lanes of the tensor that the warp serves
  const int slice = kSums / width;                // positions that it owns
  const int64_t slices = (shape.size + slice - 1) / slice;
  const int64_t tiles = (shape.lanes + width - 1) / width;
  const int64_t task = int64_t{blockIdx.x} * PoolScatterTile::kWarps + threadIdx.x / kWarp;
  const int64_t plane = task / tiles / slices, begin = task / tiles % slices * slice;
  const int64_t lane = task % tiles * width + (width > 1 ? thread : 0);
  const bool exists = plane < shape.planes && lane < shape.lanes;
  const int64_t end = begin + slice < shape.size ? begin + slice : shape.size;

  for (int i = thread; i < kSums; i += kWarp) sums[i] = 0;
  __syncwarp();
  if (width > 1) {
    for (int64_t o = 0; exists && o < shape.outputs; ++o) {
      const int64_t from = (plane * shape.outputs + o) * shape.lanes + lane, index = indices[from];
      if (index >= begin && index < end) {
        A& sum = sums[(index - begin) * kWarp + thread];
        sum = adds ? sum + widen(dy[from]) : widen(dy[from]);
      }
    }
  } else {
    for (int64_t chunk = 0; plane < shape.planes && chunk < shape.outputs; chunk += kWarp) {
      const int64_t from = plane * shape.outputs + chunk + thread;
      const bool inside = chunk + thread < shape.outputs;
      const int64_t index = inside ? indices[from] : -1;
      const A value = inside ? widen(dy[from]) : A(0);
      const int mine = index >= begin && index < end ? static_cast<int>(index - begin) : -1;
      targets[thread] = mine;
      summands[thread] = value;
      __syncwarp();
      A sum = mine >= 0 ? sums[mine] : A(0);
      bool first = mine >= 0;
      for (int other = 0; first && other < kWarp; ++other) {
        if (targets[other] == mine) {
          sum = adds ? sum + summands[other] : summands[other];
          first = other >= thread;
        }
      }
      __syncwarp();  // all have read what they add to
      if (first) sums[mine] = sum;
    }
  }
  __syncwarp();
  if (!exists) return;
  const int64_t base = plane * shape.size;
  if (width > 1) {
    for (int64_t i = begin; i < end; ++i) {
      dx[(base + i) * shape.lanes + lane] = narrow<T>(sums[(i - begin) * kWarp + thread]);
    }
  } else {
    for (int64_t i = begin + thread; i < end; i += kWarp) dx[base + i] = narrow<T>(sums[i - begin]);
  }
}

}  // namespace fastconv
