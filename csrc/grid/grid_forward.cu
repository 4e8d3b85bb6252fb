// grid_forward.cu -- see grid.h.
#include "grid/forward.cuh"
#include "grid/grid.h"

namespace fastconv {
namespace {

using Tile = GridForwardTile;

template <class T, int V>
void launch_grid_sample_forward(Address x, Address grid, Address y, const GridSampling& sampling,
                                Address stream) {
  const int64_t run = sampling.last ? V : Tile::kChannels;
  const int64_t runs = (sampling.channels + run - 1) / run;
  const int64_t threads = sampling.batch * sampling.points * runs;
  FASTCONV_LAUNCH((grid_sample_forward_kernel<T, V>), blocks_for(threads, Tile::kThreads), Tile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(grid), pointer<T>(y),
                  sampling, runs);
}

}  // namespace

void grid_sample_forward(Dtype dtype, Address x, Address grid, Address y, const GridSampling& sampling,
                         Address stream) {
  if (sampling.batch * sampling.channels * sampling.points == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    const bool vectors =
        sampling.last && sampling.channels % V == 0 && is_aligned(pointer<T>(x)) && is_aligned(pointer<T>(y));
    if (vectors) {
      launch_grid_sample_forward<T, V>(x, grid, y, sampling, stream);
    } else {
      launch_grid_sample_forward<T, 1>(x, grid, y, sampling, stream);
    }
  });
}

}  // namespace fastconv
