// intrinsics.h -- CUDA's spelling of what kernels use: built-in variables, barriers, shuffles, arithmetic.
#pragma once
#include <math.h>

#include <cstring>

#include "emulator/collectives.h"
#include "emulator/scheduler.h"

#define threadIdx (::fastconv::emulator::state.current->index)
#define blockIdx (::fastconv::emulator::state.block_index)
#define blockDim (::fastconv::emulator::state.block_size)
#define gridDim (::fastconv::emulator::state.grid_size)

using fastconv::Site;

inline void __syncthreads(Site site = Site::here()) { fastconv::emulator::block_barrier(0, 0, site); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, Site site = Site::here()) {
  fastconv::emulator::warp_collective(fastconv::emulator::Operation::kSyncWarp, mask, nullptr, nullptr, site);
}

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, Site site = Site::here()) {
  const int lane = fastconv::emulator::state.current->lane;
  return fastconv::emulator::shuffle_value(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), site);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int distance, int width = 32, Site site = Site::here()) {
  const int lane = fastconv::emulator::state.current->lane;
  const int source = lane ^ distance;
  const bool above = (source & ~(width - 1)) > (lane & ~(width - 1));
  return fastconv::emulator::shuffle_value(mask, value, above ? lane : source, site);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned distance, int width = 32, Site site = Site::here()) {
  const int lane = fastconv::emulator::state.current->lane;
  const int source = lane + static_cast<int>(distance);
  const bool outside = source >= (lane & ~(width - 1)) + width;
  return fastconv::emulator::shuffle_value(mask, value, outside ? lane : source, site);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned distance, int width = 32, Site site = Site::here()) {
  const int lane = fastconv::emulator::state.current->lane;
  const int source = lane - static_cast<int>(distance);
  const bool outside = source < (lane & ~(width - 1));
  return fastconv::emulator::shuffle_value(mask, value, outside ? lane : source, site);
}
inline unsigned __ballot_sync(uint32_t mask, int predicate, Site site = Site::here()) {
  return fastconv::emulator::ballot(mask, predicate != 0, site);
}
inline int __any_sync(uint32_t mask, int predicate, Site site = Site::here()) {
  return fastconv::emulator::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, Site site = Site::here()) {
  return fastconv::emulator::ballot(mask, predicate != 0, site) == mask;
}

// Threads run one at a time and see all that ran before.
inline void __threadfence() {}
inline void __threadfence_block() {}

// As in CUDA, max and min of floating point ignore a NaN beside a number; std::max would return its first
// argument.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

template <class To, class From>
To fastconv_emulator_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline float __int_as_float(int i) { return fastconv_emulator_bits<float>(i); }
inline float __uint_as_float(unsigned i) { return fastconv_emulator_bits<float>(i); }
inline int __float_as_int(float f) { return fastconv_emulator_bits<int>(f); }
inline unsigned __float_as_uint(float f) { return fastconv_emulator_bits<unsigned>(f); }
inline long long __double_as_longlong(double d) { return fastconv_emulator_bits<long long>(d); }
inline double __longlong_as_double(long long i) { return fastconv_emulator_bits<double>(i); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
