// emulator.h -- runs kernels on the CPU, for tests: what device/launch.h includes where CUDA itself is
// missing.
//
// Every CUDA thread of a block is a fiber on one thread of the host; blocks run one after another. A barrier
// or an operation of a warp is a point of waiting, at which other threads run. Who runs next follows from
// options and a seed alone.
//
//   state.h          threads, places, options            fiber.h          stacks and switches between them
//   scheduler.h      who runs next, barriers             collectives.h    shuffles and votes
//   shared_memory.h  the block's shared memory           tensor_core.h    ldmatrix, mma
//   async_copy.h     cp.async                            mbarrier.h       barriers with transactions
//   tma.h, wgmma.h   Hopper's loads and products         launch.h         grids and blocks
//   intrinsics.h     CUDA's spelling                     control.h        what tests ask for
//   counters.h       what launches did                   tracer.h         every access, in the trace build
#pragma once
#ifdef __CUDACC__
#error "the emulator stands in for nvcc"
#endif
// The toolkit's own headers give dim3, float4, cudaStream_t, and half types with exact conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "emulator/async_copy.h"
#include "emulator/collectives.h"
#include "emulator/intrinsics.h"
#include "emulator/launch.h"
#include "emulator/mbarrier.h"
#include "emulator/scheduler.h"
#include "emulator/shared_memory.h"
#include "emulator/tensor_core.h"
#include "emulator/wgmma.h"

// The toolkit has made __global__ and __device__ empty; these it leaves in ways that g++ refuses.
#undef __shared__
#define __shared__ declare_shared_memory_by_FASTCONV_SHARED_or_FASTCONV_DYNAMIC_SHARED
#undef __forceinline__
#define __forceinline__ inline
#undef __noinline__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __constant__
#define __constant__ constant_memory_is_not_emulated
