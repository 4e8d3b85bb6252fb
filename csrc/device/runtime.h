// runtime.h -- what the CUDA runtime says of this machine. Plain C++: no CUDA header, no Python.
//
// Nothing here throws and nothing needs a driver: on a machine without one every status says so. A status is
// a cudaError_t as an int, 0 for success; status_text() puts it in words.
#pragma once
#include <string>

namespace fastconv::runtime {

/// A number, valid where status is 0.
struct Number {
  int status;
  int value;
};

/// One GPU; the members after status are valid where it is 0.
struct Device {
  int status;
  std::string name;
  int major;  // compute capability
  int minor;
};

/// GPUs that this process may use.
Number device_count();

/// Version of the runtime that was linked in, 1000 * major + 10 * minor.
Number runtime_version();

/// Newest CUDA version that the installed driver serves, in the same form; 0 where there is no driver.
Number driver_version();

/// Name and compute capability of a GPU.
Device device(int index);

/// Launch an empty kernel on a GPU and wait for it. The status is 0 only where the build holds code for the
/// GPU, as machine code or as PTX that its driver could compile.
int probe(int index);

/// Name and meaning of a status.
std::string status_text(int status);

}  // namespace fastconv::runtime
