// forward.cuh -- loss and logsumexp of scores; formulas in scores.h.
#pragma once
#include "device/warp.h"
#include "loss/scores.h"

namespace fastconv {

struct CrossEntropyRowsTile {
  static constexpr int kThreads = 256;  // of a block; or all of one row
  static constexpr int kMinBlocksPerSm =
      4;  // allows 64 registers: without it the compiler spills some of doubles
  static constexpr int kLongRow = 1024;  // accesses: from there on a whole block serves one row
  static_assert(kThreads % kWarp == 0 && (kThreads & (kThreads - 1)) == 0,
                "halved among the rows of a block");
};

/// Logarithm of how many threads share a row that takes so many accesses: up to a warp, or a block.
inline int cross_entropy_log2_lanes(int64_t accesses) {
  const int64_t most = accesses >= CrossEntropyRowsTile::kLongRow ? CrossEntropyRowsTile::kThreads : kWarp;
  int log2_lanes = 0;
  while ((1 << log2_lanes) < most && (1 << log2_lanes) < accesses) ++log2_lanes;
  return log2_lanes;
}

/// combine() of value over the lanes of a row, in all of them; every thread of the block calls.
template <class Tile, class A, class Combine>
__device__ __forceinline__ A reduce_row(A value, int lanes, Combine combine) {
  if (lanes > kWarp) return block_reduce<Tile::kThreads>(value, combine);
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

/// Classes innermost: 2 ** log2_lanes threads a row, V scores at once.
template <class T, int V, class Tile = CrossEntropyRowsTile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocksPerSm)
    cross_entropy_forward_rows_kernel(const T* __restrict__ x,                     // [rows, C]
                                      const int64_t* __restrict__ target,          // [rows]
                                      const T* __restrict__ w,                     // [C], or nullptr
                                      const accumulator_t<T>* __restrict__ total,  // [1] sum of w, or nullptr
                                      accumulator_t<T>* __restrict__ loss,         // [rows], all written
                                      accumulator_t<T>* __restrict__ logsumexp,    // [rows], all written
                                      const Scores scores, const int log2_lanes) {
  using A = accumulator_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  const int64_t row = thread >> log2_lanes;
  const int lanes = 1 << log2_lanes;
  const int lane = static_cast<int>(thread & (lanes - 1));
  const bool inside = row < scores.rows();
  const int64_t t = inside ? target[row] : 0;
  Entropy<A> entropy;
  if (inside) {
    x += row * scores.classes;
    if (scores.even != 0) entropy.start(widen(x[0]));  // not without a class
    for (int64_t c = int64_t{lane} * V; c < scores.classes; c += int64_t{lanes} * V) {
      const Vector<T, V> read = load_vector<V>(x + c);
      A value[V];
#pragma unroll
      for (int v = 0; v < V; ++v) value[v] = widen(read[v]);
      entropy.sum.add(value);
      // Found on the way: neighbouring lanes would gather the scores of their classes from a sector each.
#pragma unroll
      for (int v = 0; v < V; ++v) entropy.hit = c + v == t ? value[v] : entropy.hit;
      if (scores.smoothing == 0) continue;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A factor = w == nullptr ? A(1) : widen(w[c + v]);
        entropy.spread += factor * (value[v] - entropy.pivot);
      }
    }
  }
  entropy.sum.rescale(reduce_row<Tile>(entropy.sum.largest, lanes, Maximum{}));
  entropy.sum.total = reduce_row<Tile>(entropy.sum.total, lanes, Sum{});
  entropy.hit = reduce_row<Tile>(entropy.hit, lanes, Sum{});
  if (scores.smoothing != 0) entropy.spread = reduce_row<Tile>(entropy.spread, lanes, Sum{});
  if (!inside || lane != 0) return;
  logsumexp[row] = entropy.log_sum();
  if (t == scores.ignored) {
    loss[row] = 0;
  } else if (t < 0 || t >= scores.classes) {
    loss[row] = not_a_number<A>();
  } else {
    loss[row] = entropy.loss(scores, w == nullptr ? A(1) : widen(w[t]), sum_of_factors(scores, total));
  }
}

struct CrossEntropyPlanesTile {
  static constexpr int kThreads = 256;         // V positions each; neighbours read neighbours
  static constexpr int kUnroll = 4;            // classes that are read before the first of them is needed
  static constexpr int64_t kEnough = 1 << 16;  // threads, below which each takes a single position
};

/// Positions innermost: one thread walks over the classes of V positions.
template <class T, int V, class Tile = CrossEntropyPlanesTile>
__global__ void __launch_bounds__(Tile::kThreads) cross_entropy_forward_planes_kernel(
    const T* __restrict__ x,                     // [N, C, positions]
    const int64_t* __restrict__ target,          // [N, positions]
    const T* __restrict__ w,                     // [C], or nullptr
    const accumulator_t<T>* __restrict__ total,  // [1] sum of w, or nullptr
    accumulator_t<T>* __restrict__ loss,         // [N, positions], all written
    accumulator_t<T>* __restrict__ logsumexp,    // [N, positions], all written
    const Scores scores, const unsigned blocks_an_image) {
  using A = accumulator_t<T>;
  constexpr int kUnroll = Tile::kUnroll;
  const int64_t image = blockIdx.x / blocks_an_image;
  const int64_t position = (int64_t{blockIdx.x % blocks_an_image} * Tile::kThreads + threadIdx.x) * V;
  if (position >= scores.positions) return;
  const int64_t first = image * scores.positions + position;
  x += image * scores.classes * scores.positions + position;
  int64_t t[V];
#pragma unroll
  for (int v = 0; v < V; ++v) t[v] = target[first + v];
  Entropy<A> entropy[V];
  {
    const Vector<T, V> read = load_vector<V>(x);
#pragma unroll
    for (int v = 0; v < V; ++v) entropy[v].start(widen(read[v]));
  }
  const auto take = [&](int64_t c, A factor, int v, A value) {
    if (c == t[v]) entropy[v].hit = value;
    entropy[v].spread += factor * (value - entropy[v].pivot);
  };
  const auto factor_of = [&](int64_t c) {
    return scores.smoothing == 0 ? A(0) : w == nullptr ? A(1) : widen(w[c]);
  };
  int64_t c = 0;
  for (; c + kUnroll <= scores.classes; c += kUnroll) {
    Vector<T, V> read[kUnroll];
    A factor[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      read[u] = load_vector<V>(x + (c + u) * scores.positions);
      factor[u] = factor_of(c + u);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      A value[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        value[u] = widen(read[u][v]);
        take(c + u, factor[u], v, value[u]);
      }
      entropy[v].sum.add(value);
    }
  }
  for (; c < scores.classes; ++c) {
    const Vector<T, V> read = load_vector<V>(x + c * scores.positions);
    const A factor = factor_of(c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A value[1] = {widen(read[v])};
      take(c, factor, v, value[0]);
      entropy[v].sum.add(value);
    }
  }
  const A factors = sum_of_factors(scores, total);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    logsumexp[first + v] = entropy[v].log_sum();
    if (t[v] == scores.ignored) {
      loss[first + v] = 0;
    } else if (t[v] < 0 || t[v] >= scores.classes) {
      loss[first + v] = not_a_number<A>();
    } else {
      loss[first + v] = entropy[v].loss(scores, w == nullptr ? A(1) : widen(w[t[v]]), factors);
    }
  }
}

}  // namespace fastconv
