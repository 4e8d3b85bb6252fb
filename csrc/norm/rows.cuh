// rows.cuh -- normalisation by one warp or one block a statistic: the sums and the pass that needs them.
//
// A statistic of at most kHeld vectors a thread stays in registers, so that memory is read once; a larger one
// is read again. Formulas: moments.cuh, products.cuh and map.cuh.
#pragma once
#include "norm/map.cuh"
#include "norm/moments.cuh"
#include "norm/products.cuh"

namespace fastconv {

struct NormRowsTile {
  static constexpr int kThreads = NormReduceTile::kThreads;
  static constexpr int kMinBlocks = NormReduceTile::kMinBlocks;
  static constexpr int kHeld = 4;  // vectors of each array that a thread keeps: 16 registers an array
};

/// w and b of V elements of a run: those of channel first + (position + v) / span.
template <class T, int V>
struct Affine {
  accumulator_t<T> value[V];

  __device__ Affine(const T* channels,  // [C], or nullptr
                    accumulator_t<T> absent, int64_t first, int64_t position, int64_t span) {
    if (!channels || span == 1) {
      load_channels(channels, absent, first + position, value);
    } else {
      int64_t channel = quotient(position, span), rest = position - channel * span;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (rest == span) {
          rest = 0;
          ++channel;
        }
        value[v] = widen(channels[first + channel]);
        ++rest;
      }
    }
  }
};

template <class T>
struct RowsForward {
  const T* x;                  // [N, C, *size]
  T* y;                        // shape of x, all written
  accumulator_t<T>* mean;      // [N, G], written
  accumulator_t<T>* variance;  // [N, G], written
  const T* w;                  // [C], or nullptr for ones
  const T* b;                  // [C], or nullptr for zeros
  accumulator_t<T> eps;
};

template <class T, int V, int kRowThreads>
__global__ void __launch_bounds__(NormRowsTile::kThreads, NormRowsTile::kMinBlocks)
    norm_forward_rows_kernel(const RowsForward<T> a, const NormShape shape, const Runs runs,
                             const int64_t span) {  // neighbours in a run that share a channel
  using A = accumulator_t<T>;
  constexpr int kHeld = NormRowsTile::kHeld, kRows = NormRowsTile::kThreads / kRowThreads;
  const int64_t statistic = int64_t{blockIdx.x} * kRows + threadIdx.x / kRowThreads;
  if (statistic < shape.statistics()) {  // of a warp or a block, all threads or none
    const int64_t begin = runs.begin(statistic);
    const A origin = origin_of(widen(a.x[begin]));
    const Walk start(runs, V, 0, 1, threadIdx.x % kRowThreads, kRowThreads);
    Vector<T, V> x[kHeld];
    Moments<A> moments;
    Walk walk = start;
    int64_t rounds = 0;
    for (; walk.inside(); ++rounds) {
      A value[kHeld * V];
      int count = 0;
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (walk.inside()) {
          x[u] = load_vector<V>(a.x + begin + walk.offset());
          count += V;
          walk.next();
        }
      }
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (u * V < count) {
#pragma unroll
          for (int v = 0; v < V; ++v) value[u * V + v] = widen(x[u][v]) - origin;
        }
      }
      moments.merge(moments_of(value, count));
    }
    moments = all_merged<kRowThreads>(moments);
    const A mean = moments.number[1] / moments.number[0], variance = moments.number[2] / moments.number[0];
    if (threadIdx.x % kRowThreads == 0) {
      a.mean[statistic] = origin + mean;
      a.variance[statistic] = variance;
    }
    const A inverse = inverse_deviation(variance, a.eps);
    const int64_t channel = statistic % shape.groups * shape.group_channels();
    const bool held = rounds == 1;
    walk = start;
    while (walk.inside()) {
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (walk.inside()) {
          const int64_t at = begin + walk.offset();
          if (!held) x[u] = load_vector<V>(a.x + at);
          const Affine<T, V> w(a.w, A(1), channel, walk.position(), span);
          const Affine<T, V> b(a.b, A(0), channel, walk.position(), span);
          Vector<T, V> y;
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const A h = ((widen(x[u][v]) - origin) - mean) * inverse;
            y[v] = narrow<T>(multiply_add(h, w.value[v], b.value[v]));
          }
          store_vector_global(a.y + at, y);
          walk.next();
        }
      }
    }
  }
}

