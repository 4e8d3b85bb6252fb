// control.h -- what tests ask of the emulator from Python; counters.h has the rest. Plain C++.
#pragma once
#include <cstdint>
#include <string>

namespace fastconv::emulator {

/// Choose how later launches are scheduled.
///
/// order: "forward", "reverse", "random" or "lockstep"; asynchronous copies take effect "late", at the wait
/// for them, or "early", at once.
void set_schedule(const std::string& order, const std::string& async_mode, uint32_t seed,
                  bool reverse_blocks);

/// Run this block of later grids alone, counted x first; -2 the last one, -1 all of them again. For grids too
/// large to emulate.
void only_block(int64_t block);

/// Tell the tracer of an array that kernels may touch; without a tracer nothing happens. One that is
/// registered twice is to be forgotten twice.
void register_buffer(uintptr_t address, uint64_t bytes, const std::string& name, bool initialised);
void forget_buffer(uintptr_t address);

/// "plain", "asan" or "trace".
std::string build_kind();

}  // namespace fastconv::emulator
