// matrix.h -- products of small matrices by one warp on tensor cores, from compute capability 8.0 on.
//
//   d[16 x 8] += a[16 x k] * b[k x 8]
//
// Lane 4 * g + t of the warp holds (PTX ISA, "Matrix fragments for mma.m16n8k16" and "mma.m16n8k8"):
//
//   d[0], d[1]  row g, columns 2t and 2t + 1;  d[2], d[3]  row g + 8, the same columns
//   16-bit a[0] row g, a[1] row g + 8, columns 2t and 2t + 1 (low half, high half); a[2], a[3] the same rows,
//          columns 2t + 8 and 2t + 9;  b[0] column g, rows 2t and 2t + 1;  b[1] column g, rows 2t + 8, 2t + 9
//   tf32   a[0] (g, t), a[1] (g + 8, t), a[2] (g, t + 4), a[3] (g + 8, t + 4);  b[0] (t, g), b[1] (t + 4, g)
//
// All lanes of the warp call together. Sums are kept in float; the order of their terms is the hardware's.
#pragma once
#include "device/numeric.h"
#include "device/shared.h"
#include "device/site.h"

namespace fastconv {

#ifdef __CUDACC__
#define FASTCONV_MMA(instruction)                                                   \
  asm volatile(instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#endif

/// d += a * b with 16-bit elements T, __half or __nv_bfloat16, two in a register.
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                             Site site = Site::here()) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>, "16-bit elements");
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    FASTCONV_MMA("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
  } else {
    FASTCONV_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
  }
#else
  emulator::mma(std::is_same_v<T, __half> ? emulator::Element::kFloat16 : emulator::Element::kBfloat16, d, a,
                b, site);
#endif
}

/// d += a * b with elements from round_tf32().
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2], Site site = Site::here()) {
#ifdef __CUDACC__
  FASTCONV_MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
#else
  emulator::mma(emulator::Element::kTf32, d, a, b, site);
#endif
}

#ifdef __CUDACC__
#undef FASTCONV_MMA
#endif

/// A float as tf32, 11 significant bits: to nearest, ties away from zero. As a float it is exact again.
__device__ __forceinline__ uint32_t round_tf32(float value) {
#ifdef __CUDACC__
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
#else
  const uint32_t bits = __float_as_uint(value);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
#endif
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane i gives the address of row i % 8 of matrix
/// i / 8, 16 bytes aligned to 16; lane 4 * g + t gets elements 2t and 2t + 1 of row g of matrix j in r[j].
__device__ __forceinline__ void load_matrix_x4(uint32_t (&r)[4], uint32_t row, Site site = Site::here()) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
#else
  emulator::load_matrix(r, false, row, site);
#endif
}

/// load_matrix_x4 of the transposed matrices: lane 4 * g + t gets rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_matrix_x4_transposed(uint32_t (&r)[4], uint32_t row,
                                                          Site site = Site::here()) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
#else
  emulator::load_matrix(r, true, row, site);
#endif
}

}  // namespace fastconv
