// tensor_core.h -- ldmatrix and mma: products exact, sums in double, one rounding to float at the end. The
// hardware rounds in between, in an order that is not documented; tolerances for GPUs are set apart.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

enum class Element { kFloat16, kBfloat16, kTf32 };

/// A 16-bit element as a float.
float half_to_float(Element element, uint16_t bits);

/// Four 8 x 8 matrices from the rows whose shared addresses the lanes give; r has four registers a lane.
void load_matrix(uint32_t* r, bool transposed, uint32_t row, Site site);

/// d += a * b, m16n8k16 or, of tf32, m16n8k8; registers of this lane.
void mma(Element element, float* d, const uint32_t* a, const uint32_t* b, Site site);

}  // namespace fastconv::emulator
