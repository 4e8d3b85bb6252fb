// select.cuh -- from the best box to the worst: what is kept drops what it overlaps.
//
// Boxes are settled 64 at a time, by one thread and the words of the diagonal; then all warps drop what the
// kept ones overlap of the blocks behind, a warp a block. Which boxes are dropped already lies in the result
// itself: the word of block c at kept[64 * c], where no position can be written before that block is settled.
#pragma once
#include "device/vector.h"
#include "device/warp.h"
#include "nms/overlap.h"

namespace fastconv {

struct NmsSelectTile {
  static constexpr int kWarps = 16;  // of the one block that there is: a block of boxes each
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kMinBlocksPerSm = 1;  // there is no other: leaves 128 registers
  static constexpr int kRows = 2;  // words of neighbouring rows in one access, whose 64 a warp takes at once
  static_assert(kRows * kWarp == kNmsBlock, "a warp sees every row of a block");
  static_assert(kThreads >= kNmsBlock, "a thread for each box that is settled");
};

struct BitOr {
  __device__ __forceinline__ uint64_t operator()(uint64_t a, uint64_t b) const { return a | b; }
};

/// The words of a pass as nms_mask_kernel stored them.
struct StoredOverlaps {
  const uint64_t* mask;  // [columns, rows * 64]

  __device__ __forceinline__ Vector<uint64_t, NmsSelectTile::kRows> rows(const NmsPass& pass, int64_t row,
                                                                         int64_t column) const {
    return load_vector<NmsSelectTile::kRows>(mask + pass.word(row, column));
  }
  __device__ __forceinline__ uint64_t row(const NmsPass& pass, int64_t row, int64_t column) const {
    return mask[pass.word(row, column)];
  }
};

/// The same words, computed where they are needed: without any memory for them.
template <class T, int kAxes>
struct ComputedOverlaps {
  const T* corners;       // [2 * kAxes, count]
  const int64_t* groups;  // [count], or nullptr
  T threshold;

  __device__ __forceinline__ Vector<uint64_t, NmsSelectTile::kRows> rows(const NmsPass& pass, int64_t row,
                                                                         int64_t column) const {
    Vector<uint64_t, NmsSelectTile::kRows> words;
    for (int i = 0; i < NmsSelectTile::kRows; ++i) words[i] = this->row(pass, row + i, column);
    return words;
  }
  __device__ __forceinline__ uint64_t row(const NmsPass& pass, int64_t row, int64_t column) const {
    const int64_t box = pass.first * kNmsBlock + row, begin = (pass.first + column) * kNmsBlock;
    if (box >= pass.count) return 0;
    NmsBox<T, kAxes> mine, other;
    mine.read(corners, groups, pass.count, box);
    uint64_t word = 0;
    for (int i = 0; i < kNmsBlock && begin + i < pass.count; ++i) {
      if (begin + i <= box) continue;
      other.read(corners, groups, pass.count, begin + i);
      word |= static_cast<uint64_t>(mine.overlaps(other, threshold)) << i;
    }
    return word;
  }
};

/// Set bits of a word.
__device__ __forceinline__ int bits_of(uint64_t word) {
  return __popc(static_cast<unsigned>(word)) + __popc(static_cast<unsigned>(word >> 32));
}

/// One block of threads; passes follow each other.
template <class Overlaps>
__global__ void __launch_bounds__(NmsSelectTile::kThreads, NmsSelectTile::kMinBlocksPerSm)
    nms_select_kernel(const Overlaps overlaps,
                      const int64_t* __restrict__ order,  // [count], what is kept of
                      int64_t* kept,                      // [count], the first kept_count of them in the end
                      int64_t* kept_count,                // [1], of the passes so far
                      const NmsPass pass) {
  using Tile = NmsSelectTile;
  FASTCONV_SHARED(uint64_t, diagonal, [kNmsBlock]);
  FASTCONV_SHARED(uint64_t, settled, [1]);
  const int thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  const int64_t blocks = pass.blocks(),
                last = pass.first + pass.rows < blocks ? pass.first + pass.rows : blocks;
  int64_t found = 0;
  if (pass.first == 0) {
    for (int64_t c = thread; c < blocks; c += Tile::kThreads) kept[c * kNmsBlock] = 0;
  } else {
    found = kept_count[0];
  }
  __syncthreads();
  for (int64_t block = pass.first; block < last; ++block) {
    const int64_t row = (block - pass.first) * kNmsBlock, begin = block * kNmsBlock;
    if (thread < kNmsBlock) diagonal[thread] = overlaps.row(pass, row + thread, block - pass.first);
    __syncthreads();
    if (thread == 0) {
      uint64_t dropped = static_cast<uint64_t>(kept[begin]), keeps = 0;
      if (pass.count - begin < kNmsBlock) dropped |= ~uint64_t{0} << (pass.count - begin);
#pragma unroll 8
      for (int i = 0; i < kNmsBlock; ++i) {
        const uint64_t keep = ~dropped >> i & 1;
        keeps |= keep << i;
        dropped |= diagonal[i] & (uint64_t{0} - keep);
      }
      settled[0] = keeps;
    }
    __syncthreads();
    const uint64_t keeps = settled[0];
    if (thread < kNmsBlock && (keeps >> thread & 1)) {
      kept[found + bits_of(keeps & ((uint64_t{1} << thread) - 1))] = order[begin + thread];
    }
    found += bits_of(keeps);
    const uint64_t mine = keeps >> (Tile::kRows * lane);
    for (int64_t c = block + 1 + warp; c < blocks; c += Tile::kWarps) {
      const auto words = overlaps.rows(pass, row + Tile::kRows * lane, c - pass.first);
      uint64_t dropped = 0;
#pragma unroll
      for (int i = 0; i < Tile::kRows; ++i) dropped |= words[i] & (uint64_t{0} - (mine >> i & 1));
      dropped = warp_reduce(dropped, BitOr{});
      if (lane == 0) kept[c * kNmsBlock] |= static_cast<int64_t>(dropped);
    }
    __syncthreads();
  }
  if (thread == 0) kept_count[0] = found;
}

}  // namespace fastconv
