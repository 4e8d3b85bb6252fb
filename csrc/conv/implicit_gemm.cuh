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
#include "device/dispatch.h"
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
  const GatherBlock& block;
  int64_t image_pitch, channel_pitch, pixel_pitch;
  int rows, columns;
  bool along_rows, vectors;
  __device__ int64_t row(int r) const { return r * channel_pitch; }
  __device__ int64_t column(int c) const {
    const Sampling& s = block.sampling;
    const Pixel pixel = pixel_after(block.pixel, c, s.count);
    int64_t place = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      place = place * s.output[axis] + s.start[axis] + pixel.at[axis] * s.spread[axis];
    }
    return pixel.image * image_pitch + place * pixel_pitch;
  }
};

/// What this block computes. Blocks that read the same pixels follow each other: rows are numbered first,
/// then groups, tiles of pixels, phases.
template <class T, class Tile, bool kInputGrad>
__device__ void describe(GatherBlock& block, const ImplicitGemm<T>& problem) {
  const Window& window = problem.window;
  // Of one group: depth in filters or channels, rows in the others.
  const int32_t channels = kInputGrad ? window.group_filters() : window.group_channels();
  const int32_t rows = kInputGrad ? window.group_channels() : window.group_filters();
  const int64_t rest = blockIdx.x / problem.row_tiles;
  const int64_t tile = rest / window.groups;
  assign(block.sampling, problem.sampling);
  if constexpr (kInputGrad) {
    enter_phase(block.sampling, window, pixel_of(tile / problem.tiles, problem.phases).at);
  }
  block.group = static_cast<int32_t>(rest % window.groups);
  block.first_row = blockIdx.x % problem.row_tiles * Tile::kRows;
  block.rows = min(rows - block.first_row, Tile::kRows);
  block.depth = static_cast<int32_t>(block.sampling.taps.product() * channels);
  const int64_t filter = int64_t{block.group} * window.group_filters();
  block.filters =
      (kInputGrad ? filter : filter + block.first_row) * window.kernel.product() * window.group_channels() +
      (kInputGrad ? block.first_row : 0);
  lay_out(block.image, int64_t{channels} * window.groups, int64_t{channels} * block.group,
          block.sampling.size, problem.channels_last);
  const int64_t first = tile % problem.tiles * Tile::kColumns;
  const int64_t left = window.batch * block.sampling.count.product() - first;
  block.columns = static_cast<int>(max(int64_t{0}, min(left, int64_t{Tile::kColumns})));
  block.pixel = pixel_of(first, block.sampling.count);
}

/// Apply it to all sums of a thread. Those with transcendental functions are called in a loop over shared
/// memory, in which every thread has a part of its own: 64 copies of them would be most of the kernel.
template <class Tile>
__device__ __forceinline__ void apply(Activation activation, GemmSum<Tile>& sum,
                                      typename Tile::Sum* staging) {
  if (activation == Activation::kNone) return;
  typename Tile::Sum* part = staging + threadIdx.x;
  static_assert(Tile::kFragmentColumns * Tile::kThreads <= 4 * Tile::kPanel, "every thread has a part");
#pragma unroll
  for (int m = 0; m < Tile::kFragmentRows; ++m) {
#pragma unroll
    for (int n = 0; n < Tile::kFragmentColumns; ++n) part[n * Tile::kThreads] = sum[m][n];
#pragma unroll 1
    for (int n = 0; n < Tile::kFragmentColumns; ++n) {
      part[n * Tile::kThreads] = activate(part[n * Tile::kThreads], activation);
    }
#pragma unroll
    for (int n = 0; n < Tile::kFragmentColumns; ++n) sum[m][n] = part[n * Tile::kThreads];
  }
}

/// One block, a tile of rows and pixels of one group and, of an input gradient, of one phase.
template <class T, bool kLarge, bool kInputGrad>
__global__ void __launch_bounds__(GemmTile<T, kLarge>::kThreads, GemmTile<T, kLarge>::kMinBlocks)
    conv_implicit_gemm_kernel(const ImplicitGemm<T> problem) {
  using Tile = GemmTile<T, kLarge>;
  FASTCONV_SHARED(typename Tile::Sum, panels, [2][2 * Tile::kPanel]);
  FASTCONV_SHARED(GatherBlock, block, [1]);
  if (threadIdx.x == 0) describe<T, Tile, kInputGrad>(block[0], problem);
  __syncthreads();
  if (block[0].columns == 0) return;  // all of the block: its phase is smaller than the largest

  struct Source {
    std::conditional_t<kInputGrad, TransposedFilters<Tile>, MatrixOperand<Tile, true>> a;
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
  const Window& window = problem.window;
  const int32_t channels = kInputGrad ? window.group_filters() : window.group_channels();
  const int32_t rows = kInputGrad ? window.group_channels() : window.group_filters();
  GemmSum<Tile> sum;
  multiply<Tile>(sum, panels, (block[0].depth + Tile::kDepth - 1) / Tile::kDepth, problem.padded, [&] {
    const GatherOperand<Tile> image(problem.image, block[0], channels, problem.image_vectors, threadIdx.x);
    if constexpr (kInputGrad) {
      return Source{{problem.w, block[0], window.kernel, channels, rows, problem.w_vectors, int(threadIdx.x)},
                    image};
    } else {
      const typename MatrixOperand<Tile, true>::Matrix w{problem.w + block[0].filters,
                                                         block[0].depth,
                                                         block[0].depth,
                                                         block[0].rows,
                                                         true,
                                                         problem.w_vectors};
      return Source{{w, int(threadIdx.x)}, image};
    }
  });

  const int64_t first_channel = int64_t{block[0].group} * rows + block[0].first_row;
  if (problem.b != nullptr) {
    const GemmFragment<Tile> place(threadIdx.x);
#pragma unroll
    for (int m = 0; m < Tile::kFragmentRows; ++m) {
      const bool there = place.row(m) < block[0].rows;
      const typename Tile::Sum bias = there ? widen(problem.b[first_channel + place.row(m)]) : 0;
#pragma unroll
      for (int n = 0; n < Tile::kFragmentColumns; ++n) sum[m][n] += bias;
    }
  }
  apply<Tile>(problem.activation, sum, panels[0]);
  __syncthreads();  // the parts of others are overwritten next
  const int64_t plane = block[0].sampling.output.product(), all_rows = int64_t{rows} * window.groups;
  const bool last = problem.channels_last;
  const ImageTarget<T> target{problem.result + first_channel * (last ? 1 : plane),
                              block[0],
                              all_rows * plane,
                              last ? 1 : plane,
                              last ? all_rows : 1,
                              block[0].rows,
                              block[0].columns,
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
  const int64_t depth =
      window.kernel.product() * (kInputGrad ? window.group_filters() : window.group_channels());
  steps_for<Tile>(depth);
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
