// scores.h -- cross-entropy of unnormalised scores with classes: what all of its kernels share.
//
//   lse = log(sum over c of exp(x[c])),  loss = (1 - s) * w[t] * (lse - x[t]) + s / C * sum over c of w[c] *
//   (lse - x[c])
//
// for the scores x[c] of one position, its class t, factors w[c] (ones where there are none) and smoothing s.
// The sum runs once over x, rescaled whenever a larger score is met. Source: Milakov & Gimelshein,
// arXiv:1805.02867.
#pragma once
#include "activation.h"
#include "device/vector.h"

namespace fastconv {

/// One problem: x is [batch, classes, positions], or [batch, positions, classes] where classes are innermost.
struct Scores {
  int64_t batch;
  int64_t classes;
  int64_t positions;
  int64_t ignored;   // the class that does not count
  double smoothing;  // s
  double even;       // s / C

  __host__ __device__ int64_t rows() const { return batch * positions; }
  __host__ __device__ int64_t elements() const { return batch * positions * classes; }
};

__host__ __device__ __forceinline__ float logarithm(float x) { return logf(x); }
__host__ __device__ __forceinline__ double logarithm(double x) { return log(x); }

template <class A>
__device__ __forceinline__ A not_a_number() {
  return A(0) * A(INFINITY);
}

/// The sum of exponentials of the scores so far, less the largest of them.
template <class A>
struct ExponentialSum {
  A largest = -A(INFINITY);
  A total = 0;

  /// What exponents are taken less of: not minus infinity, so that a score of it adds 0 and no NaN.
  __device__ __forceinline__ A shift() const { return largest == -A(INFINITY) ? A(0) : largest; }

  /// Let `most`, which is at least largest or NaN, be the largest.
  __device__ __forceinline__ void rescale(A most) {
    if (most == largest) return;
    total *= exponential(largest - (most == -A(INFINITY) ? A(0) : most));
    largest = most;
  }

  /// Add N scores; the largest is found before the first exponential is taken.
  template <int N>
  __device__ __forceinline__ void add(const A (&x)[N]) {
    A most = largest;
#pragma unroll
    for (int i = 0; i < N; ++i) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    rescale(most);
#pragma unroll
    for (int i = 0; i < N; ++i) total += exponential(x[i] - shift());
  }
};

/// What the loss of one position is made of.
template <class A>
struct Entropy {
  ExponentialSum<A> sum;
  A hit = 0;     // the score of the class
  A pivot = 0;   // the first score, or 0 where that is infinite
  A spread = 0;  // sum of w * (x - pivot), for smoothing

  __device__ __forceinline__ void start(A first) { pivot = first - first == A(0) ? first : A(0); }

  __device__ __forceinline__ A log_sum() const { return sum.shift() + logarithm(sum.total); }

  /// The loss, for the factor of the class and the sum of all factors.
  __device__ __forceinline__ A loss(const Scores& scores, A factor, A factors) const {
    const A log_total = logarithm(sum.total);
    // Differences first: scores may be large beside their entropy.
    const A entropy = factor * (log_total - (hit - sum.largest));
    const A share = static_cast<A>(scores.smoothing);
    if (share == A(0)) return entropy;
    const A all = factors * ((sum.largest - pivot) + log_total) - spread;
    return (A(1) - share) * entropy + static_cast<A>(scores.even) * all;
  }
};

/// What dx of one position is made of: p[c] * whole - even * w[c], less hit at its class.
template <class A>
struct EntropyGrad {
  A log_sum;
  A hit, even, whole;
  int64_t target;

  /// From the position's dloss, logsumexp and class; a class out of range makes its gradient NaN.
  template <class T>
  __device__ __forceinline__ EntropyGrad(const Scores& scores, A dloss, A log_sum, int64_t target,
                                         const T* __restrict__ w, A factors)
      : log_sum(log_sum), target(target) {
    const A share = static_cast<A>(scores.smoothing);
    if (target == scores.ignored) {
      dloss = 0;
    } else if (target < 0 || target >= scores.classes) {
      dloss = not_a_number<A>();
    }
    const bool known = target >= 0 && target < scores.classes && target != scores.ignored;
    const A factor = known && w != nullptr ? widen(w[target]) : A(1);
    if (!known) this->target = -1;
    hit = dloss * ((A(1) - share) * factor);
    even = dloss * static_cast<A>(scores.even);
    whole = hit + even * factors;
  }

  /// dx of the score x of class c, whose factor is w.
  __device__ __forceinline__ A operator()(A x, int64_t c, A w) const {
    const A dx = exponential(x - log_sum) * whole - even * w;
    return c == target ? dx - hit : dx;
  }
};

/// The sum of all factors: that of the weights, which a kernel of its own computed, or the number of classes.
template <class A>
__device__ __forceinline__ A sum_of_factors(const Scores& scores, const A* __restrict__ total) {
  return total == nullptr ? A(scores.classes) : *total;
}

}  // namespace fastconv
