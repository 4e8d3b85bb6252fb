// tiled.cuh -- batches of matrix products.
//
//   c[n,m,k] = sum over l of a[n,m,l] * b[n,l,k]      rows m, columns k, depth l
//
// Either operand may be stored transposed; c is dense in C order. Source: the definition.
#pragma once
#include "gemm/operand.cuh"
#include "gemm/store.cuh"

namespace fastconv {

template <class T>
struct MatmulTiled {
  const T* a;  // [batch, rows, depth], or [batch, depth, rows] if transposed
  const T* b;  // [batch, depth, columns], or [batch, columns, depth] if transposed
  T* c;        // [batch, rows, columns], all written
  int64_t rows, depth, columns;
  int64_t row_tiles, column_tiles;
  int steps;  // kDepth of the depth at a time
  bool a_transposed, b_transposed;
  bool a_vectors, b_vectors, c_vectors;  // whether all of it is aligned for vectors
};

/// One block, one tile of one product.
template <class T, bool kLarge>
__global__ void __launch_bounds__(GemmTile<T, kLarge>::kThreads, GemmTile<T, kLarge>::kMinBlocks)
    matmul_tiled_kernel(const MatmulTiled<T> problem) {
  using Tile = GemmTile<T, kLarge>;
  FASTCONV_SHARED(typename Tile::Sum, panels, [2][2 * Tile::kPanel]);
  const int64_t rest = blockIdx.x / problem.row_tiles;
  const int64_t first_row = blockIdx.x % problem.row_tiles * Tile::kRows;
  const int64_t first_column = rest % problem.column_tiles * Tile::kColumns;
  const int64_t product = rest / problem.column_tiles;
  const int64_t rows = problem.rows, depth = problem.depth, columns = problem.columns;
  const int rows_left = static_cast<int>(min(rows - first_row, int64_t{Tile::kRows}));
  const int columns_left = static_cast<int>(min(columns - first_column, int64_t{Tile::kColumns}));

  using Operand = MatrixOperand<Tile>;
  typename Operand::Matrix a, b;
  a = {problem.a + product * rows * depth + first_row * (problem.a_transposed ? 1 : depth),
       problem.a_transposed ? rows : depth,
       depth,
       rows_left,
       !problem.a_transposed,
       problem.a_vectors};
  b = {problem.b + product * depth * columns + first_column * (problem.b_transposed ? depth : 1),
       problem.b_transposed ? depth : columns,
       depth,
       columns_left,
       problem.b_transposed,
       problem.b_vectors};

  struct Source {
    Operand a, b;
    __device__ __forceinline__ void fetch() {
      a.fetch();
      b.fetch();
    }
    __device__ __forceinline__ void stash(typename Tile::Sum* a_panel, typename Tile::Sum* b_panel, bool) {
      a.stash(a_panel);
      b.stash(b_panel);
    }
    __device__ __forceinline__ bool not_finite() const { return false; }
  };
  GemmSum<Tile> sum;
  multiply<Tile>(sum, panels, problem.steps, false,
                 [&] { return Source{Operand(a, threadIdx.x), Operand(b, threadIdx.x)}; });
  T* c = problem.c + (product * rows + first_row) * columns + first_column;
  store_tile<Tile>(sum, MatrixTarget<T>{c, columns, rows_left, columns_left, problem.c_vectors}, panels[0]);
}

}  // namespace fastconv
