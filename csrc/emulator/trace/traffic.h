// traffic.h -- memory traffic as the hardware would see it: the same access of the lanes of a warp is one
// request, which takes 32-byte sectors of global memory or wavefronts over the banks of shared memory.
//
// Not a model of caches, and about the loads and stores that g++ makes of the source, not nvcc's.
#pragma once
#include <cstdint>

#include "emulator/counters.h"
#include "emulator/trace/shadow.h"
#include "emulator/tracer.h"

namespace fastconv::emulator::traffic {

void reset();

/// One lane's part of a request. Global addresses count from the place of their region.
void add(int thread, uint32_t code, uintptr_t address, size_t bytes, Access kind, bool shared);

/// Eight rows of 16 bytes, read from shared memory at once.
void add_matrix(const void* const* rows, uint32_t code);

/// A row that TMA reads.
void add_bulk(uintptr_t address, size_t bytes);

/// Make requests of what the lanes of the block did.
void end_block();

/// Sums of the launch; regions say which bytes were touched.
Traffic collect(Regions& global);

}  // namespace fastconv::emulator::traffic
