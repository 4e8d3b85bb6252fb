// tensor_map.h -- how the host describes a tensor to the Tensor Memory Accelerator. Plain C++.
//
// Axes are counted from the innermost one, which is dense: for [N, H, W, C] sizes are C, W, H, N, and
// strides, in bytes, those of W, H and N. Base and strides are multiples of 16 bytes. What lies outside the
// tensor reads as 0. CUDA driver API, cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col.
#pragma once
#include <cstdint>

#include "device/dispatch.h"

namespace fastconv {

/// Goes to a kernel by value, as `const __grid_constant__ TensorMap`.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

/// How the 16-byte chunks of a row in shared memory are permuted, by exclusive or with the row, so that
/// reading a column of rows meets no bank twice; the number is the driver's. The innermost box is at most
/// that long.
enum class Swizzle : int { kNone = 0, k32Bytes = 1, k64Bytes = 2, k128Bytes = 3 };

/// The tensor in global memory that a map describes.
struct MappedTensor {
  Dtype dtype;
  int rank;  // 2 to 5
  const void* base;
  int64_t size[5];    // elements, innermost axis first
  int64_t stride[4];  // bytes, of axes 1, 2, ...
};

/// The positions that one im2col load walks, along the spatial axes, innermost first.
struct PixelBox {
  int lower[3];  // of the first position, relative to 0: -padding
  int upper[3];  // of the last position, relative to size - 1: padding after - (kernel - 1) * dilation
  int element_stride[3];  // stride of the convolution, 1 to 8
  int channels;           // of one load
  int pixels;             // of one load, at most 1024
};

/// A map whose loads bring boxes of box[0] x box[1] x ... elements. Throws LaunchError where the driver, or
/// the emulator in its place, refuses it.
TensorMap encode_tiled(const MappedTensor& tensor, const int (&box)[5], Swizzle swizzle);

/// A map whose loads bring box.channels channels of box.pixels successive positions, of [N, (D, H,) W, C].
TensorMap encode_im2col(const MappedTensor& tensor, const PixelBox& box, Swizzle swizzle);

}  // namespace fastconv
