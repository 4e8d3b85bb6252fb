// grid_grid_grad.cu -- see grid.h.
#include "grid/grid.h"
#include "grid/grid_grad.cuh"

namespace fastconv {
namespace {

using Tile = GridGradTile;

template <class T, bool kWarps>
void launch_grid_sample_grid_grad(Address dy, Address x, Address grid, Address dgrid,
                                  const GridSampling& sampling, Address stream) {
  const int64_t threads = sampling.batch * sampling.points * (kWarps ? kWarp : 1);
  FASTCONV_LAUNCH((grid_sample_grid_grad_kernel<T, kWarps>), blocks_for(threads, Tile::kThreads),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(dy), pointer<const T>(x),
                  pointer<const T>(grid), pointer<T>(dgrid), sampling);
}

}  // namespace

void grid_sample_grid_grad(Dtype dtype, Address dy, Address x, Address grid, Address dgrid,
                           const GridSampling& sampling, Address stream) {
  if (sampling.batch * sampling.points == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    if (sampling.last) {
      launch_grid_sample_grid_grad<T, true>(dy, x, grid, dgrid, sampling, stream);
    } else {
      launch_grid_sample_grid_grad<T, false>(dy, x, grid, dgrid, sampling, stream);
    }
  });
}

}  // namespace fastconv
