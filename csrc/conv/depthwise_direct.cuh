// depthwise_direct.cuh -- gather of any geometry, without shared memory.
//
//   y[n,c,i] = activation(b[c] + sum over m, r of source[n,s,p] * w[f,r])     see DepthwiseGather for s and f
//
// where p = i * stride - padding + r * dilation forward, and p * stride = i + padding - r * dilation for the
// input gradient: of each axis only the taps are visited that meet a whole position. Meetings outside the
// source are left out. A thread computes four rows of a column for channels first, and a quad of channels for
// channels last: neighbouring threads write neighbours, and what is read again comes from the caches. This
// serves what the tiled kernels do not hold, and strided input gradients. Source: Dumoulin & Visin,
// arXiv:1603.07285.
#pragma once
#include "activation.h"
#include "conv/depthwise_plan.h"
#include "conv/depthwise_quad.cuh"
#include "divisor.h"

namespace fastconv {

struct DepthwiseDirectTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocksPerSm = 4;  // caps registers at 64 a thread
  static constexpr int kRows = 4;            // of the result, of a thread for channels first
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// One axis: which taps and positions of the source an element of the result meets.
struct DepthwiseDirectAxis {
  Divisor stride;
  int32_t size, result, kernel, dilation, padding;
  int32_t step;  // from a tap that is met to the next
  int32_t move;  // and from the one position to the other
  bool transposed;

  /// First tap and its position for element i; no tap where first is not below kernel.
  __device__ __forceinline__ void meet(int32_t i, int32_t& first, int32_t& position) const {
    first = 0;
    position = i * stride.value() - padding;
    if (!transposed) return;
    const int32_t from = i + padding, whole = stride(from), rest = from - whole * stride.value();
    for (; first < min(step, kernel); ++first) {
      const int32_t back = first * dilation, steps = stride(back);
      if (back - steps * stride.value() != rest) continue;
      position = whole - steps;
      return;
    }
    first = kernel;
  }
};

struct DepthwiseDirect {
  DepthwiseDirectAxis axis[3];
  Divisor parts[4];  // how many threads share an image: by channels, and along each axis
  int64_t threads;
  int32_t channels, sources, pairs, divisor;  // as of DepthwiseGather
  bool vectors;                               // whether a thread's channels are loaded and stored at once
};

/// The remainder of rest by divisor; rest becomes the quotient.
__device__ __forceinline__ int32_t take(int64_t& rest, const Divisor& divisor, bool small) {
  const int64_t quotient = small ? divisor(static_cast<int32_t>(rest)) : rest / divisor.value();
  const int32_t remainder = static_cast<int32_t>(rest - quotient * divisor.value());
  rest = quotient;
  return remainder;
}

/// Add the meetings of kRows positions along the second axis from `at` on: in kWide channels if `whole`,
/// otherwise in one.
///
/// source: the plane, its positions `step` elements apart. w: its filter, the next one filter_step elements
/// on.
template <int kWide, int kRows, class T, class A>
__device__ __forceinline__ void add_depthwise_meetings(A (&acc)[kRows][kWide], const T* __restrict__ source,
                                                       const T* __restrict__ w,
                                                       const DepthwiseDirect& problem, const int32_t (&at)[3],
                                                       int64_t step, int64_t filter_step, bool whole) {
  const DepthwiseDirectAxis &depth = problem.axis[0], &row = problem.axis[1], &column = problem.axis[2];
  int32_t first_t, first_d, first_s, first_q;
  depth.meet(at[0], first_t, first_d);
  column.meet(at[2], first_s, first_q);
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (at[1] + i >= row.result) continue;
    int32_t first_r, first_p;
    row.meet(at[1] + i, first_r, first_p);
    int32_t d = first_d;
    for (int32_t t = first_t; t < depth.kernel; t += depth.step, d += depth.move) {
      if (d < 0 || d >= depth.size) continue;
      int32_t p = first_p;
      for (int32_t r = first_r; r < row.kernel; r += row.step, p += row.move) {
        if (p < 0 || p >= row.size) continue;
        const T* line = source + (int64_t{d} * row.size + p) * column.size * step;
        const T* taps = w + (int64_t{t} * row.kernel + r) * column.kernel;
        int32_t q = first_q;
        for (int32_t s = first_s; s < column.kernel; s += column.step, q += column.move) {
          if (q < 0 || q >= column.size) continue;
          if (kWide > 1 && whole) {
            const Vector<T, kWide> value = load_vector<kWide>(line + q * step);
#pragma unroll
            for (int k = 0; k < kWide; ++k) {
              acc[i][k] = multiply_add(widen(value[k]), widen(taps[s + k * filter_step]), acc[i][k]);
            }
          } else {
            acc[i][0] = multiply_add(widen(line[q * step]), widen(taps[s]), acc[i][0]);
          }
        }
      }
    }
  }
}

