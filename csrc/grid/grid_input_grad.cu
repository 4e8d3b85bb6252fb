// grid_input_grad.cu -- see grid.h.
#include "grid/grid.h"
#include "grid/input_grad.cuh"

namespace fastconv {
namespace {

using Tile = GridInputGradTile;

template <class T, int V, int R>
void launch_grid_sample_input_grad(Address dy, Address order, Address starts, Address weights, Address dx,
                                   const GridSampling& sampling, int64_t first, int64_t count,
                                   bool accumulate, Address stream) {
  const int64_t runs = (sampling.channels + V * R - 1) / (V * R);
  const int64_t threads = sampling.batch * sampling.volume() * runs;
  FASTCONV_LAUNCH((grid_sample_input_grad_kernel<T, V, R>), blocks_for(threads, Tile::kThreads),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(dy),
                  pointer<const int64_t>(order), pointer<const int64_t>(starts),
                  pointer<const accumulator_t<T>>(weights), pointer<T>(dx), sampling, runs, first, count,
                  accumulate);
}

}  // namespace

void grid_sample_reads(Dtype dtype, Address grid, Address keys, Address weights, const GridSampling& sampling,
                       int64_t first, int64_t count, Address stream) {
  if (count == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    FASTCONV_LAUNCH((grid_reads_kernel<T>), blocks_for(count, GridReadsTile::kThreads),
                    GridReadsTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(grid),
                    pointer<int64_t>(keys), pointer<accumulator_t<T>>(weights), sampling, first, count);
  });
}

void grid_sample_input_grad(Dtype dtype, Address dy, Address order, Address starts, Address weights,
                            Address dx, const GridSampling& sampling, int64_t first, int64_t count,
                            bool accumulate, Address stream) {
  if (sampling.batch * sampling.channels * sampling.volume() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    const auto run = [&](auto launch) {
      launch(dy, order, starts, weights, dx, sampling, first, count, accumulate, stream);
    };
    if (!sampling.last) {
      run(launch_grid_sample_input_grad<T, 1, Tile::kChannels>);
    } else if (sampling.channels % V == 0 && is_aligned(pointer<T>(dy)) && is_aligned(pointer<T>(dx))) {
      run(launch_grid_sample_input_grad<T, V, 1>);
    } else {
      run(launch_grid_sample_input_grad<T, 1, 1>);
    }
  });
}

}  // namespace fastconv
