// geometry.h -- images, regions and where their bins are sampled: fastconv/boxes.py, rounding by rounding.
//
// Sample i of bin p lies at (start + p * bin) + ((i + 1/2) * bin) / count. In [-1, size] it reads low =
// floor(r), of r at least 0, and the position behind it by their shares; from the last position on, that one
// twice, by 1 and 0.
#pragma once
#include "device/numeric.h"
#include "divisor.h"

namespace fastconv {

/// x [images, planes, D, H, W, lanes] and y [regions, planes, O, P, Q, lanes]: channels are the planes, or
/// the lanes where they lie innermost.
struct Roi {
  int64_t images;
  int64_t regions;
  int64_t planes;
  int64_t lanes;
  int32_t size[3];
  int32_t output[3];
  int32_t missing;  // axes that images lack, in front

  __host__ __device__ int64_t positions() const { return int64_t{size[0]} * size[1] * size[2]; }
  __host__ __device__ int64_t bins() const { return int64_t{output[0]} * output[1] * output[2]; }
};

/// n % size, and n divided by size.
__device__ __forceinline__ int64_t roi_split(int64_t& n, int64_t size) {
  const int64_t whole = n;
  n = quotient(whole, size);
  return whole - n * size;
}

/// What the sample of one axis reads: taps of them, two, or one of an axis that is missing.
template <class Number>
struct RoiTaps {
  int32_t position[2];
  Number share[2];
};

/// One axis of a region.
template <class Number>
struct RoiAxis {
  static constexpr int32_t kFew = 64;  // samples of a bin that are looked at one by one

  Number start;
  Number bin;
  int32_t count;
  int32_t size;

  __device__ __forceinline__ Number at(int32_t p, int32_t i) const {
    const Number base =
        start + multiply_add(Number(p), bin, Number(0));  // no product may be fused with its sum
    return base + multiply_add(Number(i) + Number(0.5), bin, Number(0)) / Number(count);
  }

  /// Whether bin p may have samples in [low, high]; one that has none may pass.
  __device__ __forceinline__ bool may_reach(int32_t p, Number low, Number high) const {
    const Number a = start + multiply_add(Number(p), bin, Number(0));
    const Number b = start + multiply_add(Number(p + 1), bin, Number(0));
    const Number least = a < b ? a : b, most = a < b ? b : a;
    const Number slack = Number(1) + Number(1e-5) * ((most < 0 ? -least : most));
    return most + slack >= low && least - slack <= high;
  }

  /// Samples [first, last) of bin p, all of those in [low, high] among them.
  __device__ __forceinline__ void range(int32_t p, Number low, Number high, int32_t& first,
                                        int32_t& last) const {
    first = 0;
    last = count;
    if (count <= kFew || !(bin > Number(0))) return;
    first = behind(p, low, true);  // they may be millions, of which few lie there
    last = behind(p, high, false);
  }

  /// Positions and shares of a sample at r in [-1, size].
  __device__ __forceinline__ RoiTaps<Number> taps(Number r) const {
    r = r > Number(0) ? r : Number(0);
    const int32_t end = size - 1;
    const int32_t low = static_cast<int32_t>(r) < end ? static_cast<int32_t>(r) : end;
    const Number rest = low < end ? r - Number(low) : Number(0);
    return {{low, low < end ? low + 1 : end}, {Number(1) - rest, rest}};
  }

 private:
  /// The first sample of bin p behind a limit, or at it.
  __device__ int32_t behind(int32_t p, Number limit, bool or_equal) const {
    int32_t low = 0, high = count;
    while (low < high) {
      const int32_t middle = low + (high - low) / 2;
      const Number r = at(p, middle);
      if (r > limit || (or_equal && r == limit)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
};

/// How all regions are sampled.
template <class Number>
struct RoiSamples {
  const int64_t* image;  // [regions], -1 for none
  const Number* start;   // [regions, 3]
  const Number* bin;     // [regions, 3]
  const int32_t* count;  // [regions, 3]

  __device__ __forceinline__ RoiAxis<Number> axis(const Roi& roi, int64_t region, int a) const {
    return {start[3 * region + a], bin[3 * region + a], count[3 * region + a], roi.size[a]};
  }
  /// Samples of a bin, at least 1.
  __device__ __forceinline__ Number samples(int64_t region) const {
    const int32_t* of = count + 3 * region;
    const Number number = Number(of[0]) * Number(of[1]) * Number(of[2]);
    return number > Number(1) ? number : Number(1);
  }
};

/// What the bins of each region cover: positions [begin, end) of bins of all axes, one axis behind the other.
struct RoiCells {
  const int64_t* image;  // [regions], -1 for none
  const int32_t* begin;  // [regions, O + P + Q]
  const int32_t* end;    // like begin

  /// Where bin p of an axis stands.
  __device__ __forceinline__ int64_t at(const Roi& roi, int64_t region, int axis, int64_t p) const {
    const int64_t before = axis == 0 ? 0 : axis == 1 ? roi.output[0] : roi.output[0] + roi.output[1];
    return region * (roi.output[0] + roi.output[1] + roi.output[2]) + before + p;
  }
  __device__ __forceinline__ bool covers(int64_t bin, int32_t position) const {
    return begin[bin] <= position && position < end[bin];
  }
};

}  // namespace fastconv
