// barrier.h -- barriers in shared memory (mbarrier): phases that end when enough threads have arrived and the
// announced bytes have landed. From compute capability 9.0 on; FASTCONV_HOPPER says where device code is
// that.
//
// A barrier is a uint64_t in shared memory, FASTCONV_SHARED(uint64_t, full, [kStages]), named by its shared
// address. Its phases alternate in parity, beginning with 0; waiting for parity 1 on a new barrier passes.
#pragma once
#include "device/shared.h"
#include "device/site.h"

#if !defined(__CUDACC__) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
#define FASTCONV_HOPPER 1
#endif

namespace fastconv {

/// Make a barrier whose phases end after `arrivals` arrivals. By one thread; then barrier_init_fence() and a
/// block barrier.
__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
#ifndef __CUDACC__
  emulator::mbarrier_init(barrier, arrivals);
#elif defined(FASTCONV_HOPPER)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#endif
}

/// Make initialised barriers visible to asynchronous copies.
__device__ __forceinline__ void barrier_init_fence() {
#if defined(__CUDACC__) && defined(FASTCONV_HOPPER)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// Make what this thread wrote to shared memory by plain stores visible to TMA and wgmma.
__device__ __forceinline__ void async_proxy_fence() {
#if defined(__CUDACC__) && defined(FASTCONV_HOPPER)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Arrive once.
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
#ifndef __CUDACC__
  emulator::mbarrier_arrive(barrier, 0);
#elif defined(FASTCONV_HOPPER)
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(barrier) : "memory");
#endif
}

/// Arrive once, and let the phase end only when `bytes` of asynchronous copies have landed as well.
__device__ __forceinline__ void barrier_arrive_expect(uint32_t barrier, int bytes) {
#ifndef __CUDACC__
  emulator::mbarrier_arrive(barrier, bytes);
#elif defined(FASTCONV_HOPPER)
  asm volatile(
      "{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(barrier),
      "r"(bytes)
      : "memory");
#endif
}

/// Wait until the phase of this parity, 0 or 1, has ended.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity, Site site = Site::here()) {
#ifndef __CUDACC__
  emulator::mbarrier_wait(barrier, parity, site);
#elif defined(FASTCONV_HOPPER)
  uint32_t ended;
  do {  // try_wait suspends the thread for a while by itself
    asm volatile(
        "{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;"
        " selp.u32 %0, 1, 0, ended; }"
        : "=r"(ended)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!ended);
#endif
}

}  // namespace fastconv
