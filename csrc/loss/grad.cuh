// grad.cuh -- the gradient of cross-entropy with respect to the scores.
//
//   p[c] = exp(x[c] - lse),  k[c] = (1 - s) * w[t] * (c == t) + s / C * w[c],  dx[c] = dloss * (p[c] * sum of
//   k - k[c])
#pragma once
#include "device/warp.h"
#include "loss/scores.h"

namespace fastconv {

struct CrossEntropyGradTile {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocksPerSm =
      8;                               // allows 64 registers: without it the compiler spills some of doubles
  static constexpr int kClasses = 32;  // that one thread walks over, channels first
  static constexpr int64_t kEnough = 1 << 16;  // threads, below which each takes a single position
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// Classes innermost: V scores a thread, which may lie in several rows. The tensor is one long row of them.
template <class T, int V, class Tile = CrossEntropyGradTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    cross_entropy_grad_rows_kernel(const accumulator_t<T>* __restrict__ dloss,      // [rows]
                                   const T* __restrict__ x,                         // [rows, C]
                                   const accumulator_t<T>* __restrict__ logsumexp,  // [rows]
                                   const int64_t* __restrict__ target,              // [rows]
                                   const T* __restrict__ w,                         // [C], or nullptr
                                   const accumulator_t<T>* __restrict__ total,  // [1] sum of w, or nullptr
                                   T* __restrict__ dx,                          // [rows, C], all written
                                   const Scores scores) {
  using A = accumulator_t<T>;
  const int64_t first = (int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x) * V;
  const int64_t elements = scores.elements();
  if (first >= elements) return;
  int64_t row = first / scores.classes, c = first % scores.classes;
  const A factors = sum_of_factors(scores, total);
  EntropyGrad<A> grad(scores, dloss[row], logsumexp[row], target[row], w, factors);
  const bool weighted = scores.smoothing != 0 && w != nullptr;
  const auto next = [&](A value) {
    if (c == scores.classes) {
      c = 0;
      ++row;
      grad = EntropyGrad<A>(scores, dloss[row], logsumexp[row], target[row], w, factors);
    }
    const A result = grad(value, c, weighted ? widen(w[c]) : A(1));
    ++c;
    return narrow<T>(result);
  };
  if (first + V <= elements) {
    Vector<T, V> value = load_vector<V>(x + first);
#pragma unroll
    for (int v = 0; v < V; ++v) value[v] = next(widen(value[v]));
    store_vector_global(dx + first, value);
  } else {
    for (int64_t i = first; i < elements; ++i) dx[i] = next(widen(x[i]));
  }
}

/// Positions innermost: one thread walks over some classes of V positions.
template <class T, int V, class Tile = CrossEntropyGradTile>
__global__ void __launch_bounds__(Tile::kThreads)
    cross_entropy_grad_planes_kernel(const accumulator_t<T>* __restrict__ dloss,      // [N, positions]
                                     const T* __restrict__ x,                         // [N, C, positions]
                                     const accumulator_t<T>* __restrict__ logsumexp,  // [N, positions]
                                     const int64_t* __restrict__ target,              // [N, positions]
                                     const T* __restrict__ w,                         // [C], or nullptr
                                     const accumulator_t<T>* __restrict__ total,  // [1] sum of w, or nullptr
                                     T* __restrict__ dx,  // [N, C, positions], all written
                                     const Scores scores, const unsigned blocks_a_plane,
                                     const unsigned parts) {
  using A = accumulator_t<T>;
  // A block serves some positions of some classes of one image, counted in this order.
  const unsigned rest = blockIdx.x / blocks_a_plane;
  const int64_t position = (int64_t{blockIdx.x % blocks_a_plane} * Tile::kThreads + threadIdx.x) * V;
  if (position >= scores.positions) return;
  const int64_t low = int64_t{rest % parts} * Tile::kClasses;
  const int64_t high = low + Tile::kClasses < scores.classes ? low + Tile::kClasses : scores.classes;
  const int64_t first = rest / parts * scores.positions + position;
  const int64_t image = rest / parts * scores.classes * scores.positions + position;
  const bool weighted = scores.smoothing != 0 && w != nullptr;
  const A factors = sum_of_factors(scores, total);
  A log_sum[V], hit[V], even[V], whole[V];
  int64_t t[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const EntropyGrad<A> grad(scores, dloss[first + v], logsumexp[first + v], target[first + v], w, factors);
    log_sum[v] = grad.log_sum, hit[v] = grad.hit, even[v] = grad.even, whole[v] = grad.whole,
    t[v] = grad.target;
  }
  for (int64_t c = low; c < high; ++c) {
    Vector<T, V> value = load_vector<V>(x + image + c * scores.positions);
    const A factor = weighted ? widen(w[c]) : A(1);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A part = exponential(widen(value[v]) - log_sum[v]) * whole[v] - even[v] * factor;
      value[v] = narrow<T>(c == t[v] ? part - hit[v] : part);
    }
    store_vector_global(dx + image + c * scores.positions, value);
  }
}

/// The sum of the factors of all classes, by one block in a fixed order.
template <class T, class Tile = CrossEntropyGradTile>
__global__ void __launch_bounds__(Tile::kThreads)
    cross_entropy_weight_sum_kernel(const T* __restrict__ w,               // [C]
                                    accumulator_t<T>* __restrict__ total,  // [1], written
                                    const int64_t classes) {
  accumulator_t<T> sum = 0;
  for (int64_t c = threadIdx.x; c < classes; c += Tile::kThreads) sum += widen(w[c]);
  sum = block_sum<Tile::kThreads>(sum);
  if (threadIdx.x == 0) *total = sum;
}

}  // namespace fastconv
