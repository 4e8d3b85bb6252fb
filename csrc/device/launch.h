// launch.h -- how a kernel is declared and started, under nvcc and under g++ alike.
//
// Under nvcc this is CUDA. Under g++ it is the emulator, which runs one fiber a CUDA thread on the CPU;
// kernels compile unchanged for both as long as they declare shared memory and start kernels by the macros
// below. Only this folder and csrc/emulator ask which compiler it is.
#pragma once
#include <cstdint>
#include <limits>

#include "device/error.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "emulator/emulator.h"
#endif

// FASTCONV_SHARED(float, tile, [2][8][132]); declares static shared memory, aligned for 128-bit accesses.
// A struct there is filled through a reference: what a function returns into it, the tracer does not see.
// FASTCONV_DYNAMIC_SHARED(__half, stages); names the dynamic shared memory of the launch; one a kernel.
#ifdef __CUDACC__
#define FASTCONV_SHARED(T, name, dims) __shared__ __align__(16) T name dims
#define FASTCONV_DYNAMIC_SHARED(T, name)                                     \
  extern __shared__ __align__(1024) unsigned char fastconv_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(fastconv_dynamic_shared)
#else
#define FASTCONV_SHARED(T, name, dims)                              \
  static char emulator_tag_##name;                                  \
  using emulator_type_##name = T dims;                              \
  emulator_type_##name& name = *static_cast<emulator_type_##name*>( \
      ::fastconv::emulator::static_shared(&emulator_tag_##name, sizeof(emulator_type_##name), 16, #name))
#define FASTCONV_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::fastconv::emulator::dynamic_shared())
#endif

// FASTCONV_LAUNCH((kernel<A, B>), grid, block, shared_bytes, stream, args...); enqueues and returns at once.
// Throws LaunchError if the launch is refused.
#define FASTCONV_UNPACK(...) __VA_ARGS__
#define FASTCONV_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::fastconv::launch(FASTCONV_UNPACK kernel, #kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

namespace fastconv {

constexpr int kWarp = 32;
constexpr int kDefaultShared = 48 * 1024;  // of a block, static and dynamic together, without an opt-in

/// Blocks of `per_block` that cover `items`, for grid.x: grid.y and grid.z end at 65535, grid.x at 2^31 - 1.
inline unsigned blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  if (blocks > std::numeric_limits<int32_t>::max()) {
    throw LaunchError("a grid of " + std::to_string(blocks) + " blocks, expected at most 2147483647");
  }
  return static_cast<unsigned>(blocks);
}

#ifdef __CUDACC__
/// Let a kernel have so much dynamic shared memory; see launch.cu.
cudaError_t allow_shared(const void* kernel, size_t bytes);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const char* name, dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  cudaError_t status = allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes);
  if (status == cudaSuccess) {
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
    status = cudaGetLastError();
  }
  if (status != cudaSuccess) {
    throw LaunchError(std::string(name) + ": " + cudaGetErrorName(status) + ": " +
                      cudaGetErrorString(status));
  }
}
#else
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const char* name, dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t, Arguments... arguments) {
  const emulator::Launch launch{grid, block, shared_bytes, name, reinterpret_cast<const void*>(kernel)};
  emulator::run(launch, [&] { kernel(static_cast<Parameters>(arguments)...); });
}
#endif

}  // namespace fastconv
