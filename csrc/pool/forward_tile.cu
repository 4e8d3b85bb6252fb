// forward_tile.cu -- see pool.h.
#include "pool/forward_tile.cuh"
#include "pool/pool.h"

namespace fastconv {
namespace {

template <class T, bool kMax>
void launch_forward_tile(const T* x, T* y, int64_t* indices, uint8_t* taps, const Pooling& pooling,
                         const PoolTile& tile, const Averaging& averaging, cudaStream_t stream) {
  using Tuning = PoolForwardTile;
  const int32_t deep = 1 << (31 - Tuning::kDepthShift),
                high = 1 << (Tuning::kDepthShift - Tuning::kHeightShift);
  if (tile.box[0] > deep || tile.box[1] > high || tile.box[2] > 1 << Tuning::kHeightShift) {
    throw DispatchError("a pooling tile whose box has more positions than can be numbered");
  }
  const int32_t innermost = pooling.lanes > 1 ? pooling.lanes : pooling.axis[2].size;
  const bool vectors = is_aligned(x) && innermost % kVector<T> == 0;
  if (vectors && pooling.lanes > 1 && tile.lanes % kVector<T> != 0) {
    throw DispatchError("a pooling tile whose channels are no whole vectors");
  }
  const int32_t outputs[3] = {pooling.axis[0].output, pooling.axis[1].output, pooling.axis[2].output};
  const int32_t stride = pooling.axis[2].adaptive() ? 1 : pooling.axis[2].stride;
  // Whole sectors if all rows of x consist of them; other rows are loaded one after the other without a gap.
  const int32_t alignment = vectors ? kVector<T> : 1, in_sector = 32 / sizeof(T);
  const BoxLayout layout{alignment, vectors && innermost % in_sector == 0 ? in_sector : alignment,
                         stride == 2 || stride == 4 ? stride : 1, sizeof(T), pooling.axis[1].stride};
  const TilePlan plan(tile, pooling.planes, outputs, pooling.lanes, layout);
  const size_t bytes = (3 * plan.entries() * sizeof(int32_t) + 15) / 16 * 16 + plan.elements() * sizeof(T);
  FASTCONV_LAUNCH((pool_forward_tile_kernel<T, kMax>), blocks_for(plan.blocks(), 1), Tuning::kThreads, bytes,
                  stream, x, y, indices, taps, pooling, WindowTaps(pooling), plan, averaging, vectors);
}

}  // namespace

void max_pool_forward_tile(Dtype dtype, Address x, Address y, Address indices, Address taps,
                           const Pooling& pooling, const PoolTile& tile, Address stream) {
  if (pooling.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_forward_tile<T, true>(pointer<const T>(x), pointer<T>(y), pointer<int64_t>(indices),
                                 pointer<uint8_t>(taps), pooling, tile, {}, pointer<CUstream_st>(stream));
  });
}

void avg_pool_forward_tile(Dtype dtype, Address x, Address y, const Pooling& pooling, const PoolTile& tile,
                           const Averaging& averaging, Address stream) {
  if (pooling.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch_forward_tile<T, false>(pointer<const T>(x), pointer<T>(y), nullptr, nullptr, pooling, tile,
                                  averaging, pointer<CUstream_st>(stream));
  });
}

}  // namespace fastconv
