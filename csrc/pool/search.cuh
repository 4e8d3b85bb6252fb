// search.cuh -- the running maximum and the running sum of a window.
//
// Of equal elements the first counts, of NaNs the last, as in the reference: a candidate wins if it is larger
// or NaN; before any, the maximum is -infinity at the first position. So the winner of two parts depends on
// their values and positions alone, not on the order in which parts meet.
#pragma once
#include "device/numeric.h"

namespace fastconv {

/// The largest element so far and where it lies; At numbers positions, -1 is nowhere.
template <class A, class At>
struct LargestSoFar {
  /// An element that changes nothing wherever it is taken.
  static constexpr A kNeutral = -std::numeric_limits<A>::infinity();
  A value = kNeutral;
  At at;

  /// first: of the positions to come, -1 if there are none.
  __device__ __forceinline__ explicit LargestSoFar(At first) : at(first) {}

  /// The next element, in the order of positions.
  __device__ __forceinline__ void take(A candidate, At position) {
    if (candidate > value || candidate != candidate) {
      value = candidate;
      at = position;
    }
  }

  /// The winner of another part of the window.
  __device__ __forceinline__ void join(const LargestSoFar& other) {
    if (other.at < 0) return;
    const bool nan = value != value, other_nan = other.value != other.value;
    const bool later = other.at > at;
    const bool wins = nan || other_nan ? (nan && other_nan ? later : other_nan)
                                       : (other.value > value || (other.value == value && !later));
    if (at < 0 || wins) *this = other;
  }
};

template <class A, class At>
struct SumSoFar {
  static constexpr A kNeutral = 0;
  A value = kNeutral;

  __device__ __forceinline__ explicit SumSoFar(At) {}
  __device__ __forceinline__ void take(A summand, At) { value += summand; }
  __device__ __forceinline__ void join(const SumSoFar& other) { value += other.value; }
};

}  // namespace fastconv
