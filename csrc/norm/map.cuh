// map.cuh -- the passes of normalisation that only read and write, element by element.
//
//   forward      y = (x - mean) / sqrt(variance + eps) * w + b,  plus a residual, cut off at 0
//   input_grad   dx = (w * dy - sum of w * dy / m - h * sum of w * dy * h / m) / sqrt(variance + eps)
//
// with the sums over a statistic, its m values, and h and the ReLU as in products.cuh. A kernel walks memory
// in whole vectors; a Map says what happens to an element, with coefficients that are the same for all
// elements of a channel of an image. Source: Ioffe & Szegedy, arXiv:1502.03167, section 3.
#pragma once
#include "norm/reduce.cuh"

namespace fastconv {

struct NormMapTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocks = 2;  // as in NormReduceTile
  static constexpr int kUnits = 2;      // vectors that a thread has in flight, of one to three arrays
  static constexpr int kPasses = 8;     // rows a thread, channels last: its coefficients serve that often
};

/// The first `count` of V elements, or all at once.
template <int V, class T>
__device__ __forceinline__ Vector<T, V> load_some(const T* p, int64_t count) {
  if (count >= V) return load_vector<V>(p);
  Vector<T, V> value;
#pragma unroll
  for (int v = 0; v < V; ++v) value[v] = p[v < count ? v : 0];
  return value;
}

template <class T, int V>
__device__ __forceinline__ void store_some(T* p, const Vector<T, V>& value, int64_t count) {
  if (count >= V) return store_vector_global(p, value);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (v < count) p[v] = value[v];
  }
}

inline StatisticOf statistic_of(const NormShape& s) {
  return {s.shared ? 0 : s.groups, static_cast<int32_t>(s.group_channels())};
}

template <class T>
struct ForwardMap {
  using A = accumulator_t<T>;
  using Element = T;
  const T* x;         // [N, C, *size]
  const T* residual;  // shape of x, or nullptr
  T* y;               // shape of x, all written
  const A* mean;      // [statistics]
  const A* variance;  // [statistics]
  const T* w;         // [C], or nullptr for ones
  const T* b;         // [C], or nullptr for zeros
  A eps;
  bool relu;
  StatisticOf statistic;

  struct Coefficients {
    A mean, scale, shift;
  };
  template <int V>
  struct Inputs {
    Vector<T, V> x, residual;
  };

  /// Those of V channels from `channel` on.
  template <int V>
  __device__ __forceinline__ void at(int64_t image, int64_t channel, Coefficients (&c)[V]) const {
    A means[V], variances[V], weights[V], shifts[V];
    statistic.load(mean, image, channel, means);
    statistic.load(variance, image, channel, variances);
    load_channels(w, A(1), channel, weights);
    load_channels(b, A(0), channel, shifts);
#pragma unroll
    for (int v = 0; v < V; ++v)
      c[v] = {means[v], inverse_deviation(variances[v], eps) * weights[v], shifts[v]};
  }
  template <int V>
  __device__ __forceinline__ Inputs<V> load(int64_t i, int64_t count) const {
    Inputs<V> in = {};
    in.x = load_some<V>(x + i, count);
    if (residual) in.residual = load_some<V>(residual + i, count);
    return in;
  }
  template <int V>
  __device__ __forceinline__ void apply(Inputs<V>& in, int v, const Coefficients& c) const {
    A value = multiply_add(widen(in.x[v]) - c.mean, c.scale, c.shift);
    if (residual) value += widen(in.residual[v]);
    if (relu && value < A(0)) value = 0;  // a comparison, because a maximum would lose NaN
    in.x[v] = narrow<T>(value);
  }
  template <int V>
  __device__ __forceinline__ void store(int64_t i, const Inputs<V>& in, int64_t count) const {
    store_some(y + i, in.x, count);
  }
};

template <class T>
struct InputGradMap {
  using A = accumulator_t<T>;
  using Element = T;
  const T* dy;           // [N, C, *size]
  const T* x;            // shape of dy
  const T* y;            // shape of dy, or nullptr: no ReLU
  T* dx;                 // shape of dy, all written
  T* dresidual;          // shape of dy, all written, or nullptr
  const A* mean;         // [statistics]
  const A* variance;     // [statistics]
  const T* w;            // [C], or nullptr for ones
  const A* sum_dy;       // [statistics], weighted by w already unless `shared`
  const A* sum_product;  // [statistics], likewise
  A eps;
  A values;  // m
  bool shared;
  StatisticOf statistic;

  struct Coefficients {
    A mean, scale, slope, offset;
  };
  template <int V>
  struct Inputs {
    Vector<T, V> dy, x, y;
  };

