// mbarrier.h -- barriers in shared memory whose phases end after a number of arrivals and of bytes.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

void mbarrier_init(uint32_t barrier, int arrivals);

/// Announce bytes, which may be 0, and arrive.
void mbarrier_arrive(uint32_t barrier, int bytes);

/// Wait until the phase of this parity has ended.
void mbarrier_wait(uint32_t barrier, uint32_t parity, Site site);

/// Fails where no barrier was initialised there.
void check_mbarrier(uint32_t barrier, const char* instruction);

/// Announced bytes have landed.
void mbarrier_landed(uint32_t barrier, int64_t bytes);

void reset_mbarriers();

}  // namespace fastconv::emulator
