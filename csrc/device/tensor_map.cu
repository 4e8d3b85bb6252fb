// tensor_map.cu -- see tensor_map.h.
#include "device/tensor_map.h"

#ifdef __CUDACC__
#include <cuda.h>
#else
#include "emulator/tma.h"
#endif

namespace fastconv {
namespace {

#ifdef __CUDACC__

/// A function of the driver by its name: linking to libcuda would tie the extension to machines with a
/// driver.
template <class Function>
Function driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;  // the CUDA version that brought tensor maps
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &found, kSince, cudaEnableDefault, &result);
#else
  const cudaError_t status = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
  if (status != cudaSuccess || result != cudaDriverEntryPointSuccess || found == nullptr) {
    throw LaunchError(std::string(name) +
                      ": the driver has no such function, expected one for CUDA 12 or newer");
  }
  return reinterpret_cast<Function>(found);
}

CUtensorMapDataType element_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case Dtype::kBfloat16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case Dtype::kFloat32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case Dtype::kFloat64:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
  }
  throw DispatchError("dtype " + std::to_string(static_cast<int>(dtype)) + " has no tensor maps");
}

/// What both kinds of map want in the driver's types.
struct Encoding {
  explicit Encoding(const MappedTensor& tensor)
      : type(element_type(tensor.dtype)), rank(tensor.rank), base(const_cast<void*>(tensor.base)) {
    for (int axis = 0; axis < tensor.rank; ++axis) size[axis] = tensor.size[axis];
    for (int axis = 0; axis + 1 < tensor.rank; ++axis) stride[axis] = tensor.stride[axis];
  }
  CUtensorMapDataType type;
  cuuint32_t rank;
  void* base;
  cuuint64_t size[5];
  cuuint64_t stride[4];
};

void check(CUresult status, const char* name) {
  if (status != CUDA_SUCCESS) {
    throw LaunchError(std::string(name) + ": the driver refuses it with status " +
                      std::to_string(static_cast<int>(status)));
  }
}

#endif

}  // namespace

TensorMap encode_tiled(const MappedTensor& tensor, const int (&box)[5], Swizzle swizzle) {
#ifdef __CUDACC__
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  TensorMap map{};
  const Encoding in(tensor);
  cuuint32_t extent[5];
  const cuuint32_t element_stride[5] = {1, 1, 1, 1, 1};
  for (int axis = 0; axis < tensor.rank; ++axis) extent[axis] = box[axis];
  check(encode(reinterpret_cast<CUtensorMap*>(&map), in.type, in.rank, in.base, in.size, in.stride, extent,
               element_stride, CU_TENSOR_MAP_INTERLEAVE_NONE, static_cast<CUtensorMapSwizzle>(swizzle),
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "cuTensorMapEncodeTiled");
  return map;
#else
  return emulator::encode_tiled_map(tensor, box, swizzle);
#endif
}

TensorMap encode_im2col(const MappedTensor& tensor, const PixelBox& box, Swizzle swizzle) {
#ifdef __CUDACC__
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  TensorMap map{};
  const Encoding in(tensor);
  cuuint32_t element_stride[5] = {1, 1, 1, 1, 1};
  for (int axis = 0; axis < tensor.rank - 2; ++axis) element_stride[axis + 1] = box.element_stride[axis];
  check(encode(reinterpret_cast<CUtensorMap*>(&map), in.type, in.rank, in.base, in.size, in.stride, box.lower,
               box.upper, box.channels, box.pixels, element_stride, CU_TENSOR_MAP_INTERLEAVE_NONE,
               static_cast<CUtensorMapSwizzle>(swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "cuTensorMapEncodeIm2col");
  return map;
#else
  return emulator::encode_im2col_map(tensor, box, swizzle);
#endif
}

}  // namespace fastconv
