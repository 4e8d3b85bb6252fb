// wgmma.h -- d[64 x N] (+)= a[64 x 16] * b[N x 16]^T of a warpgroup, operands in swizzled shared memory.
//
// Late, products are made at the wait for them, and until then d holds NaN; early, at once.
#pragma once
#include "emulator/state.h"
#include "emulator/tensor_core.h"

namespace fastconv::emulator {

void wgmma(Element element, int n, float* d, uint64_t a, uint64_t b, bool accumulate, Site site);
void wgmma_commit();
void wgmma_wait(int pending, Site site);
void reset_wgmma();

}  // namespace fastconv::emulator
