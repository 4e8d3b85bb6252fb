// transpose.cuh -- a batch of matrices whose rows lie side by side is written with columns side by side.
//
//   y[b, r, c] = x[b * batch_stride + r + c * column_stride],  y dense in C order
//
// This turns [N, C, *size] into [N, *size, C] and back. A tile goes through shared memory, so that both sides
// are walked along their memory. Elements of 2 bytes lie there in pairs of neighbouring columns, as a bank is
// 4 bytes wide.
#pragma once
#include "device/vector.h"

namespace fastconv {

/// Shape of the batch, in elements.
struct Transposition {
  int64_t batch, rows, columns;
  int64_t batch_stride, column_stride;
  bool vector_loads;   // 16 bytes of every column of x are aligned, and rows are a multiple of them
  bool vector_stores;  // the same of the rows of y
};

template <class T>
struct LayoutTransposeTile {
  static constexpr int kThreads = 256;
  static constexpr int kRows = sizeof(T) == 8 ? 32 : 64;  // at most 17 KB of shared memory
  static constexpr int kColumns = kRows;
  static constexpr int kPack = sizeof(T) == 2 ? 2 : 1;  // columns in one word of shared memory
  static constexpr int kWords = kColumns / kPack;
  static constexpr int kPitch = kWords + 1;  // odd: neighbouring rows begin in neighbouring banks
  // Lanes along the rows of x; with those across they spread the words of a warp over all banks.
  static constexpr int kLanes = sizeof(T) == 2 ? 4 : 8;
  static constexpr int kStoreLanes = 8;  // along the rows of y: 128 bytes of each, and all banks of the tile
  static_assert(kRows % (kLanes * kVector<T>) == 0, "whole vectors of rows");
  static_assert(kColumns % (kStoreLanes * kVector<T>) == 0, "whole vectors of columns");
};

template <class T, class Tile = LayoutTransposeTile<T>>
__global__ void __launch_bounds__(Tile::kThreads)
    layout_transpose_kernel(const T* __restrict__ x,  // [batch, columns, rows], its first two axes strided
                            T* __restrict__ y,        // [batch, rows, columns], all written
                            const Transposition shape) {
  using Word = Vector<T, Tile::kPack>;
  constexpr int kV = kVector<T>;
  FASTCONV_SHARED(Word, tile, [Tile::kRows][Tile::kPitch]);

  const int64_t row_tiles = (shape.rows + Tile::kRows - 1) / Tile::kRows;
  const int64_t column_tiles = (shape.columns + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t block = blockIdx.x;
  const int64_t first_row = block % row_tiles * Tile::kRows;
  const int64_t first_column = block / row_tiles % column_tiles * Tile::kColumns;
  const int64_t b = block / row_tiles / column_tiles;
  const int rows = static_cast<int>(min(int64_t{Tile::kRows}, shape.rows - first_row));
  const int columns = static_cast<int>(min(int64_t{Tile::kColumns}, shape.columns - first_column));
  const T* from = x + b * shape.batch_stride + first_row + first_column * shape.column_stride;
  T* to = y + (b * shape.rows + first_row) * shape.columns + first_column;
  const int thread = threadIdx.x;

  if (shape.vector_loads) {
    constexpr int kAlong = Tile::kRows / kV;
    for (int i = thread; i < kAlong * Tile::kWords; i += Tile::kThreads) {
      const int along = i % Tile::kLanes + i / (Tile::kLanes * Tile::kWords) * Tile::kLanes;
      const int r = along * kV, word = i / Tile::kLanes % Tile::kWords;
      if (r >= rows || word * Tile::kPack >= columns) continue;
      Vector<T, kV> part[Tile::kPack];
#pragma unroll
      for (int k = 0; k < Tile::kPack; ++k) {
        const int c = min(word * Tile::kPack + k, columns - 1);  // the pair of the last one is never stored
        part[k] = load_vector<kV>(from + r + c * shape.column_stride);
      }
#pragma unroll
      for (int j = 0; j < kV; ++j) {
        Word both;
#pragma unroll
        for (int k = 0; k < Tile::kPack; ++k) both[k] = part[k][j];
        store_vector(&tile[r + j][word].element[0], both);
      }
    }
  } else {
    for (int i = thread; i < Tile::kRows * Tile::kColumns; i += Tile::kThreads) {
      const int r = i % Tile::kRows, c = i / Tile::kRows;
      if (r < rows && c < columns)
        tile[r][c / Tile::kPack][c % Tile::kPack] = from[r + c * shape.column_stride];
    }
  }
  __syncthreads();
  if (shape.vector_stores) {
    constexpr int kAlong = Tile::kColumns / kV;
    for (int i = thread; i < kAlong * Tile::kRows; i += Tile::kThreads) {
      const int along = i % Tile::kStoreLanes + i / (Tile::kStoreLanes * Tile::kRows) * Tile::kStoreLanes;
      const int c = along * kV, r = i / Tile::kStoreLanes % Tile::kRows;
      if (r >= rows || c >= columns) continue;
      Vector<T, kV> out;
#pragma unroll
      for (int j = 0; j < kV / Tile::kPack; ++j) {
        const Word both = load_vector<Tile::kPack>(&tile[r][c / Tile::kPack + j].element[0]);
#pragma unroll
        for (int k = 0; k < Tile::kPack; ++k) out[j * Tile::kPack + k] = both[k];
      }
      store_vector_global(to + r * shape.columns + c, out);
    }
  } else {
    for (int i = thread; i < Tile::kRows * Tile::kColumns; i += Tile::kThreads) {
      const int c = i % Tile::kColumns, r = i / Tile::kColumns;
      if (r < rows && c < columns) to[r * shape.columns + c] = tile[r][c / Tile::kPack][c % Tile::kPack];
    }
  }
}

}  // namespace fastconv
