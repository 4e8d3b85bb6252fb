// products.cuh -- the two sums that the gradients of a normalisation are made of.
//
//   db = sum of dy,  dw = sum of dy * h,  h = (x - mean) / sqrt(variance + eps)
//
// With y given, dy counts only where a ReLU with output y lets it pass: where y is not 0 or less.
// Source: Ioffe & Szegedy, arXiv:1502.03167, section 3.
#pragma once
#include "norm/reduce.cuh"

namespace fastconv {

/// V elements of dy, less what a ReLU does not let pass.
template <int V, class T>
__device__ __forceinline__ Vector<T, V> load_error(const T* dy, const T* y, int64_t at) {
  Vector<T, V> error = load_vector<V>(dy + at);
  if (y) {
    const Vector<T, V> passed = load_vector<V>(y + at);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      error[v] = narrow<T>(masked(widen(error[v]), widen(passed[v])));
    }
  }
  return error;
}

/// Arrays of x's shape and the statistics that h is made of.
template <class T>
struct ProductsInput {
  const T* dy;                       // shape of x
  const T* x;                        // [N, C, *size]
  const T* y;                        // shape of x, or nullptr: no ReLU
  const accumulator_t<T>* mean;      // [statistics], or by columns nullptr: nothing is subtracted
  const accumulator_t<T>* variance;  // [statistics]
  accumulator_t<T> eps;
};

/// Where the sums go; each array is [sums] or nullptr.
template <class T>
struct ProductsOutput {
  T* dw;
  T* db;
  accumulator_t<T>* sum_dy;
  accumulator_t<T>* sum_product;

  __device__ __forceinline__ void store(int64_t at, const Products<accumulator_t<T>>& sums) const {
    if (db) db[at] = narrow<T>(sums.number[0]);
    if (dw) dw[at] = narrow<T>(sums.number[1]);
    if (sum_dy) sum_dy[at] = sums.number[0];
    if (sum_product) sum_product[at] = sums.number[1];
  }
};

/// A block a split of a sum, whose values lie in runs. Run r of sum s is normalised by statistic
/// s / members + r * step.
template <class T, int V>
__global__ void __launch_bounds__(NormReduceTile::kThreads, NormReduceTile::kMinBlocks)
    norm_products_runs_kernel(const ProductsInput<T> in, const ProductsOutput<T> out,
                              accumulator_t<T>* __restrict__ partial,  // [splits, 2, sums]; one split: unused
                              const Runs runs, const int splits, const int members, const int64_t step) {
  using A = accumulator_t<T>;
  constexpr int kUnits = NormReduceTile::kProductUnits;
  const int64_t sum = blockIdx.x / splits, split = blockIdx.x % splits;
  const int64_t begin = runs.begin(sum), first = sum / members;
  Products<A> products;
  A mean = 0, inverse = 0;
  int64_t in_use = -1;  // the statistic that these belong to
  Walk walk(runs, V, split, splits, threadIdx.x, NormReduceTile::kThreads);
  while (walk.inside()) {
    Vector<T, V> dy[kUnits], x[kUnits];
    int64_t statistic[kUnits];
    int count = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (walk.inside()) {
        const int64_t at = begin + walk.offset();
        dy[u] = load_error<V>(in.dy, in.y, at);
        x[u] = load_vector<V>(in.x + at);
        statistic[u] = first + walk.run() * step;
        ++count;
        walk.next();
      }
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (u < count) {
        if (statistic[u] != in_use) {
          in_use = statistic[u];
          mean = in.mean[in_use];
          inverse = inverse_deviation(in.variance[in_use], in.eps);
        }
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const A error = widen(dy[u][v]);
          products.number[0] += error;
          const A h = (widen(x[u][v]) - mean) * inverse;
          products.number[1] = multiply_add(error, h, products.number[1]);
        }
      }
    }
  }
  products = all_merged<NormReduceTile::kThreads>(products);
  if (threadIdx.x == 0) {
    if (splits == 1) {
      out.store(sum, products);
    } else {
      const Products<A> one[1] = {products};
      store_parts(partial, split, int64_t{gridDim.x} / splits, sum, one);
    }
  }
}

