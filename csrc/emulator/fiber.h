// fiber.h -- a stack for every CUDA thread of a block, and switches between them on one thread of the host.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 252 * 1024;  // red zones around every local
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif
constexpr size_t kPageBytes = 4096;
// A guard page each. An odd number of pages, so that the tops of stacks spread over the sets of the cache.
constexpr size_t kStackStride = kStackBytes + kPageBytes;

extern uint8_t* stacks;  // of all threads, kMaxThreads * kStackStride bytes

/// Whether this is the stack of a CUDA thread, or an address within one.
inline bool on_fiber(const void* address = __builtin_frame_address(0)) {
  const size_t offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(stacks);
  return offset < kMaxThreads * kStackStride;
}

/// Allocate the stacks, once.
void prepare_stacks();

/// Give a thread a fresh stack, on which entry() will start.
void make_fiber(Thread& thread, void (*entry)());

/// The first thing that entry() does.
void arrive_on_fiber();

/// Run `to` instead of `from`, or instead of the launcher where that is null. Returns when somebody switches
/// back; never for a thread that is leaving.
void switch_to(Thread* from, Thread* to, bool leaving = false);

/// Run the launcher instead of the current thread.
[[noreturn]] void switch_to_launcher(bool leaving);

/// The launcher gives up on threads in the middle of their stacks.
void abandon_fibers();

}  // namespace fastconv::emulator
