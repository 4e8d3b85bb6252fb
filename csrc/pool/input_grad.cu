// input_grad.cu -- see pool.h.
#include <algorithm>

#include "pool/input_grad.cuh"
#include "pool/pool.h"

namespace fastconv {
namespace {

template <class T, bool kMax>
void launch_input_grad_tile(const T* dy, const int64_t* indices, const uint8_t* taps, T* dx,
                            const Pooling& pooling, const PoolTile& tile, const Averaging& averaging,
                            cudaStream_t stream) {
  using A = accumulator_t<T>;
  if (kMax && pooling.positions() > std::numeric_limits<int32_t>::max()) {
    throw DispatchError("a pooling tile of planes with more positions than can be numbered");
  }
  const int32_t sizes[3] = {pooling.axis[0].size, pooling.axis[1].size, pooling.axis[2].size};
  const TilePlan plan(tile, pooling.planes, sizes, pooling.lanes,
                      {1, 1, 1, sizeof(A), pooling.axis[1].stride == 1 ? 1 : 0});
  const int32_t tables = 2 * plan.entries() + (kMax ? plan.elements() : plan.box_entries());
  const size_t bytes = plan.elements() * sizeof(A) + tables * sizeof(int32_t);
  FASTCONV_LAUNCH((pool_input_grad_tile_kernel<T, kMax>), blocks_for(plan.blocks(), 1),
                  PoolInputGradTile::kThreads, bytes, stream, dy, indices, taps, dx, pooling,
                  WindowTaps(pooling), plan, averaging);
}

template <class T, bool kMax>
void launch_input_grad_direct(const T* dy, const int64_t* indices, const uint8_t* taps, T* dx,
                              const Pooling& pooling, const Averaging& averaging, cudaStream_t stream) {
  constexpr int32_t kThreads = PoolInputGradDirect::kThreads;
  // Lanes, columns, rows, ... until the threads of a block are used up.
  PoolTile tile{1, {1, 1, 1}, std::min(pooling.lanes, kThreads), {1, 1, 1}};
  int32_t rest = kThreads / tile.lanes;
  for (int a = 2; a >= 0; --a) {
    tile.axis[a] = std::min(pooling.axis[a].size, rest);
    rest /= tile.axis[a];
  }
  tile.planes = rest;
  const int32_t sizes[3] = {pooling.axis[0].size, pooling.axis[1].size, pooling.axis[2].size};
  const TilePlan plan(tile, pooling.planes, sizes, pooling.lanes, {1, 1, 1, 1, 0});
  FASTCONV_LAUNCH((pool_input_grad_direct_kernel<T, kMax>), blocks_for(plan.blocks(), 1), kThreads, 0, stream,
                  dy, indices, taps, dx, pooling, WindowTaps(pooling), plan, averaging);
}

}  // namespace

void max_pool_input_grad_tile(Dtype dtype, Address dy, Address indices, Address taps, Address dx,
                              const Pooling& pooling, const PoolTile& tile, Address stream) {
  if (pooling.input_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_input_grad_tile<T, true>(pointer<const T>(dy), pointer<const int64_t>(indices),
                                    pointer<const uint8_t>(taps), pointer<T>(dx), pooling, tile, {},
                                    pointer<CUstream_st>(stream));
  });
}

void avg_pool_input_grad_tile(Dtype dtype, Address dy, Address dx, const Pooling& pooling,
                              const PoolTile& tile, const Averaging& averaging, Address stream) {
  if (pooling.input_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_input_grad_tile<T, false>(pointer<const T>(dy), nullptr, nullptr, pointer<T>(dx), pooling, tile,
                                     averaging, pointer<CUstream_st>(stream));
  });
}

void max_pool_input_grad_direct(Dtype dtype, Address dy, Address indices, Address taps, Address dx,
                                const Pooling& pooling, Address stream) {
  if (pooling.input_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_input_grad_direct<T, true>(pointer<const T>(dy), pointer<const int64_t>(indices),
                                      pointer<const uint8_t>(taps), pointer<T>(dx), pooling, {},
                                      pointer<CUstream_st>(stream));
  });
}

void avg_pool_input_grad_direct(Dtype dtype, Address dy, Address dx, const Pooling& pooling,
                                const Averaging& averaging, Address stream) {
  if (pooling.input_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_input_grad_direct<T, false>(pointer<const T>(dy), nullptr, nullptr, pointer<T>(dx), pooling,
                                       averaging, pointer<CUstream_st>(stream));
  });
}

}  // namespace fastconv
