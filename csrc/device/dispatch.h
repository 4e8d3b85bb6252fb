// dispatch.h -- from what Python passes, numbers, to what kernels are made of, types and pointers.
#pragma once
#include "device/numeric.h"

namespace fastconv {

/// Element types, in the order in which Python numbers them.
enum class Dtype : int { kFloat16 = 0, kBfloat16 = 1, kFloat32 = 2, kFloat64 = 3 };

/// Memory formats of [N, C, *size]: channels first is C order, channels last has C innermost.
enum class Format : int { kChannelsFirst = 0, kChannelsLast = 1 };

/// An address in device memory, 0 for an array that is absent.
using Address = uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

template <class T>
struct Type {
  using type = T;
};

/// body(Type<T>{}) for the T that dtype names.
template <class Body>
void with_dtype(Dtype dtype, Body&& body) {
  switch (dtype) {
    case Dtype::kFloat16:
      return body(Type<__half>{});
    case Dtype::kBfloat16:
      return body(Type<__nv_bfloat16>{});
    case Dtype::kFloat32:
      return body(Type<float>{});
    case Dtype::kFloat64:
      return body(Type<double>{});
  }
  throw DispatchError("dtype " + std::to_string(static_cast<int>(dtype)) + " has no kernels");
}

}  // namespace fastconv
