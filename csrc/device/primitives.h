// primitives.h -- small kernels around each primitive of this folder, for tests that run on GPUs and on the
// emulator alike. Plain C++.
#pragma once
#include <string>
#include <vector>

#include "device/dispatch.h"

namespace fastconv {

/// Launch the kernel that tries a primitive, on arrays whose shapes primitives.cu gives. Enqueues on stream
/// and returns.
void run_primitive(const std::string& name, const std::vector<Address>& inputs, Address output,
                   Address stream);

/// All names.
std::vector<std::string> primitives();

}  // namespace fastconv
