// shared_memory.h -- the shared memory of the block that runs: poisoned with NaN, with guard zones in
// between.
//
// It is one arena, and a shared address is an offset into it, so that the descriptors of tensor cores work as
// on a GPU. Dynamic shared memory comes first; each static object follows when a thread first meets it.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

constexpr uint32_t kArenaBytes = 256 * 1024;
constexpr uint32_t kDynamicBegin = 1024;  // not 0, so that a forgotten address is noticed
constexpr uint32_t kGuardBytes = 256;

extern uint8_t* arena;  // aligned to 64 KB

/// Begin a block that was launched with this many bytes of dynamic shared memory.
void begin_shared(size_t dynamic_bytes);

/// End it: nothing may have been written outside the objects.
void end_shared();

/// A static object, named by the address of its tag; the same for all threads of the block.
void* static_shared(const void* tag, size_t bytes, size_t alignment, const char* name);

void* dynamic_shared();

/// The shared address of something in the arena.
uint32_t shared_address_of(const void* p);

/// Shared addresses of an instruction must be aligned and lie within one object.
void check_shared(uint32_t address, uint32_t bytes, uint32_t alignment, const char* instruction);

}  // namespace fastconv::emulator
