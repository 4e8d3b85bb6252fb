// reads.h -- what a point of a grid reads on each axis: fastconv/grid.py, rounding by rounding.
//
// On an axis of `size` positions, coordinate c lies at r = (c + 1) * half + shift, which "border" and
// "reflection" move into the image. It reads the position that r rounds to, or floor(r) and the one behind
// it, or four around it; -1 stands for outside, where there are zeros. Sources: fastconv/grid.py.
#pragma once
#include "device/numeric.h"

namespace fastconv {

enum class GridMode : int { kNearest = 0, kBilinear = 1, kBicubic = 2 };
enum class GridPadding : int { kZeros = 0, kBorder = 1, kReflection = 2 };

/// Positions of an axis that a point reads: K of the templates below.
constexpr int kNearestTaps = 1, kBilinearTaps = 2, kBicubicTaps = 4;

/// One axis, and how often weights are differentiated by its coordinate.
struct GridAxis {
  int32_t size;
  int32_t order;
};

/// One problem. Images are [batch, channels, D, H, W] or [batch, D, H, W, channels], points [batch, points]
/// of `axes` coordinates each, that of W first. With two axes D is 1 and has no coordinate.
struct GridSampling {
  int64_t batch, channels, points;
  GridAxis axis[3];
  int32_t axes;
  GridMode mode;
  GridPadding padding;
  bool aligned;  // -1 and 1 are the centres of the outer positions
  bool last;     // channels are innermost

  __host__ __device__ int64_t volume() const { return int64_t{axis[0].size} * axis[1].size * axis[2].size; }
  /// Steps to the next image, channel and position: of images, and of points where volume is points.
  __host__ __device__ int64_t channel_step(int64_t positions) const { return last ? 1 : positions; }
  __host__ __device__ int64_t position_step() const { return last ? channels : 1; }
};

__host__ __device__ __forceinline__ float round_down(float r) { return floorf(r); }
__host__ __device__ __forceinline__ double round_down(double r) { return floor(r); }
__host__ __device__ __forceinline__ float round_even(float r) { return rintf(r); }
__host__ __device__ __forceinline__ double round_even(double r) { return rint(r); }
__host__ __device__ __forceinline__ float rest_of(float r, float span) { return fmodf(r, span); }
__host__ __device__ __forceinline__ double rest_of(double r, double span) { return fmod(r, span); }

/// Move r into the image; moves is multiplied by the derivative of that. NaN goes to the first position.
template <class Number>
__host__ __device__ __forceinline__ void move_inside(const GridSampling& sampling, int32_t size, Number& r,
                                                     Number& moves) {
  const Number last = Number(size - 1);
  if (sampling.padding == GridPadding::kReflection) {
    const Number edge = sampling.aligned ? Number(0) : Number(-0.5);
    const Number span = Number(2) * (sampling.aligned ? last : Number(size));
    Number way = r - edge;
    if (way < Number(0)) {
      way = -way;
      moves = -moves;
    }
    if (!(way < span)) way = rest_of(way, span);  // NaN too where span is 0: the first position
    const Number back = span - way;
    if (way > back) {
      way = back;
      moves = -moves;
    }
    r = way + edge;
  }
  if (!(r > Number(0)) || !(r < last)) moves = 0;
  r = r > Number(0) ? (r < last ? r : last) : Number(0);
}

/// Where a coordinate lies, and the derivative of that by the coordinate.
template <class Number>
__host__ __device__ __forceinline__ Number locate(const GridSampling& sampling, int32_t size, Number c,
                                                  Number& moves) {
  const Number half = Number(sampling.aligned ? size - 1 : size) / Number(2);
  // fma also where nothing is added: the compiler must not contract the product with a later difference. With
  // three axes the product is rounded before the difference.
  const bool once = !sampling.aligned && sampling.axes == 2;
  Number r = multiply_add(c + Number(1), half, once ? Number(-0.5) : Number(0));
  if (!sampling.aligned && !once) r -= Number(0.5);
  moves = half;
  if (sampling.mode != GridMode::kBicubic && sampling.padding != GridPadding::kZeros) {
    move_inside(sampling, size, r, moves);
  }
  return r;
}

/// A whole position as an integer, -1 outside. Compared first: it need not fit 32 bits.
template <class Number>
__host__ __device__ __forceinline__ int32_t whole(Number r, int32_t size) {
  return r >= Number(0) && r <= Number(size - 1) ? static_cast<int32_t>(r) : -1;
}

/// A derivative of a cubic polynomial at t; coefficients, constant first.
template <class Number>
__host__ __device__ __forceinline__ Number cubic(int order, Number a, Number b, Number c, Number d,
                                                 Number t) {
  for (int i = 0; i < order; ++i) {
    a = b;
    b = c * Number(2);
    c = d * Number(3);
    d = 0;
  }
  return multiply_add(multiply_add(multiply_add(d, t, c), t, b), t, a);
}

/// What a point reads on one axis.
template <class Number, int K>
struct AxisReads {
  int32_t position[K];  // -1 outside
  Number weight[K];     // differentiated `order` times
  Number slope[K];      // and once more

