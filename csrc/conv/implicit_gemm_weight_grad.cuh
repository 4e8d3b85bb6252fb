// implicit_gemm_weight_grad.cuh -- the weight gradient of a convolution as a matrix product.
//
//   dw[k,c,r] = sum over n, p of dy[n,k,p] * x[n,c,i]        rows k, columns c, r, depth n, p
//
// where p and r meet at i, see window.h; the sum leaves out what is outside, even where dy is infinite. x and
// dy are both channels first or both channels last, and so is dw. The depth is split among blocks, whose sums
// lie in a workspace until a second kernel adds them, always in the same order. Source: Chetlur et al.,
// cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759.
#pragma once
#include "conv/pixel_depth.cuh"
#include "conv/sum_splits.cuh"
#include "gemm/store.cuh"

namespace fastconv {

template <class T>
struct ImplicitGemmWeightGrad {
  const T* x;                 // [N, C, *size]
  const T* dy;                // [N, K, *output]
  T* dw;                      // [K, C / groups, *kernel], all written where there is one split
  accumulator_t<T>* partial;  // [splits, K * C / groups * taps], all written where there are more
  Window window;
  int64_t column_tiles;
  int32_t row_tiles;
  int32_t splits;
  bool channels_last;
  bool padded;  // whether some tap may be outside for some pixel
  bool x_vectors, dy_vectors, dw_vectors;
};

/// What all threads of a block know of it; in shared memory, see GatherBlock.
struct WeightGradBlock {
  ImageLayout x, dy;
  Pixel pixel, step;  // the first that it sums, and kDepth of them
  int64_t pixels;     // how many it sums
  int64_t first_column;
  int64_t first_filter;  // of all groups
  int32_t group, split;
  int rows, columns;  // how many are left from the first of the tile on
};

template <class T, class Tile>
__device__ void describe(WeightGradBlock& block, const ImplicitGemmWeightGrad<T>& problem) {
  const Window& window = problem.window;
  int64_t rest = blockIdx.x / problem.row_tiles;
  block.first_column = rest % problem.column_tiles * Tile::kColumns;
  rest /= problem.column_tiles;
  block.group = static_cast<int32_t>(rest % window.groups);
  block.split = static_cast<int32_t>(rest / window.groups);

  const int64_t pixels = window.batch * window.output.product();
  const int64_t steps = (pixels + Tile::kDepth - 1) / Tile::kDepth;
  const int64_t first = steps * block.split / problem.splits * Tile::kDepth;
  block.pixels = min(pixels, steps * (block.split + 1) / problem.splits * Tile::kDepth) - first;
  block.pixel = pixel_of(first, window.output);
  block.step = pixel_of(Tile::kDepth, window.output);

  const int32_t first_row = blockIdx.x % problem.row_tiles * Tile::kRows;
  block.rows = min(window.group_filters() - first_row, Tile::kRows);
  block.first_filter = int64_t{block.group} * window.group_filters() + first_row;
  const int64_t columns = window.group_channels() * window.kernel.product();
  block.columns = static_cast<int>(min(columns - block.first_column, int64_t{Tile::kColumns}));

  const int64_t first_channel = int64_t{block.group} * window.group_channels();
  lay_out(block.x, window.channels, first_channel, window.size, problem.channels_last);
  lay_out(block.dy, window.filters, block.first_filter, window.output, problem.channels_last);
}

/// One block, a tile of one group's dw and one split of the pixels.
template <class T, bool kLarge>
__global__ void __launch_bounds__(GemmTile<T, kLarge>::kThreads, GemmTile<T, kLarge>::kMinBlocks)
    conv_weight_grad_implicit_gemm_kernel(const ImplicitGemmWeightGrad<T> problem) {
  using Tile = GemmTile<T, kLarge>;
  FASTCONV_SHARED(typename Tile::Sum, panels, [2][2 * Tile::kPanel]);
  FASTCONV_SHARED(WeightGradBlock, block, [1]);
  FASTCONV_SHARED(PatchColumns<Tile::kColumns>, columns, [1]);
  const Window& window = problem.window;
  if (threadIdx.x == 0) describe<T, Tile>(block[0], problem);
  __syncthreads();
  const int64_t all_columns = window.group_channels() * window.kernel.product();
  if (threadIdx.x < Tile::kColumns) {
    describe(columns[0], threadIdx.x, block[0].first_column + threadIdx.x, all_columns, block[0].x, window);
  }
  static_assert(Tile::kColumns <= Tile::kThreads, "a thread a column");
  __syncthreads();

  struct Source {
    const Window& window;
    const WeightGradBlock& block;
    PixelCursor cursor;
    ErrorOperand<Tile> a;
    PatchOperand<Tile> b;
    __device__ __forceinline__ void fetch() {
      a.fetch(cursor, window.output);
      b.fetch(cursor);
      cursor.advance(Tile::kDepth, block.step, window.output);
    }
    __device__ __forceinline__ void stash(typename Tile::Sum* a_panel, typename Tile::Sum* b_panel,
                                          bool guarded) {
      a.stash(a_panel);
      b.stash(b_panel, guarded);
    }
    __device__ __forceinline__ bool not_finite() const { return a.not_finite(); }
  };
  GemmSum<Tile> sum;
  const int steps = static_cast<int>((block[0].pixels + Tile::kDepth - 1) / Tile::kDepth);
  multiply<Tile>(sum, panels, steps, problem.padded, [&] {
    const int depth = pixel_share<Tile>(problem.channels_last, false, threadIdx.x).depth;
    return Source{
        window, block[0],
        PixelCursor{pixel_after(block[0].pixel, depth, window.output), block[0].pixels - depth},
        ErrorOperand<Tile>(problem.dy, block[0].dy, block[0].rows, problem.dy_vectors, threadIdx.x),
        PatchOperand<Tile>(problem.x, block[0].x, window, columns[0], problem.x_vectors, threadIdx.x)};
  });

  const int64_t offset = block[0].first_filter * all_columns + block[0].first_column;
  const int rows_left = block[0].rows, columns_left = block[0].columns;
  if (problem.splits == 1) {
    const MatrixTarget<T> target{problem.dw + offset, all_columns, rows_left, columns_left,
                                 problem.dw_vectors};
    store_tile<Tile>(sum, target, panels[0]);
  } else {
    typename Tile::Sum* to = problem.partial + block[0].split * window.weight_elements() + offset;
    const MatrixTarget<typename Tile::Sum> target{to, all_columns, rows_left, columns_left,
                                                  problem.dw_vectors};
    store_tile<Tile>(sum, target, panels[0]);
  }
}

/// Enqueue both stages. problem is complete but for the numbers of tiles.
template <class T, bool kLarge>
void launch_conv_weight_grad_implicit_gemm(ImplicitGemmWeightGrad<T> problem, Address stream) {
  using Tile = GemmTile<T, kLarge>;
  const Window& window = problem.window;
  const int64_t columns = window.group_channels() * window.kernel.product();
  steps_for<Tile>(window.batch * window.output.product() / problem.splits);
  problem.row_tiles = static_cast<int32_t>(blocks_for(window.group_filters(), Tile::kRows));
  problem.column_tiles = blocks_for(columns, Tile::kColumns);
  const int64_t tiles = blocks_for(problem.column_tiles * problem.row_tiles, 1);
  const unsigned blocks = blocks_for(tiles * window.groups * problem.splits, 1);
  FASTCONV_LAUNCH((conv_weight_grad_implicit_gemm_kernel<T, kLarge>), blocks, Tile::kThreads, 0,
                  pointer<CUstream_st>(stream), problem);
  if (problem.splits > 1) {
    launch_sum_splits<T>(problem.partial, problem.dw, problem.splits, window.weight_elements(), stream);
  }
}

}  // namespace fastconv
