// error.h -- what a launcher throws. Plain C++: no CUDA header, no Python.
#pragma once
#include <stdexcept>
#include <string>

namespace fastconv {

/// The CUDA runtime, or the emulator in its place, refused a launch. Python sees fastconv.errors.CudaError.
struct LaunchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// No kernel has an answer for these arguments: a gap in a dispatch, never a user's mistake.
struct DispatchError : std::logic_error {
  using std::logic_error::logic_error;
};

}  // namespace fastconv