  /// With kSlopes the slopes are set as well.
  template <bool kSlopes>
  __host__ __device__ __forceinline__ void find(const GridSampling& sampling, const GridAxis& axis,
                                                Number c) {
    Number moves;
    Number r = locate(sampling, axis.size, c, moves);
    if constexpr (K == kNearestTaps) {
      position[0] = whole(round_even(r), axis.size);
      weight[0] = axis.order == 0 ? Number(1) : Number(0);
      if (kSlopes) slope[0] = 0;
    } else {
      const Number low = round_down(r), t = r - low;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        Number at = low + Number(K == kBicubicTaps ? k - 1 : k);
        if (K == kBicubicTaps && sampling.padding != GridPadding::kZeros) {
          Number unused = 1;
          move_inside(sampling, axis.size, at, unused);
        }
        position[k] = whole(at, axis.size);
        weight[k] = value(axis.order, k, t, moves);
        if (kSlopes) slope[k] = value(axis.order + 1, k, t, moves);
      }
    }
  }

 private:
  static __host__ __device__ __forceinline__ Number value(int order, int k, Number t, Number moves) {
    if (K == kBilinearTaps) {
      if (order == 0) return k == 0 ? Number(1) - t : t;
      return order > 1 ? t - t : k == 0 ? -moves : moves;
    }
    // The polynomials of CUBIC in fastconv/grid.py: the last two positions mirror the first two.
    const bool mirrored = k > 1;
    const Number at = mirrored ? Number(1) - t : t;
    Number result = k == 1 || k == 2 ? cubic(order, Number(1), Number(0), Number(-2.25), Number(1.25), at)
                                     : cubic(order, Number(0), Number(-0.75), Number(1.5), Number(-0.75), at);
    for (int i = 0; i < order; ++i) result *= mirrored ? -moves : moves;
    return result;
  }
};

/// What a point reads: for each position visit(place, weight, tap numbers of the three axes), place in the
/// flattened image or -1.
template <class Number, int K>
struct PointReads {
  AxisReads<Number, K> axis[3];

  /// Of the point whose coordinates `grid` points to.
  template <bool kSlopes, class T>
  __host__ __device__ __forceinline__ void find(const GridSampling& sampling, const T* __restrict__ grid) {
    axis[2].template find<kSlopes>(sampling, sampling.axis[2], widen(grid[0]));
    axis[1].template find<kSlopes>(sampling, sampling.axis[1], widen(grid[1]));
    if (sampling.axes == 3) axis[0].template find<kSlopes>(sampling, sampling.axis[0], widen(grid[2]));
  }

  template <class Visit>
  __host__ __device__ __forceinline__ void for_each(const GridSampling& sampling, Visit visit) const {
#pragma unroll
    for (int i = 0; i < (K == kBicubicTaps ? 1 : K); ++i) {
      const bool deep = sampling.axes == 3;
      if (i > 0 && !deep) continue;
      const int32_t d = deep ? axis[0].position[i] : 0;
      const Number share = deep ? axis[0].weight[i] : Number(1);
#pragma unroll
      for (int j = 0; j < K; ++j) {
        const int32_t h = axis[1].position[j];
#pragma unroll
        for (int k = 0; k < K; ++k) {
          const int32_t w = axis[2].position[k];
          const bool outside = d < 0 || h < 0 || w < 0;
          if (outside && deep)
            continue;  // with two axes it is a zero that is weighted, as in PyTorch on a CPU
          const int64_t place = (int64_t{d} * sampling.axis[1].size + h) * sampling.axis[2].size + w;
          visit(outside ? int64_t{-1} : place, share * axis[1].weight[j] * axis[2].weight[k], i, j, k);
        }
      }
    }
  }
};

}  // namespace fastconv
