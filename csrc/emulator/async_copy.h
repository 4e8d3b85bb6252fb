// async_copy.h -- cp.async: copies that a thread begins and waits for in groups.
//
// Late, they are made at the wait, and until then their destination holds NaN: whoever reads too early gets
// that. Early, they are made at once. A correct kernel cannot tell.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

/// Copy `valid` bytes and fill up to `bytes` with 0.
void copy_async(uint32_t to, const void* from, int bytes, int valid);
void copy_async_commit();
void copy_async_wait(int pending);

/// A thread begins, with no copies, or ends, when none may be left.
void reset_copies(int thread);
void check_copies_done();

}  // namespace fastconv::emulator