  /// Those of V channels from `channel` on.
  template <int V>
  __device__ __forceinline__ void at(int64_t image, int64_t channel, Coefficients (&c)[V]) const {
    A means[V], variances[V], weights[V], sums[V], products[V];
    statistic.load(mean, image, channel, means);
    statistic.load(variance, image, channel, variances);
    statistic.load(sum_dy, image, channel, sums);
    statistic.load(sum_product, image, channel, products);
    load_channels(w, A(1), channel, weights);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A inverse = inverse_deviation(variances[v], eps);
      const A common = (shared ? inverse * weights[v] : inverse) / values;
      c[v] = {means[v], inverse * weights[v], common * inverse * products[v], common * sums[v]};
    }
  }
  template <int V>
  __device__ __forceinline__ Inputs<V> load(int64_t i, int64_t count) const {
    Inputs<V> in = {};
    in.dy = load_some<V>(dy + i, count);
    in.x = load_some<V>(x + i, count);
    if (y) in.y = load_some<V>(y + i, count);
    return in;
  }
  template <int V>
  __device__ __forceinline__ void apply(Inputs<V>& in, int v, const Coefficients& c) const {
    A error = widen(in.dy[v]);
    if (y) error = masked(error, widen(in.y[v]));
    const A h = widen(in.x[v]) - c.mean;
    in.x[v] = narrow<T>(multiply_add(error, c.scale, -multiply_add(h, c.slope, c.offset)));
    in.dy[v] = narrow<T>(error);
  }
  template <int V>
  __device__ __forceinline__ void store(int64_t i, const Inputs<V>& in, int64_t count) const {
    store_some(dx + i, in.x, count);
    if (dresidual) store_some(dresidual + i, in.dy, count);
  }
};

/// Channels first: all of memory is one row of vectors, whose elements may belong to two neighbouring planes.
/// A plane has at least V elements.
template <class Map, int V>
__global__ void __launch_bounds__(NormMapTile::kThreads, NormMapTile::kMinBlocks)
    norm_map_planes_kernel(const Map map, const int64_t channels, const int64_t positions,
                           const int64_t elements) {
  constexpr int kUnits = NormMapTile::kUnits;
  const int64_t base = int64_t{blockIdx.x} * (NormMapTile::kThreads * kUnits * V);
  const int64_t base_plane = base / positions, base_position = base - base_plane * positions;
  const int64_t base_image = base_plane / channels, base_channel = base_plane - base_image * channels;
  typename Map::template Inputs<V> in[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int64_t i = base + (u * NormMapTile::kThreads + threadIdx.x) * V;
    if (i < elements) in[u] = map.template load<V>(i, elements - i);
  }
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int64_t ahead = (u * NormMapTile::kThreads + threadIdx.x) * V;
    const int64_t left = elements - base - ahead;
    if (left > 0) {
      const int64_t planes = quotient(base_position + ahead, positions);
      const int64_t in_plane = (planes + 1) * positions - base_position - ahead;  // elements up to the next
      const int64_t images = quotient(base_channel + planes, channels);
      const int64_t image = base_image + images, channel = base_channel + planes - images * channels;
      typename Map::Coefficients coefficients[1];
      map.at(image, channel, coefficients);
      if (in_plane >= V || left <= in_plane) {
#pragma unroll
        for (int v = 0; v < V; ++v) map.template apply<V>(in[u], v, coefficients[0]);
      } else {
        const bool is_last = channel + 1 == channels;
        typename Map::Coefficients next[1];
        map.at(is_last ? image + 1 : image, is_last ? 0 : channel + 1, next);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          if (v < in_plane) {  // a conditional expression would choose between addresses, in local memory
            map.template apply<V>(in[u], v, coefficients[0]);
          } else {
            map.template apply<V>(in[u], v, next[0]);
          }
        }
      }
      map.template store<V>(base + ahead, in[u], left);
    }
  }
}

/// Channels last: a thread keeps the coefficients of V channels for its rows of an image.
template <class Map, int V>
__global__ void __launch_bounds__(NormMapTile::kThreads, NormMapTile::kMinBlocks)
    norm_map_columns_kernel(const Map map, const Columns columns) {
  constexpr int kUnits = NormMapTile::kUnits;
  const ColumnShare share(columns, V);
  if (share.active) {
    typename Map::Coefficients coefficients[V];
    map.at(share.image, share.channel, coefficients);
    const int64_t begin = share.image * columns.rows * columns.channels + share.channel;
    for (int64_t row = share.row; row < share.end;) {
      typename Map::template Inputs<V> in[kUnits];
      const int64_t first = row;
      int count = 0;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (row < share.end) {
          in[u] = map.template load<V>(begin + row * columns.channels, V);
          ++count;
          row += columns.pixels;
        }
      }
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (u < count) {
#pragma unroll
          for (int v = 0; v < V; ++v) map.template apply<V>(in[u], v, coefficients[v]);
          map.template store<V>(begin + (first + u * columns.pixels) * columns.channels, in[u], V);
        }
      }
    }
  }
}

}  // namespace fastconv
