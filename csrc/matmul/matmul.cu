// matmul.cu -- see matmul.h.
#include "matmul/matmul.h"
#include "matmul/tiled.cuh"

namespace fastconv {
namespace {

template <class T, bool kLarge>
void launch_matmul_tiled(MatmulTiled<T> problem, int64_t batch, Address stream) {
  using Tile = GemmTile<T, kLarge>;
  problem.steps = steps_for<Tile>(problem.depth);
  problem.row_tiles = blocks_for(problem.rows, Tile::kRows);
  problem.column_tiles = blocks_for(problem.columns, Tile::kColumns);
  const int64_t tiles = blocks_for(problem.row_tiles * problem.column_tiles, 1);
  FASTCONV_LAUNCH((matmul_tiled_kernel<T, kLarge>), blocks_for(tiles * batch, 1), Tile::kThreads, 0,
                  pointer<CUstream_st>(stream), problem);
}

}  // namespace

void matmul_tiled(Dtype dtype, bool large, Address a, bool a_transposed, Address b, bool b_transposed,
                  Address c, int64_t batch, int64_t rows, int64_t depth, int64_t columns, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using Tile = GemmTile<T, false>;  // what follows is the same for both
    MatmulTiled<T> problem{};
    problem.a = pointer<const T>(a);
    problem.b = pointer<const T>(b);
    problem.c = pointer<T>(c);
    problem.rows = rows;
    problem.depth = depth;
    problem.columns = columns;
    problem.a_transposed = a_transposed;
    problem.b_transposed = b_transposed;
    problem.a_vectors = (a_transposed ? rows : depth) % Tile::kLoad == 0 && is_aligned(problem.a);
    problem.b_vectors = (b_transposed ? depth : columns) % Tile::kLoad == 0 && is_aligned(problem.b);
    problem.c_vectors = columns % Tile::kGroup == 0 && is_aligned(problem.c);
    if constexpr (std::is_same_v<T, double>) {
      if (large) throw DispatchError("float64 has no large tile");
    } else if (large) {
      return launch_matmul_tiled<T, true>(problem, batch, stream);
    }
    launch_matmul_tiled<T, false>(problem, batch, stream);
  });
}

}  // namespace fastconv
