// moments.cuh -- mean and biased variance of every statistic.
//
//   mean = sum of x / m,  variance = sum of (x - mean)^2 / m,  m values a statistic
//
// Values are counted from the first one of their statistic. A thread takes the moments of a few vectors about
// their own mean while they are in registers, and joins them to its own; x is read once. The sums
// of squares are never those of x itself, which would cancel. Source: see Moments.
#pragma once
#include "norm/reduce.cuh"

namespace fastconv {

template <class A>
__device__ __forceinline__ void store_moments(A* mean, A* variance, int64_t statistic, A origin,
                                              const Moments<A>& m) {
  mean[statistic] = origin + m.number[1] / m.number[0];
  variance[statistic] = m.number[2] / m.number[0];
}

/// Moments of the first `count` of some values.
template <class A, int kMost>
__device__ __forceinline__ Moments<A> moments_of(const A (&value)[kMost], int count) {
  A sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    if (i < count) sum += value[i];
  }
  const A mean = sum / A(count);
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    if (i < count) squares = multiply_add(value[i] - mean, value[i] - mean, squares);
  }
  Moments<A> moments;
  moments.number[0] = A(count);
  moments.number[1] = sum;
  moments.number[2] = squares;
  return moments;
}

/// A block a split of a statistic, whose values lie in runs of V or more neighbours.
template <class T, int V>
__global__ void __launch_bounds__(NormReduceTile::kThreads, NormReduceTile::kMinBlocks)
    norm_moments_runs_kernel(
        const T* __restrict__ x,                  // the runs of `runs`
        accumulator_t<T>* __restrict__ mean,      // [statistics]
        accumulator_t<T>* __restrict__ variance,  // [statistics]
        accumulator_t<T>* __restrict__ partial,   // [splits, 3, statistics]; one split: unused
        const Runs runs, const int splits) {
  using A = accumulator_t<T>;
  const int64_t statistic = blockIdx.x / splits, split = blockIdx.x % splits;
  const T* begin = x + runs.begin(statistic);
  const A origin = origin_of(widen(begin[0]));
  Moments<A> moments;
  Walk walk(runs, V, split, splits, threadIdx.x, NormReduceTile::kThreads);
  while (walk.inside()) {
    A value[NormReduceTile::kMomentUnits * V];
    int count = 0;
#pragma unroll
    for (int u = 0; u < NormReduceTile::kMomentUnits; ++u) {
      if (walk.inside()) {
        const Vector<T, V> loaded = load_vector<V>(begin + walk.offset());
#pragma unroll
        for (int v = 0; v < V; ++v) value[u * V + v] = widen(loaded[v]) - origin;
        count += V;
        walk.next();
      }
    }
    moments.merge(moments_of(value, count));
  }
  moments = all_merged<NormReduceTile::kThreads>(moments);
  if (threadIdx.x == 0) {
    if (splits == 1) {
      store_moments(mean, variance, statistic, origin, moments);
    } else {
      const Moments<A> one[1] = {moments};
      store_parts(partial, split, int64_t{gridDim.x} / splits, statistic, one);
    }
  }
}

/// A block a split of some channels of an image, channels innermost; a thread keeps V channels. A statistic
/// has parts [members, splits], where `members` channels share it.
template <class T, int V>
__global__ void __launch_bounds__(NormReduceTile::kThreads, NormReduceTile::kMinBlocks)
    norm_moments_columns_kernel(
        const T* __restrict__ x,                  // [images, rows, C]
        accumulator_t<T>* __restrict__ mean,      // [images * C / members]
        accumulator_t<T>* __restrict__ variance,  // [images * C / members]
        accumulator_t<T>* __restrict__ partial,   // [splits, 3, images * C]; one part: unused
        const Columns columns, const int members) {
  using A = accumulator_t<T>;
  const ColumnShare share(columns, V);
  const T* image = x + share.image * columns.rows * columns.channels;
  A origin[V] = {};
  Moments<A> moments[V];
  if (share.active) {
    StatisticOf{0, members}.load_first(image, share.channel, origin);
#pragma unroll
    for (int v = 0; v < V; ++v) origin[v] = origin_of(origin[v]);
    for (int64_t row = share.row; row < share.end;) {
      A value[V][NormReduceTile::kMomentUnits];
      int count = 0;
#pragma unroll
      for (int u = 0; u < NormReduceTile::kMomentUnits; ++u) {
        if (row < share.end) {
          const Vector<T, V> loaded = load_vector<V>(image + row * columns.channels + share.channel);
#pragma unroll
          for (int v = 0; v < V; ++v) value[v][u] = widen(loaded[v]) - origin[v];
          ++count;
          row += columns.pixels;
        }
      }
#pragma unroll
      for (int v = 0; v < V; ++v) moments[v].merge(moments_of(value[v], count));
    }
  }
  merge_pixels(moments, columns);
  if (share.active && share.pixel == 0) {
    const int64_t column = share.image * columns.channels + share.channel;
    if (members == 1 && columns.splits == 1) {
#pragma unroll
      for (int v = 0; v < V; ++v) store_moments(mean, variance, column + v, origin[v], moments[v]);
    } else {
      store_parts(partial, share.split, columns.images * columns.channels, column, moments);
    }
  }
}

/// Every statistic of its parts: all splits of `members` neighbouring sums.
template <class T>
__global__ void __launch_bounds__(NormReduceTile::kJoinThreads)
    norm_moments_join_kernel(const T* __restrict__ x,
                             const accumulator_t<T>* __restrict__ partial,  // [splits, 3, sums]
                             accumulator_t<T>* __restrict__ mean,           // [sums / members]
                             accumulator_t<T>* __restrict__ variance,       // [sums / members]
                             const Runs runs, const int64_t splits, const int64_t sums,
                             const int64_t members) {
  using A = accumulator_t<T>;
  const auto moments = parts_merged<Moments<A>>(partial, splits, sums, members);
  const int64_t statistic = int64_t{blockIdx.x} * kWarp + threadIdx.x / kWarp;
  if (statistic * members < sums && threadIdx.x % kWarp == 0) {
    store_moments(mean, variance, statistic, origin_of(widen(x[runs.begin(statistic)])), moments);
  }
}

}  // namespace fastconv