/// A block a split of some channels of an image, channels innermost; a thread keeps V channels. Row r of
/// image i and channel c is normalised by statistic (i + r / span) * C / members + c / members.
template <class T, int V>
__global__ void __launch_bounds__(NormReduceTile::kThreads, NormReduceTile::kMinBlocks)
    norm_products_columns_kernel(
        const ProductsInput<T> in, const ProductsOutput<T> out,
        accumulator_t<T>* __restrict__ partial,  // [splits, 2, images * C]; or unused
        const Columns columns, const int members, const int64_t span) {
  using A = accumulator_t<T>;
  constexpr int kUnits = NormReduceTile::kProductUnits;
  const ColumnShare share(columns, V);
  Products<A> products[V];
  if (share.active) {
    const int64_t begin = share.image * columns.rows * columns.channels + share.channel;
    const StatisticOf statistic{columns.channels / members, members};
    A mean[V] = {}, inverse[V] = {};
    int64_t image_in_use = -1;
    for (int64_t row = share.row; row < share.end;) {
      Vector<T, V> dy[kUnits], x[kUnits];
      int64_t image[kUnits];
      int count = 0;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (row < share.end) {
          const int64_t at = begin + row * columns.channels;
          dy[u] = load_error<V>(in.dy, in.y, at);
          x[u] = load_vector<V>(in.x + at);
          image[u] = share.image + quotient(row, span);
          ++count;
          row += columns.pixels;
        }
      }
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (u < count) {
          if (image[u] != image_in_use) {
            image_in_use = image[u];
            if (in.mean) statistic.load(in.mean, image_in_use, share.channel, mean);
            statistic.load(in.variance, image_in_use, share.channel, inverse);
#pragma unroll
            for (int v = 0; v < V; ++v) inverse[v] = inverse_deviation(inverse[v], in.eps);
          }
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const A error = widen(dy[u][v]);
            products[v].number[0] += error;
            const A h = (widen(x[u][v]) - mean[v]) * inverse[v];
            products[v].number[1] = multiply_add(error, h, products[v].number[1]);
          }
        }
      }
    }
  }
  merge_pixels(products, columns);
  if (share.active && share.pixel == 0) {
    const int64_t column = share.image * columns.channels + share.channel;
    if (columns.splits == 1) {
#pragma unroll
      for (int v = 0; v < V; ++v) out.store(column + v, products[v]);
    } else {
      store_parts(partial, share.split, columns.images * columns.channels, column, products);
    }
  }
}

/// Every sum of its parts.
template <class T>
__global__ void __launch_bounds__(NormReduceTile::kJoinThreads)
    norm_products_join_kernel(const accumulator_t<T>* __restrict__ partial,  // [splits, 2, sums]
                              const ProductsOutput<T> out, const int64_t splits, const int64_t sums) {
  const auto products = parts_merged<Products<accumulator_t<T>>>(partial, splits, sums, 1);
  const int64_t sum = int64_t{blockIdx.x} * kWarp + threadIdx.x / kWarp;
  if (sum < sums && threadIdx.x % kWarp == 0) out.store(sum, products);
}

/// From the sums of each channel of each image: a warp for those of a group, weighted by w, and then a thread
/// for dw and db of a channel.
template <class T>
__global__ void __launch_bounds__(NormReduceTile::kThreads, NormReduceTile::kMinBlocks)
    norm_group_sums_kernel(const accumulator_t<T>* __restrict__ channel_dy,       // [N, C]
                           const accumulator_t<T>* __restrict__ channel_product,  // [N, C]
                           const T* __restrict__ w,                               // [C], or nullptr for ones
                           accumulator_t<T>* __restrict__ group_dy,               // [N, G]
                           accumulator_t<T>* __restrict__ group_product,          // [N, G]
                           T* __restrict__ dw,                                    // [C]
                           T* __restrict__ db,                                    // [C]
                           const NormShape shape) {
  using A = accumulator_t<T>;
  const int64_t task = int64_t{blockIdx.x} * NormReduceTile::kWarps + threadIdx.x / kWarp;
  const int64_t groups = shape.images * shape.groups;
  const int lane = threadIdx.x % kWarp;
  Products<A> sums;
  if (task < groups) {
    const int64_t members = shape.group_channels(), channel = task % shape.groups * members;
    for (int64_t member = lane; member < members; member += kWarp) {
      const int64_t at = task * members + member;
      const A weight = w ? widen(w[channel + member]) : A(1);
      sums.number[0] = multiply_add(weight, channel_dy[at], sums.number[0]);
      sums.number[1] = multiply_add(weight, channel_product[at], sums.number[1]);
    }
    sums = warp_merged(sums);
    if (lane == 0) {
      group_dy[task] = sums.number[0];
      group_product[task] = sums.number[1];
    }
  } else {
    const int64_t channel = (task - groups) * kWarp + lane;
    if (channel < shape.channels) {
      for (int64_t image = 0; image < shape.images; ++image) {
        sums.number[0] += channel_dy[image * shape.channels + channel];
        sums.number[1] += channel_product[image * shape.channels + channel];
      }
      db[channel] = narrow<T>(sums.number[0]);
      dw[channel] = narrow<T>(sums.number[1]);
    }
  }
}

}  // namespace fastconv
