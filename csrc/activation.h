// activation.h -- what may follow a convolution before its result is rounded and stored.
#pragma once
#include "device/numeric.h"

namespace fastconv {

/// Activations that kernels apply in their epilogue, in the order in which Python numbers them.
enum class Activation : int { kNone = 0, kRelu = 1, kGelu = 2, kSilu = 3 };

__host__ __device__ __forceinline__ float exponential(float x) { return expf(x); }
__host__ __device__ __forceinline__ double exponential(double x) { return exp(x); }
__host__ __device__ __forceinline__ float error_complement(float x) { return erfcf(x); }
__host__ __device__ __forceinline__ double error_complement(double x) { return erfc(x); }

/// activation(x), for A float or double. NaN stays NaN, also through relu.
template <class A>
__host__ __device__ __forceinline__ A activate(A x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < A(0) ? A(0) : x;
    case Activation::kGelu:
      // erfc(-x) is 1 + erf(x) without the cancellation of negative x.
      return A(0.5) * x * error_complement(A(-0.70710678118654752440) * x);
    case Activation::kSilu:
      return x / (A(1) + exponential(-x));
  }
  return x;  // not reached: the binding takes no other value
}

}  // namespace fastconv
