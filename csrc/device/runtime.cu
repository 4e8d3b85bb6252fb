// runtime.cu -- see runtime.h.
#include <cuda_runtime.h>

#include "device/runtime.h"

namespace fastconv::runtime {
namespace {

__global__ void probe_kernel() {}

/// The status as an int. Clears it too, or the next launch of somebody else would report it.
int taken(cudaError_t status) {
  cudaGetLastError();
  return static_cast<int>(status);
}

/// Launch on the current device and wait.
cudaError_t launch_probe() {
  probe_kernel<<<1, 1>>>();
  const cudaError_t launched = cudaGetLastError();
  return launched == cudaSuccess ? cudaDeviceSynchronize() : launched;
}

}  // namespace

Number device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  return {taken(status), count};
}

Number runtime_version() {
  int version = 0;
  const cudaError_t status = cudaRuntimeGetVersion(&version);
  return {taken(status), version};
}

Number driver_version() {
  int version = 0;
  const cudaError_t status = cudaDriverGetVersion(&version);
  return {taken(status), version};
}

Device device(int index) {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  return {taken(status), properties.name, properties.major, properties.minor};
}

int probe(int index) {
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  if (status != cudaSuccess) return taken(status);
  status = cudaSetDevice(index);
  if (status == cudaSuccess) status = launch_probe();
  const cudaError_t restored = cudaSetDevice(before);
  return taken(status == cudaSuccess ? restored : status);
}

std::string status_text(int status) {
  const auto error = static_cast<cudaError_t>(status);
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

}  // namespace fastconv::runtime
