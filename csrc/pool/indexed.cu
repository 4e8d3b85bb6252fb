// indexed.cu -- see pool.h.
#include "pool/indexed.cuh"
#include "pool/pool.h"

namespace fastconv {
namespace {

void launch_scatter(Dtype dtype, Address dy, Address indices, Address dx, const PoolIndexed& shape, bool adds,
                    Address stream) {
  if (shape.planes * shape.size * shape.lanes == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const int64_t width = shape.lanes > 1 ? kWarp : 1;
    const int64_t slice = PoolScatterTile::kBytes / sizeof(accumulator_t<T>) / width;
    const int64_t warps =
        shape.planes * ((shape.size + slice - 1) / slice) * ((shape.lanes + width - 1) / width);
    FASTCONV_LAUNCH((pool_scatter_kernel<T>), blocks_for(warps, PoolScatterTile::kWarps),
                    PoolScatterTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(dy),
                    pointer<const int64_t>(indices), pointer<T>(dx), shape, adds);
  });
}

}  // namespace

void pool_gather(Dtype dtype, Address x, Address indices, Address y, const PoolIndexed& shape,
                 Address stream) {
  const int64_t results = shape.planes * shape.outputs * shape.lanes;
  if (results == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    FASTCONV_LAUNCH((pool_gather_kernel<T>), blocks_for(results, PoolGatherTile::kThreads),
                    PoolGatherTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(x),
                    pointer<const int64_t>(indices), pointer<T>(y), shape);
  });
}

void pool_scatter(Dtype dtype, Address dy, Address indices, Address dx, const PoolIndexed& shape,
                  Address stream) {
  launch_scatter(dtype, dy, indices, dx, shape, true, stream);
}

void pool_place(Dtype dtype, Address x, Address indices, Address y, const PoolIndexed& shape,
                Address stream) {
  launch_scatter(dtype, x, indices, y, shape, false, stream);
}

}  // namespace fastconv
