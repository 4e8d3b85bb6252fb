// forward_split.cu -- see pool.h.
#include "pool/forward_split.cuh"
#include "pool/pool.h"

namespace fastconv {
namespace {

template <class T, bool kMax>
void launch_forward_split(const T* x, T* y, int64_t* indices, uint8_t* taps, Address partial,
                          Address partial_positions, const Pooling& pooling, const PoolSplit& split,
                          const Averaging& averaging, cudaStream_t stream) {
  constexpr int kThreads = PoolForwardSplit::kThreads;
  if (kThreads >> (split.log_ranks + split.log_lanes) == 0) {
    throw DispatchError("a pooling split that gives a cell more threads than a block has");
  }
  using A = accumulator_t<T>;
  const int64_t in_block = kThreads >> (split.log_ranks + split.log_lanes);
  const int64_t groups = (pooling.planes * pooling.outputs() + in_block - 1) / in_block;
  const int64_t tiles = (pooling.lanes + (1 << split.log_lanes) - 1) >> split.log_lanes;
  FASTCONV_LAUNCH((pool_forward_split_kernel<T, kMax>), blocks_for(groups * tiles * split.parts, 1), kThreads,
                  0, stream, x, y, indices, taps, pointer<A>(partial), pointer<int64_t>(partial_positions),
                  pooling, WindowTaps(pooling), split, averaging);
  if (split.parts > 1) {
    FASTCONV_LAUNCH((pool_forward_join_kernel<T, kMax>), blocks_for(pooling.output_elements(), kThreads),
                    kThreads, 0, stream, pointer<const A>(partial), pointer<const int64_t>(partial_positions),
                    y, indices, taps, pooling, WindowTaps(pooling), split, averaging);
  }
}

}  // namespace

void max_pool_forward_split(Dtype dtype, Address x, Address y, Address indices, Address taps, Address partial,
                            Address partial_positions, const Pooling& pooling, const PoolSplit& split,
                            Address stream) {
  if (pooling.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_forward_split<T, true>(pointer<const T>(x), pointer<T>(y), pointer<int64_t>(indices),
                                  pointer<uint8_t>(taps), partial, partial_positions, pooling, split, {},
                                  pointer<CUstream_st>(stream));
  });
}

void avg_pool_forward_split(Dtype dtype, Address x, Address y, Address partial, const Pooling& pooling,
                            const PoolSplit& split, const Averaging& averaging, Address stream) {
  if (pooling.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_forward_split<T, false>(pointer<const T>(x), pointer<T>(y), nullptr, nullptr, partial, 0, pooling,
                                   split, averaging, pointer<CUstream_st>(stream));
  });
}

}  // namespace fastconv
