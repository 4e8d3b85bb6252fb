// overlap.h -- intersection over union of two boxes, rounding by rounding as fastconv/reference/nms.py.
//
//   side  = max(min(b1, b2) - max(a1, a2), 0) on each axis, 0 where that is NaN
//   inter = the product of the sides,  overlap = inter / (area1 + area2 - inter)
//
// A pair may lie at the threshold, so that products must not be contracted with what follows them: product().
#pragma once
#include "device/numeric.h"

namespace fastconv {

constexpr int kNmsBlock = 64;  // boxes whose outcomes one word holds

/// a * b, rounded by itself: nvcc would fuse a plain product with a subtraction of it.
template <class T>
__device__ __forceinline__ T product(T a, T b) {
  return multiply_add(a, b, T(0));
}

/// A box: the corners of its smallest and largest coordinates, its area and its category.
template <class T, int kAxes>
struct NmsBox {
  T corner[2 * kAxes];
  T area;
  int64_t group;

  /// Box `at` of corners [2 * kAxes, count] and groups [count], or nullptr for one category.
  __device__ __forceinline__ void read(const T* __restrict__ corners, const int64_t* __restrict__ groups,
                                       int64_t count, int64_t at) {
#pragma unroll
    for (int i = 0; i < 2 * kAxes; ++i) corner[i] = corners[i * count + at];
    area = corner[kAxes] - corner[0];
#pragma unroll
    for (int axis = 1; axis < kAxes; ++axis) area = product(area, corner[kAxes + axis] - corner[axis]);
    group = groups == nullptr ? 0 : groups[at];
  }

  /// Whether both belong to one category and overlap by more than the threshold.
  __device__ __forceinline__ bool overlaps(const NmsBox& other, T threshold) const {
    T inter = side(other, 0);
#pragma unroll
    for (int axis = 1; axis < kAxes; ++axis) inter = product(inter, side(other, axis));
    return inter / ((area + other.area) - inter) > threshold && group == other.group;
  }

 private:
  __device__ __forceinline__ T side(const NmsBox& other, int axis) const {
    const T low = corner[axis] > other.corner[axis] ? corner[axis] : other.corner[axis];
    const T mine = corner[kAxes + axis], theirs = other.corner[kAxes + axis];
    const T length = (mine < theirs ? mine : theirs) - low;
    return length > T(0) ? length : T(0);
  }
};

/// So many boxes, from the best to the worst; blocks of them are rows and columns of the matrix of overlaps.
/// One pass sees the rows of the blocks [first, first + rows), and of them the columns from `first` on.
struct NmsPass {
  int64_t count;
  int64_t first;
  int64_t rows;

  __host__ __device__ int64_t blocks() const { return (count + kNmsBlock - 1) / kNmsBlock; }
  __host__ __device__ int64_t columns() const { return blocks() - first; }
  /// Word of a box of a pass, counted from its first one, and a column, counted from `first`.
  __host__ __device__ int64_t word(int64_t box, int64_t column) const {
    return column * rows * kNmsBlock + box;
  }
};

}  // namespace fastconv
