// tma.h -- loads by the Tensor Memory Accelerator, and the maps that describe tensors to it.
//
// Late, a load is made when no thread can run; early, at once. Swizzled chunks land where the hardware puts
// them.
#pragma once
#include "device/tensor_map.h"
#include "emulator/state.h"

namespace fastconv::emulator {

/// Same arguments and same checks as the driver's; throw LaunchError.
TensorMap encode_tiled_map(const MappedTensor& tensor, const int (&box)[5], Swizzle swizzle);
TensorMap encode_im2col_map(const MappedTensor& tensor, const PixelBox& box, Swizzle swizzle);

/// Begin a load of a map's box at `corner`; `tap`, not null for im2col, displaces each position.
void tma_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int rank, const int* corner,
              const int* tap);

/// Make one of the loads under way; false if there is none.
bool complete_one_load();

void reset_loads();

/// Where the chunk of shared memory at `address` lies under a swizzle.
uint32_t swizzled(Swizzle swizzle, uint32_t address);

}  // namespace fastconv::emulator