template <class T, bool kLast>
__global__ void __launch_bounds__(DepthwiseDirectTile::kThreads, DepthwiseDirectTile::kMinBlocksPerSm)
    depthwise_gather_direct_kernel(const T* __restrict__ x,  // [N, sources, *size]
                                   const T* __restrict__ w,  // [max(sources, channels), *kernel]
                                   const T* __restrict__ b,  // [channels], or nullptr
                                   T* __restrict__ y,        // [N, channels, *result], all written
                                   const DepthwiseDirect problem, const Activation activation) {
  using A = accumulator_t<T>;
  constexpr int kWide = kLast ? kRun<A> : 1, kRows = kLast ? 1 : DepthwiseDirectTile::kRows;
  int64_t rest = int64_t{blockIdx.x} * DepthwiseDirectTile::kThreads + threadIdx.x;
  if (rest >= problem.threads) return;
  const bool small = problem.threads <= INT32_MAX;
  int32_t channel = 0, at[3];
  if (kLast) channel = take(rest, problem.parts[3], small) * (problem.vectors ? kWide : 1);
  for (int i = 2; i >= 0; --i) at[i] = take(rest, problem.parts[i], small);
  at[1] *= kRows;
  if (!kLast) channel = take(rest, problem.parts[3], small);

  const auto positions = [&](bool of_source) {
    int64_t product = 1;
    for (const DepthwiseDirectAxis& axis : problem.axis) product *= of_source ? axis.size : axis.result;
    return product;
  };
  const int64_t taps = int64_t{problem.axis[0].kernel} * problem.axis[1].kernel * problem.axis[2].kernel;
  const int32_t first = channel / problem.divisor * problem.pairs;
  A acc[kRows][kWide] = {};
  for (int m = 0; m < problem.pairs; ++m) {
    const int64_t plane = rest * problem.sources + first + m;
    const T* source =
        kLast ? x + rest * problem.sources * positions(true) + first + m : x + plane * positions(true);
    const int64_t filter = problem.sources > problem.channels ? first + m : channel;
    add_depthwise_meetings<kWide>(acc, source, w + filter * taps, problem, at, kLast ? problem.sources : 1,
                                  taps, problem.vectors);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (at[1] + i >= problem.axis[1].result) continue;
    const int64_t position =
        (int64_t{at[0]} * problem.axis[1].result + at[1] + i) * problem.axis[2].result + at[2];
    T* to = kLast ? y + (rest * positions(false) + position) * problem.channels + channel
                  : y + (rest * problem.channels + channel) * positions(false) + position;
    Vector<T, kWide> out;
#pragma unroll
    for (int k = 0; k < kWide; ++k) {
      if (k > 0 && !problem.vectors) continue;
      const A bias = b ? widen(b[channel + k]) : A(0);
      out[k] = narrow<T>(activate(acc[i][k] + bias, activation));
    }
    if (kWide > 1 && problem.vectors) {
      store_vector(to, out);
    } else {
      *to = out[0];
    }
  }
}

}  // namespace fastconv