template <class T>
struct RowsInputGrad {
  ProductsInput<T> in;
  T* dx;         // shape of x, all written
  T* dresidual;  // shape of x, all written, or nullptr
  const T* w;    // [C], or nullptr for ones
  T* dw;         // [C], written where statistics are those of channels, otherwise nullptr
  T* db;         // [C], likewise
};

template <class T, int V, int kRowThreads>
__global__ void __launch_bounds__(NormRowsTile::kThreads, NormRowsTile::kMinBlocks)
    norm_input_grad_rows_kernel(const RowsInputGrad<T> a, const NormShape shape, const Runs runs,
                                const int64_t span) {
  using A = accumulator_t<T>;
  constexpr int kHeld = NormRowsTile::kHeld, kRows = NormRowsTile::kThreads / kRowThreads;
  const int64_t statistic = int64_t{blockIdx.x} * kRows + threadIdx.x / kRowThreads;
  if (statistic < shape.statistics()) {
    const int64_t begin = runs.begin(statistic);
    const int64_t channel = statistic % shape.groups * shape.group_channels();
    const A mean = a.in.mean ? a.in.mean[statistic] : A(0);
    const A inverse = inverse_deviation(a.in.variance[statistic], a.in.eps);
    const Walk start(runs, V, 0, 1, threadIdx.x % kRowThreads, kRowThreads);
    Vector<T, V> dy[kHeld], x[kHeld];
    Products<A> sums;
    const auto load = [&](int u, int64_t at) {
      dy[u] = load_error<V>(a.in.dy, a.in.y, at);
      x[u] = load_vector<V>(a.in.x + at);
    };
    Walk walk = start;
    int64_t rounds = 0;
    for (; walk.inside(); ++rounds) {
      Walk ahead = walk;
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (ahead.inside()) {
          load(u, begin + ahead.offset());
          ahead.next();
        }
      }
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (walk.inside()) {
          const Affine<T, V> w(shape.shared ? nullptr : a.w, A(1), channel, walk.position(), span);
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const A weighted = widen(dy[u][v]) * w.value[v];
            sums.number[0] = multiply_add(widen(dy[u][v]), w.value[v], sums.number[0]);
            sums.number[1] = multiply_add(weighted, (widen(x[u][v]) - mean) * inverse, sums.number[1]);
          }
          walk.next();
        }
      }
    }
    sums = all_merged<kRowThreads>(sums);
    if (a.dw && threadIdx.x % kRowThreads == 0) {
      a.db[channel] = narrow<T>(sums.number[0]);
      a.dw[channel] = narrow<T>(sums.number[1]);
    }
    const A common = (shape.shared && a.w ? widen(a.w[channel]) : A(1)) * inverse / A(shape.values());
    const A slope = common * inverse * sums.number[1], offset = a.in.mean ? common * sums.number[0] : A(0);
    const bool held = rounds == 1;
    walk = start;
    while (walk.inside()) {
#pragma unroll
      for (int u = 0; u < kHeld; ++u) {
        if (walk.inside()) {
          const int64_t at = begin + walk.offset();
          if (!held) load(u, at);
          const Affine<T, V> w(a.w, A(1), channel, walk.position(), span);
          Vector<T, V> dx;
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const A h = widen(x[u][v]) - mean;
            dx[v] = narrow<T>(
                multiply_add(widen(dy[u][v]), w.value[v] * inverse, -multiply_add(h, slope, offset)));
          }
          store_vector_global(a.dx + at, dx);
          if (a.dresidual) store_vector_global(a.dresidual + at, dy[u]);
          walk.next();
        }
      }
    }
  }
}

}  // namespace fastconv
