// wgmma.h -- products of matrices by a warpgroup, four warps, on Hopper's tensor cores (compute
// capability 9.0a).
//
//   d[64 x N] (+)= a[64 x 16] * b[N x 16]^T,  N = 64, 128 or 256
//
// a and b lie in shared memory, K innermost, rows of 128 bytes under the 128-byte swizzle that TMA writes;
// sums are float. Thread 32 * w + 4 * g + t of the warpgroup holds in d[4 * j + 2 * h + i] the element of row
// 16 * w + g + 8 * h and column 8 * j + 2 * t + i (PTX ISA, "wgmma.mma_async", register fragment D).
//
// All 128 threads call together:
//
//   wgmma_fence(); wgmma_m64k16<T>(d, ...) as often as needed; wgmma_commit(); ...; wgmma_wait<0>();
//
// Between the first wgmma and the wait nobody touches d or overwrites a and b. FASTCONV_WGMMA says where
// device code has the instruction; dispatch sees to it that nothing else runs these kernels.
#pragma once
#include "device/barrier.h"

#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTCONV_WGMMA 1
#endif

namespace fastconv {

/// Describes rows of 128 swizzled bytes that follow one another in shared memory from `address` on, aligned
/// to 1024 bytes; adding 32 bytes to `address` steps by 16 elements along K.
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t address) {
  constexpr uint64_t kUnit = 16;             // addresses and strides count in 16 bytes
  constexpr uint64_t kGroupBytes = 8 * 128;  // from 8 rows to the next 8
  constexpr uint64_t kSwizzle128 = 1;
  return (address & 0x3ffff) / kUnit | uint64_t{1} << 16 | kGroupBytes / kUnit << 32 | kSwizzle128 << 62;
}

/// Before the first wgmma, and whenever d was touched by other instructions.
__device__ __forceinline__ void wgmma_fence() {
#if defined(__CUDACC__) && defined(FASTCONV_WGMMA)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/// Close the group of all wgmma since the last one.
__device__ __forceinline__ void wgmma_commit() {
#ifndef __CUDACC__
  emulator::wgmma_commit();
#elif defined(FASTCONV_WGMMA)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/// Wait until at most Pending of the newest groups are still under way.
template <int Pending>
__device__ __forceinline__ void wgmma_wait(Site site = Site::here()) {
#ifndef __CUDACC__
  emulator::wgmma_wait(Pending, site);
#elif defined(FASTCONV_WGMMA)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
}

#if defined(__CUDACC__) && defined(FASTCONV_WGMMA)
#define FASTCONV_OUT_8(d, i)                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FASTCONV_OUT_32(d, i) \
  FASTCONV_OUT_8(d, i), FASTCONV_OUT_8(d, i + 8), FASTCONV_OUT_8(d, i + 16), FASTCONV_OUT_8(d, i + 24)
#define FASTCONV_REGISTERS_32                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FASTCONV_REGISTERS_64                                                        \
  FASTCONV_REGISTERS_32                                                              \
  ", "                                                                               \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FASTCONV_REGISTERS_128                                                                   \
  FASTCONV_REGISTERS_64                                                                          \
  ", "                                                                                           \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// The operands after the registers of d are the two descriptors and whether to accumulate.
#define FASTCONV_WGMMA_RUN(shape, type, registers, descriptor_a, descriptor_b, add, ...)   \
  asm volatile("{ .reg .pred add; setp.ne.b32 add, " add                                   \
               ", 0;"                                                                      \
               " wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" registers \
               "}, " descriptor_a ", " descriptor_b ", add, 1, 1, 0, 0; }"                 \
               : __VA_ARGS__                                                               \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
#define FASTCONV_WGMMA_N(type)                                                                \
  if constexpr (Registers == 32) {                                                            \
    FASTCONV_WGMMA_RUN("m64n64k16", type, FASTCONV_REGISTERS_32, "%32", "%33", "%34",         \
                       FASTCONV_OUT_32(d, 0));                                                \
  } else if constexpr (Registers == 64) {                                                     \
    FASTCONV_WGMMA_RUN("m64n128k16", type, FASTCONV_REGISTERS_64, "%64", "%65", "%66",        \
                       FASTCONV_OUT_32(d, 0), FASTCONV_OUT_32(d, 32));                        \
  } else {                                                                                    \
    FASTCONV_WGMMA_RUN("m64n256k16", type, FASTCONV_REGISTERS_128, "%128", "%129", "%130",    \
                       FASTCONV_OUT_32(d, 0), FASTCONV_OUT_32(d, 32), FASTCONV_OUT_32(d, 64), \
                       FASTCONV_OUT_32(d, 96));                                               \
  }
#endif

/// d = a * b^T, added to d where `accumulate`; T is __half or __nv_bfloat16, and N is 2 * Registers. The
/// descriptors come from wgmma_descriptor() and are the same in all threads.
template <class T, int Registers>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[Registers], uint64_t a, uint64_t b, bool accumulate,
                                             Site site = Site::here()) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>, "16-bit elements");
  static_assert(Registers == 32 || Registers == 64 || Registers == 128, "N = 64, 128 or 256");
#ifndef __CUDACC__
  emulator::wgmma(std::is_same_v<T, __half> ? emulator::Element::kFloat16 : emulator::Element::kBfloat16,
                  2 * Registers, d, a, b, accumulate, site);
#elif defined(FASTCONV_WGMMA)
  if constexpr (std::is_same_v<T, __half>) {
    FASTCONV_WGMMA_N("f16")
  } else {
    FASTCONV_WGMMA_N("bf16")
  }
#endif
}

#if defined(__CUDACC__) && defined(FASTCONV_WGMMA)
#undef FASTCONV_OUT_8
#undef FASTCONV_OUT_32
#undef FASTCONV_REGISTERS_32
#undef FASTCONV_REGISTERS_64
#undef FASTCONV_REGISTERS_128
#undef FASTCONV_WGMMA_RUN
#undef FASTCONV_WGMMA_N
#endif

}  // namespace fastconv
