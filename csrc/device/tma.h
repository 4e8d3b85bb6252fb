// tma.h -- copies of boxes of a tensor to shared memory by the Tensor Memory Accelerator, from compute
// capability 9.0 on. tensor_map.h describes the tensors; barrier.h waits.
//
// One thread issues a load; it arrives with barrier_arrive_expect() for all bytes of the box, padding too.
// Destinations are aligned to 128 bytes, or to 1024, 512 and 256 with a swizzle of 128, 64 and 32.
#pragma once
#include "device/barrier.h"
#include "device/tensor_map.h"
#ifndef __CUDACC__
#include "emulator/tma.h"
#endif

namespace fastconv {

/// Coordinates of a box in elements, innermost axis first; they may lie outside the tensor.
template <int Rank>
struct BoxCorner {
  static_assert(Rank >= 2 && Rank <= 5, "what tensor maps describe");
  int at[Rank];
};

/// Begin to load the box at `corner` to shared address `to`.
template <int Rank>
__device__ __forceinline__ void tma_load(uint32_t to, const TensorMap& map, uint32_t barrier,
                                         const BoxCorner<Rank>& corner) {
#ifndef __CUDACC__
  emulator::tma_load(to, map, barrier, Rank, corner.at, nullptr);
#elif defined(FASTCONV_HOPPER)
  const int (&c)[Rank] = corner.at;
  if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2])
        : "memory");
  } else if constexpr (Rank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
        : "memory");
  }
#endif
}

/// Begin to load map's channels from `corner` on, at map's number of positions, to shared address `to`. The
/// first position is `corner` and the others follow, stride by stride, through map's box of positions; each
/// is then displaced by `tap`, the offset of a tap of the kernel times dilation. [N, H, W, C] has rank 4.
template <int Rank>
__device__ __forceinline__ void tma_load_im2col(uint32_t to, const TensorMap& map, uint32_t barrier,
                                                const BoxCorner<Rank>& corner, const int (&tap)[Rank - 2]) {
  static_assert(Rank >= 4, "two or three spatial axes");
#ifndef __CUDACC__
  emulator::tma_load(to, map, barrier, Rank, corner.at, tap);
#elif defined(FASTCONV_HOPPER)
  const int (&c)[Rank] = corner.at;
  if constexpr (Rank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]),
        "h"(static_cast<uint16_t>(tap[0])), "h"(static_cast<uint16_t>(tap[1]))
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6, %7}], [%2], {%8, %9, %10};" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4]),
        "h"(static_cast<uint16_t>(tap[0])), "h"(static_cast<uint16_t>(tap[1])),
        "h"(static_cast<uint16_t>(tap[2]))
        : "memory");
  }
#endif
}

}  // namespace fastconv
