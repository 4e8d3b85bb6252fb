// implicit_gemm.cuh -- convolution and its input gradient as a matrix product whose operands are gathered.
//
//   forward      y[n,k,p]  = activation(b[k] + sum over r, c of w[k,r,c] * x[n,c,i])    rows k, columns n, p
//   input_grad   dx[n,c,i] = b[c] + sum over r, k of w[k,r,c] * dy[n,k,p]               rows c, columns n, i
//
// where p and r meet at i, see window.h; a sum leaves out what is outside, even where w is infinite. x, y, dy
// and dx are channels first or channels last, w is channels last. Nothing like an im2col matrix is ever in
// memory. Source: Chetlur et al., cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759.
#pragma once
#include "activation.h"
#include "conv/gather.cuh"
#include "gemm/store.cuh"

namespace fastconv {

template <class T>
struct ImplicitGemm {
  const T* image;  // x [N, C, *size], or dy [N, K, *output]
  const T* w;      // [K, *kernel, C / groups]
  const T* b;      // [K], or [C] for an input gradient, or nullptr
  T* result;       // y [N, K, *output], or dx [N, C, *size], all written
  Window window;
  Sampling sampling;  // enter_phase completes that of an input gradient
  Axes phases;        // of an input gradient, along each axis; 1 for the forward pass
  int64_t tiles;      // of pixels, in the largest phase
  int32_t row_tiles;  // of filters or channels of a group
  Activation activation;
  bool channels_last;                             // both images
  bool padded;                                    // whether some tap may be outside for some pixel
  bool image_vectors, w_vectors, result_vectors;  // whether all of it is aligned for vectors
};

/// Where a tile of pixels goes.
template <class T>
struct ImageTarget {
  T* p;  // at the first row of the tile
  const Sampling& s;
  int64_t first;  // number of the tile's first pixel
  int64_t image_pitch, channel_pitch, pixel_pitch;
  int rows, columns;
  bool along_rows, vectors;
  __device__ int64_t row(int r) const { return r * channel_pitch; }
  __device__ int64_t column(int c) const {
    const Pixel pixel = pixel_of(first + c, s.count);
    int64_t place = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      place = place * s.output[axis] + s.start[axis] + pixel.at[axis] * s.spread[axis];
    }
    return pixel.image * image_pitch + place * pixel_pitch;
  }
};

