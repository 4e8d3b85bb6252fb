// grid_grid_grad.cu -- see grid.h.
#include "grid/grid.h"
#include "grid/grid_grad.cuh"

namespace fastconv {
namespace {

using Tile = GridGradTile;

template <class T, int K, bool kWarps>
void launch_grid_sample_grid_grad(Address dy, Address x, Address grid, Address dgrid,
                                  const GridSampling& sampling, Address stream) {
  const int64_t threads = sampling.batch * sampling.points * (kWarps ? kWarp : 1);
  FASTCONV_LAUNCH((grid_sample_grid_grad_kernel<T, K, kWarps>), blocks_for(threads, Tile::kThreads),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(dy), pointer<const T>(x),
                  pointer<const T>(grid), pointer<T>(dgrid), sampling);
}

}  // namespace

void grid_sample_grid_grad(Dtype dtype, Address dy, Address x, Address grid, Address dgrid,
                           const GridSampling& sampling, Address stream) {
  if (sampling.batch * sampling.points == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const auto run = [&](auto launch) { launch(dy, x, grid, dgrid, sampling, stream); };
    switch (sampling.mode) {
      case GridMode::kBilinear:
        return run(sampling.last ? launch_grid_sample_grid_grad<T, kBilinearTaps, true>
                                 : launch_grid_sample_grid_grad<T, kBilinearTaps, false>);
      case GridMode::kBicubic:
        return run(sampling.last ? launch_grid_sample_grid_grad<T, kBicubicTaps, true>
                                 : launch_grid_sample_grid_grad<T, kBicubicTaps, false>);
      case GridMode::kNearest:
        break;
    }
    throw DispatchError("grid mode " + std::to_string(static_cast<int>(sampling.mode)) + " has no grid_grad");
  });
}

}  // namespace fastconv
