// copy.cuh -- copy of an array of any strides into C order.
//
//   y[i0, i1, ...] = x[i0 * s0 + i1 * s1 + ...],  y dense in C order
//
// CuPy would compile such a copy at run time, for which its bare wheel lacks the compiler.
#pragma once
#include "device/vector.h"

namespace fastconv {

constexpr int kCopyAxes = 8;

/// Shape of an array and its strides in elements, which may be negative or 0; the first `axes` count.
struct Strided {
  int axes;
  int64_t size[kCopyAxes];
  int64_t stride[kCopyAxes];
  __host__ __device__ int64_t elements() const {
    int64_t product = 1;
    for (int axis = 0; axis < axes; ++axis) product *= size[axis];
    return product;
  }
};

struct LayoutCopyTile {
  static constexpr int kThreads = 256;  // one element each; neighbours write neighbours
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// Elements are kParts of T, moved in one access. Index is uint32_t where it can count them all, as its
/// divisions take a fraction of those of 64 bits.
template <class T, int kParts, class Index>
__global__ void __launch_bounds__(LayoutCopyTile::kThreads)
    layout_copy_kernel(const T* __restrict__ x,  // strided
                       T* __restrict__ y,        // dense, all written
                       const Strided shape) {
  const int64_t i = int64_t{blockIdx.x} * LayoutCopyTile::kThreads + threadIdx.x;
  if (i >= shape.elements()) return;
  Index rest = static_cast<Index>(i);
  int64_t offset = 0;
  for (int axis = shape.axes - 1; axis > 0; --axis) {
    const Index size = static_cast<Index>(shape.size[axis]);
    const Index above = rest / size;
    offset += static_cast<int64_t>(rest - above * size) * shape.stride[axis];
    rest = above;
  }
  offset += static_cast<int64_t>(rest) * shape.stride[0];
  store_vector(y + i * kParts, load_vector<kParts>(x + offset * kParts));
}

}  // namespace fastconv