/// One block, a tile of rows and pixels of one group and, of an input gradient, of one phase.
template <class T, bool kLarge, bool kInputGrad>
__global__ void __launch_bounds__(GemmTile<T, kLarge>::kThreads)
    conv_implicit_gemm_kernel(const ImplicitGemm<T> problem) {
  using Tile = GemmTile<T, kLarge>;
  FASTCONV_SHARED(typename Tile::Sum, panels, [2][2 * Tile::kPanel]);
  const Window& window = problem.window;
  // Blocks that read the same pixels follow each other: rows are numbered first, then groups.
  const int32_t row_tile = blockIdx.x % problem.row_tiles;
  const int32_t rest = blockIdx.x / problem.row_tiles;
  const int32_t group = rest % window.groups;
  const int64_t tile = rest / window.groups % problem.tiles;
  const int64_t phase = rest / window.groups / problem.tiles;

  Sampling s = problem.sampling;
  if constexpr (kInputGrad) enter_phase(s, window, pixel_of(phase, problem.phases).at);
  const int64_t pixels = window.batch * s.count.product();
  const int64_t first = tile * Tile::kColumns;
  if (first >= pixels) return;  // all of the block: its phase is smaller than the largest

  // Of one group: depth in filters or channels, rows in the others.
  const int32_t channels = kInputGrad ? window.group_filters() : window.group_channels();
  const int32_t rows = kInputGrad ? window.group_channels() : window.group_filters();
  const int32_t first_row = row_tile * Tile::kRows;
  const int rows_left = min(rows - first_row, Tile::kRows);

  Image<T> image = image_of(problem.image, int64_t{channels} * window.groups, s.size, problem.channels_last);
  image.p += int64_t{group} * channels * image.channel_pitch;
  const int64_t depth = s.taps.product() * channels;

  struct Source {
    std::conditional_t<kInputGrad, TransposedFilters<Tile>, MatrixOperand<Tile>> a;
    GatherOperand<Tile> b;
    __device__ __forceinline__ void fetch() {
      a.fetch();
      b.fetch();
    }
    __device__ __forceinline__ void stash(typename Tile::Sum* a_panel, typename Tile::Sum* b_panel,
                                          bool guarded) {
      a.stash(a_panel);
      b.stash(b_panel, guarded);
    }
    __device__ __forceinline__ bool not_finite() const { return a.not_finite(); }
  };
  const auto filters = [&] {
    if constexpr (kInputGrad) {
      const T* w = problem.w + int64_t{group} * channels * window.kernel.product() * rows + first_row;
      return TransposedFilters<Tile>(w, s, window.kernel, channels, rows, rows_left, problem.w_vectors,
                                     threadIdx.x);
    } else {
      const T* w = problem.w + (int64_t{group} * rows + first_row) * depth;
      return MatrixOperand<Tile>({w, depth, depth, rows_left, true, problem.w_vectors}, threadIdx.x);
    }
  };
  GemmSum<Tile> sum;
  multiply<Tile>(sum, panels, (depth + Tile::kDepth - 1) / Tile::kDepth, problem.padded, [&] {
    return Source{filters(),
                  GatherOperand<Tile>(image, s, channels, first, pixels, problem.image_vectors, threadIdx.x)};
  });

  const int64_t first_channel = int64_t{group} * rows + first_row;
  const GemmFragment<Tile> place(threadIdx.x);
  if (problem.b != nullptr || problem.activation != Activation::kNone) {
#pragma unroll
    for (int m = 0; m < Tile::kFragmentRows; ++m) {
      typename Tile::Sum bias = 0;
      if (problem.b != nullptr && place.row(m) < rows_left)
        bias = widen(problem.b[first_channel + place.row(m)]);
#pragma unroll
      for (int n = 0; n < Tile::kFragmentColumns; ++n) {
        sum[m][n] = activate(sum[m][n] + bias, problem.activation);
      }
    }
  }
  const int64_t plane = s.output.product(), all_rows = int64_t{rows} * window.groups;
  const bool last = problem.channels_last;
  const ImageTarget<T> target{problem.result + first_channel * (last ? 1 : plane),
                              s,
                              first,
                              all_rows * plane,
                              last ? 1 : plane,
                              last ? all_rows : 1,
                              rows_left,
                              static_cast<int>(min(pixels - first, int64_t{Tile::kColumns})),
                              last,
                              problem.result_vectors};
  store_tile<Tile>(sum, target, panels[0]);
}

/// Enqueue. T, the tile and the direction are fixed; problem is complete but for tiles, which the tile
/// decides.
template <class T, bool kLarge, bool kInputGrad>
void launch_conv_implicit_gemm(ImplicitGemm<T> problem, Address stream) {
  using Tile = GemmTile<T, kLarge>;
  const Window& window = problem.window;
  const int32_t rows = kInputGrad ? window.group_channels() : window.group_filters();
  int64_t pixels = window.batch;  // of the first phase, which is the largest
  for (int axis = 0; axis < 3; ++axis) {
    pixels *= kInputGrad ? (window.size[axis] + window.stride[axis] - 1) / window.stride[axis]
                         : window.output[axis];
  }
  problem.tiles = blocks_for(pixels, Tile::kColumns);
  problem.row_tiles = static_cast<int32_t>(blocks_for(rows, Tile::kRows));
  // Counted in floating point as well: the product may pass 64 bits.
  const double blocks = double(problem.tiles) * problem.row_tiles * window.groups * problem.phases[0] *
                        problem.phases[1] * problem.phases[2];
  if (blocks > std::numeric_limits<int32_t>::max()) {
    throw LaunchError("a grid of " + std::to_string(blocks) + " blocks, expected at most 2147483647");
  }
  FASTCONV_LAUNCH((conv_implicit_gemm_kernel<T, kLarge, kInputGrad>), static_cast<unsigned>(blocks),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), problem);
}

}  // namespace fastconv
