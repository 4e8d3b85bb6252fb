// mask.cuh -- which boxes overlap which, a bit a pair.
//
//   bit i of mask[c, r] = whether box r overlaps box i of the block c of 64 boxes, for boxes i behind r
//
// Source: the masks of 64 boxes go back to Faster R-CNN in Python, Girshick 2015.
#pragma once
#include "nms/overlap.h"

namespace fastconv {

/// The boxes of a block, in shared memory: neighbours lie next to each other.
template <class T, int kAxes>
struct NmsColumns {
  T corner[2 * kAxes][kNmsBlock];
  T area[kNmsBlock];
  int64_t group[kNmsBlock];

  __device__ __forceinline__ void put(int i, const NmsBox<T, kAxes>& box) {
#pragma unroll
    for (int c = 0; c < 2 * kAxes; ++c) corner[c][i] = box.corner[c];
    area[i] = box.area;
    group[i] = box.group;
  }
  __device__ __forceinline__ NmsBox<T, kAxes> get(int i) const {
    NmsBox<T, kAxes> box;
#pragma unroll
    for (int c = 0; c < 2 * kAxes; ++c) box.corner[c] = corner[c][i];
    box.area = area[i];
    box.group = group[i];
    return box;
  }
};

/// A block of threads, a tile of 64 rows and 64 columns: a thread has one row and walks over the columns,
/// which lie in shared memory and are read by all threads at once.
template <class T, int kAxes>
__global__ void __launch_bounds__(kNmsBlock)
    nms_mask_kernel(const T* __restrict__ corners,       // [2 * kAxes, count], best box first
                    const int64_t* __restrict__ groups,  // [count], or nullptr
                    uint64_t* __restrict__ mask,         // [columns, rows * 64], written from the diagonal on
                    const NmsPass pass, const T threshold) {
  using Columns = NmsColumns<T, kAxes>;
  FASTCONV_SHARED(Columns, columns, [1]);
  const int thread = threadIdx.x;
  const int64_t row_block = blockIdx.x / pass.columns(), column_block = blockIdx.x % pass.columns();
  if (column_block < row_block) return;
  const int64_t row = row_block * kNmsBlock + thread, box = pass.first * kNmsBlock + row;
  const int64_t begin = (pass.first + column_block) * kNmsBlock;
  const int64_t rest = pass.count - begin;
  const int present = rest < kNmsBlock ? static_cast<int>(rest) : kNmsBlock;
  NmsBox<T, kAxes> mine = {};
  if (thread < present) {
    mine.read(corners, groups, pass.count, begin + thread);
    columns[0].put(thread, mine);
  }
  __syncthreads();
  uint64_t word = 0;
  if (box < pass.count) {
    if (row_block != column_block) mine.read(corners, groups, pass.count, box);
    for (int i = 0; i < present; ++i) {
      word |= static_cast<uint64_t>(mine.overlaps(columns[0].get(i), threshold)) << i;
    }
    // All threads read the same column at a time: those before the diagonal are taken back.
    if (row_block == column_block) word &= ~uint64_t{1} << thread;
  }
  mask[pass.word(row, column_block)] = word;
}

}  // namespace fastconv
