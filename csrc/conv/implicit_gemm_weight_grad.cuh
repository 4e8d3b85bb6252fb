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

/// One block, a tile of one group's dw and one split of the pixels.
template <class T, bool kLarge>
__global__ void __launch_bounds__(GemmTile<T, kLarge>::kThreads)
    conv_weight_grad_implicit_gemm_kernel(const ImplicitGemmWeightGrad<T> problem) {
  using Tile = GemmTile<T, kLarge>;
  FASTCONV_SHARED(typename Tile::Sum, panels, [2][2 * Tile::kPanel]);
  const Window& window = problem.window;
  const int32_t row_tile = blockIdx.x % problem.row_tiles;
  int64_t rest = blockIdx.x / problem.row_tiles;
  const int64_t column_tile = rest % problem.column_tiles;
  rest /= problem.column_tiles;
  const int32_t group = rest % window.groups;
  const int32_t split = rest / window.groups;

  const int64_t pixels = window.batch * window.output.product();
  const int64_t all_steps = (pixels + Tile::kDepth - 1) / Tile::kDepth;
  const int64_t first_step = all_steps * split / problem.splits;
  const int64_t steps = all_steps * (split + 1) / problem.splits - first_step;
  const int64_t first_pixel = first_step * Tile::kDepth;
  const int64_t end = min(pixels, first_pixel + steps * Tile::kDepth);

  const int32_t first_row = row_tile * Tile::kRows;
  const int rows_left = min(window.group_filters() - first_row, Tile::kRows);
  const int64_t columns = window.group_channels() * window.kernel.product();
  const int64_t first_column = column_tile * Tile::kColumns;
  const int64_t first_filter = int64_t{group} * window.group_filters() + first_row;

  Image<T> x = image_of(problem.x, window.channels, window.size, problem.channels_last);
  Image<T> dy = image_of(problem.dy, window.filters, window.output, problem.channels_last);
  x.p += int64_t{group} * window.group_channels() * x.channel_pitch;
  dy.p += first_filter * dy.channel_pitch;

  struct Source {
    const Window& window;
    PixelCursor cursor;
    ErrorOperand<Tile> a;
    PatchOperand<Tile> b;
    __device__ __forceinline__ void fetch() {
      a.fetch(cursor, window.output);
      b.fetch(cursor);
      cursor.advance(Tile::kDepth, window.output);
    }
    __device__ __forceinline__ void stash(typename Tile::Sum* a_panel, typename Tile::Sum* b_panel,
                                          bool guarded) {
      a.stash(a_panel);
      b.stash(b_panel, guarded);
    }
    __device__ __forceinline__ bool not_finite() const { return a.not_finite(); }
  };
  GemmSum<Tile> sum;
  multiply<Tile>(sum, panels, steps, problem.padded, [&] {
    const int depth = pixel_share<Tile>(problem.channels_last, false, threadIdx.x).depth;
    return Source{window, PixelCursor(first_pixel, end, depth, Tile::kDepth, window.output),
                  ErrorOperand<Tile>(dy, rows_left, problem.dy_vectors, threadIdx.x),
                  PatchOperand<Tile>(x, window, first_column, columns, problem.x_vectors, threadIdx.x)};
  });

  const int64_t offset = first_filter * columns + first_column;
  const int columns_left = static_cast<int>(min(columns - first_column, int64_t{Tile::kColumns}));
  if (problem.splits == 1) {
    store_tile<Tile>(
        sum, MatrixTarget<T>{problem.dw + offset, columns, rows_left, columns_left, problem.dw_vectors},
        panels[0]);
  } else {
    typename Tile::Sum* to = problem.partial + split * window.weight_elements() + offset;
    store_tile<Tile>(
        sum, MatrixTarget<typename Tile::Sum>{to, columns, rows_left, columns_left, problem.dw_vectors},
        panels[0]);
  }
}

/// Enqueue both stages. problem is complete but for the numbers of tiles.
template <class T, bool kLarge>
void launch_conv_weight_grad_implicit_gemm(ImplicitGemmWeightGrad<T> problem, Address stream) {
  using Tile = GemmTile<T, kLarge>;
  const Window& window = problem.window;
  const int64_t columns = window.group_channels() * window.kernel.product();
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
