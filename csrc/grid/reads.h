// reads.h -- what a point of a grid reads on each axis: fastconv/grid.py, rounding by rounding.
//
// On an axis of `size` positions, coordinate c lies at r = (c + 1) * half + shift, which "border" and
// "reflection" move into the image. It reads the position that r rounds to, or floor(r) and the one behind
// it, or four around it; -1 stands for outside, where there are zeros. Sources: fastconv/grid.py.
#pragma once
#include "device/numeric.h"
#include "divisor.h"

namespace fastconv {

enum class GridMode : int { kNearest = 0, kBilinear = 1, kBicubic = 2 };
enum class GridPadding : int { kZeros = 0, kBorder = 1, kReflection = 2 };

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

  /// Positions of an axis that a point reads, and of the image.
  __host__ __device__ int32_t taps() const {
    return mode == GridMode::kNearest ? 1 : mode == GridMode::kBilinear ? 2 : 4;
  }
  __host__ __device__ int32_t reads() const { return axes == 3 ? taps() * taps() * taps() : taps() * taps(); }
  __host__ __device__ int64_t volume() const { return int64_t{axis[0].size} * axis[1].size * axis[2].size; }
  /// Steps to the next image, channel and position: of images, and of points where volume is points.
  __host__ __device__ int64_t channel_step(int64_t positions) const { return last ? 1 : positions; }
  __host__ __device__ int64_t position_step() const { return last ? channels : 1; }
};

/// Which of `size` numbers an index counts fastest; the index becomes that of the slower ones.
__host__ __device__ __forceinline__ int64_t split_fastest(int64_t& index, int64_t size) {
  const int64_t whole = index;
  index = quotient(whole, size);
  return whole - index * size;
}

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

/// A weight of a position, differentiated `order` times; k counts the positions, t is r - floor(r).
template <class Number>
__host__ __device__ __forceinline__ Number read_weight(GridMode mode, int order, int k, Number t,
                                                       Number moves) {
  if (mode == GridMode::kNearest) return order == 0 ? Number(1) : Number(0);
  if (mode == GridMode::kBilinear) {
    if (order == 0) return k == 0 ? Number(1) - t : t;
    return order > 1 ? t - t : k == 0 ? -moves : moves;
  }
  // The polynomials of CUBIC in fastconv/grid.py: the last two positions mirror the first two.
  const bool mirrored = k > 1, near = k == 1 || k == 2;
  Number result = cubic(order, Number(near ? 1 : 0), Number(near ? 0 : -0.75), Number(near ? -2.25 : 1.5),
                        Number(near ? 1.25 : -0.75), mirrored ? Number(1) - t : t);
  for (int i = 0; i < order; ++i) result *= mirrored ? -moves : moves;
  return result;
}

/// What a point reads on each axis, in shared memory: a column of a thread's own, so that loops over it need
/// no registers for what they do not use, and no barrier. Pointers are to [kRows][Threads].
template <class Number, int Threads>
struct PointReads {
  static constexpr int kRows = 8;  // four of two axes, or two of three
  int32_t (*position)[Threads];    // -1 outside
  Number (*weight)[Threads];       // differentiated `order` times
  Number (*slope)[Threads];        // and once more; may be nullptr
  int column;

  /// First row of an axis.
  static __device__ __forceinline__ int row(const GridSampling& sampling, int axis) {
    return (axis - 3 + sampling.axes) * sampling.taps();
  }

  /// Fill it for the point whose coordinates `grid` points to.
  template <class T>
  __device__ __forceinline__ void find(const GridSampling& sampling, const T* __restrict__ grid) const {
    for (int axis = 3 - sampling.axes; axis < 3; ++axis) {
      // Not indexed, which would copy all of the parameters to local memory.
      const GridAxis a = axis == 0 ? sampling.axis[0] : axis == 1 ? sampling.axis[1] : sampling.axis[2];
      Number moves;
      const Number r = locate<Number>(sampling, a.size, widen(grid[2 - axis]), moves);
      const bool nearest = sampling.mode == GridMode::kNearest, bicubic = sampling.mode == GridMode::kBicubic;
      const Number low = nearest ? round_even(r) : round_down(r), t = r - low;
      const int first = row(sampling, axis);
      for (int k = 0; k < sampling.taps(); ++k) {
        Number at = low + Number(bicubic ? k - 1 : k);
        if (bicubic && sampling.padding != GridPadding::kZeros) {
          Number unused = 1;
          move_inside(sampling, a.size, at, unused);
        }
        position[first + k][column] = whole(at, a.size);
        weight[first + k][column] = read_weight(sampling.mode, a.order, k, t, moves);
        if (slope) slope[first + k][column] = read_weight(sampling.mode, a.order + 1, k, t, moves);
      }
    }
  }

  /// visit(place, weight, i, j, k) of every position that is read: place in the flattened image or -1, and
  /// the rows of D, H and W.
  template <class Visit>
  __device__ __forceinline__ void for_each(const GridSampling& sampling, Visit visit) const {
    const bool deep = sampling.axes == 3;
    const int taps = sampling.taps(), rows = row(sampling, 1), columns = row(sampling, 2);
    for (int i = 0; i < (deep ? taps : 1); ++i) {
      const int32_t d = deep ? position[i][column] : 0;
      const Number depth = deep ? weight[i][column] : Number(1);
      for (int j = rows; j < rows + taps; ++j) {
        const int32_t h = position[j][column];
        const Number share = depth * weight[j][column];
        for (int k = columns; k < columns + taps; ++k) {
          const int32_t w = position[k][column];
          const bool outside = d < 0 || h < 0 || w < 0;
          if (outside && deep)
            continue;  // with two axes it is a zero that is weighted, as in PyTorch on a CPU
          const int64_t place = (int64_t{d} * sampling.axis[1].size + h) * sampling.axis[2].size + w;
          visit(outside ? int64_t{-1} : place, share * weight[k][column], i, j, k);
        }
      }
    }
  }
};

}  // namespace fastconv
