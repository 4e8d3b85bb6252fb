// vector.h -- several elements in one access of 2 to 16 bytes, visible as one to both compilers and to the
// tracer.
#pragma once
#include <cstring>

#include "device/numeric.h"

namespace fastconv {

/// N elements of T that are loaded and stored at once.
template <class T, int N>
struct alignas(N * sizeof(T)) Vector {
  static_assert(N * sizeof(T) <= 16 && (N & (N - 1)) == 0, "one access moves 1, 2, 4, 8 or 16 bytes");
  T element[N];
  __host__ __device__ __forceinline__ T& operator[](int i) { return element[i]; }
  __host__ __device__ __forceinline__ const T& operator[](int i) const { return element[i]; }
};

/// Most elements of T that one access moves.
template <class T>
constexpr int kVector = 16 / sizeof(T);

#ifndef __CUDACC__
namespace emulated {
template <int Bytes>
struct Word;
template <>
struct Word<1> {
  typedef uint8_t type __attribute__((may_alias));
};
template <>
struct Word<2> {
  typedef uint16_t type __attribute__((may_alias));
};
template <>
struct Word<4> {
  typedef uint32_t type __attribute__((may_alias));
};
template <>
struct Word<8> {
  typedef uint64_t type __attribute__((may_alias));
};
template <>
struct Word<16> {
  typedef float type __attribute__((vector_size(16), may_alias));
};
}  // namespace emulated
#endif

/// N elements from p, which must be aligned to all of them together.
template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_vector(const T* p) {
#ifdef __CUDACC__
  return *reinterpret_cast<const Vector<T, N>*>(p);
#else
  using Word = typename emulated::Word<N * sizeof(T)>::type;
  const Word word = *reinterpret_cast<const Word*>(p);
  Vector<T, N> value;
  memcpy(static_cast<void*>(&value), &word, sizeof value);
  return value;
#endif
}

/// Store N elements to p, which must be aligned to all of them together.
template <class T, int N>
__device__ __forceinline__ void store_vector(T* p, const Vector<T, N>& value) {
#ifdef __CUDACC__
  *reinterpret_cast<Vector<T, N>*>(p) = value;
#else
  using Word = typename emulated::Word<N * sizeof(T)>::type;
  Word word;
  memcpy(&word, static_cast<const void*>(&value), sizeof word);
  *reinterpret_cast<Word*>(p) = word;
#endif
}

/// store_vector to global memory, surely in one access: of a vector whose elements were computed one by one
/// nvcc may make a store for each of them. The kernel never reads what it stores so: the compiler is not told
/// of the store, and loads that follow need not wait for it.
template <class T, int N>
__device__ __forceinline__ void store_vector_global(T* p, const Vector<T, N>& value) {
#ifdef __CUDACC__
  constexpr int kBytes = N * sizeof(T);
  if constexpr (kBytes == 16) {
    uint32_t word[4];
    memcpy(word, &value, kBytes);
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(word[0]),
                 "r"(word[1]), "r"(word[2]), "r"(word[3]));
  } else if constexpr (kBytes == 8) {
    uint32_t word[2];
    memcpy(word, &value, kBytes);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(word[0]),
                 "r"(word[1]));
  } else {
    store_vector(p, value);
  }
#else
  store_vector(p, value);
#endif
}

/// Whether p is aligned for accesses of 16 bytes.
inline bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace fastconv
