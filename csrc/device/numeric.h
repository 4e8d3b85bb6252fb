// numeric.h -- element types: half types are storage, arithmetic is float, and double for double.
#pragma once
#include "device/launch.h"

namespace fastconv {

template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
/// What sums over T are kept in.
template <class T>
using accumulator_t = typename Accumulator<T>::type;

__host__ __device__ __forceinline__ float widen(float value) { return value; }
__host__ __device__ __forceinline__ double widen(double value) { return value; }
__host__ __device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__host__ __device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

/// Round to T once, to nearest, ties to even.
template <class T>
__host__ __device__ __forceinline__ T narrow(accumulator_t<T> value) {
  return value;
}
template <>
__host__ __device__ __forceinline__ __half narrow<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__host__ __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// a * b + c with one rounding, on both compilers: the emulator is compiled without contraction, nvcc may
/// contract.
__host__ __device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__host__ __device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

}  // namespace fastconv
