// copy.cuh -- copy of an array of any strides into C order.
//
//   y[i0, i1, ..., i4] = x[i0 * s0 + i1 * s1 + ... + i4 * s4],  y dense in C order
//
// CuPy would compile such a copy at run time, for which its bare wheel lacks the compiler.
#pragma once
#include "device/numeric.h"

namespace fastconv {

constexpr int kCopyAxes = 5;

/// Shape of an array and its strides in elements, which may be negative or 0; unused leading axes have
/// size 1.
struct Strided {
  int64_t size[kCopyAxes];
  int64_t stride[kCopyAxes];
  __host__ __device__ int64_t elements() const {
    int64_t product = 1;
    for (int axis = 0; axis < kCopyAxes; ++axis) product *= size[axis];
    return product;
  }
};

struct LayoutCopyTile {
  static constexpr int kThreads = 256;  // one element each; neighbours write neighbours
};

template <class T>
__global__ void __launch_bounds__(LayoutCopyTile::kThreads)
    layout_copy_kernel(const T* __restrict__ x,  // strided
                       T* __restrict__ y,        // dense, all written
                       const Strided shape) {
  int64_t i = int64_t{blockIdx.x} * LayoutCopyTile::kThreads + threadIdx.x;
  if (i >= shape.elements()) return;
  const int64_t at = i;
  int64_t offset = 0;
  for (int axis = kCopyAxes - 1; axis >= 0; --axis) {
    offset += i % shape.size[axis] * shape.stride[axis];
    i /= shape.size[axis];
  }
  y[at] = x[offset];
}

}  // namespace fastconv
