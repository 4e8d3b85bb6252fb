// launch.cu -- see launch.h. The emulator has all shared memory without asking.
#include "device/launch.h"

#ifdef __CUDACC__
#include <map>
#include <mutex>
#include <utility>

namespace fastconv {
namespace {

// Below, a kernel's static shared memory and the alignment of the dynamic one fit the default beside it.
constexpr size_t kSmall = kDefaultShared / 2;

}  // namespace

/// The limit of a kernel is only ever raised: another thread may be about to launch it with more.
cudaError_t allow_shared(const void* kernel, size_t bytes) {
  if (bytes <= kSmall) return cudaSuccess;
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, size_t>
      allowed;  // by the device, which has a limit of its own
  int device = 0;
  if (const cudaError_t status = cudaGetDevice(&device); status != cudaSuccess) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  size_t& most = allowed[{device, kernel}];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status == cudaSuccess) most = bytes;
  return status;
}

}  // namespace fastconv
#endif
