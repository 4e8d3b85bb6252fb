// launch.h -- runs a grid: blocks one after another, the threads of a block as fibers.
#pragma once
#include <mutex>
#include <type_traits>

#include "emulator/state.h"

namespace fastconv::emulator {

/// A launch as FASTCONV_LAUNCH sees it.
struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  const char* name;    // of the kernel, as the source spells it
  const void* kernel;  // its address, by which its full name is found
};

/// Held while a launch runs, and by whoever changes what it depends on.
std::mutex& machine();

/// Run body(argument) in every thread. Throws LaunchError.
void run_grid(const Launch& launch, void (*body)(void*), void* argument);

template <class Body>
void run(const Launch& launch, Body&& body) {
  run_grid(launch, [](void* argument) { (*static_cast<std::remove_reference_t<Body>*>(argument))(); }, &body);
}

}  // namespace fastconv::emulator
