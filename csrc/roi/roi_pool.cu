// roi_pool.cu -- see roi.h.
#include "roi/input_grad.cuh"
#include "roi/pool_forward.cuh"
#include "roi/roi.h"

namespace fastconv {

void roi_pool_forward(Dtype dtype, Address x, Address y, Address indices, Address image, Address begin,
                      Address end, const Roi& roi, Address stream) {
  const int64_t results = roi.regions * roi.planes * roi.bins() * roi.lanes;
  if (results == 0) return;
  const RoiCells cells{pointer<const int64_t>(image), pointer<const int32_t>(begin),
                       pointer<const int32_t>(end)};
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    FASTCONV_LAUNCH((roi_pool_forward_kernel<T>), blocks_for(results, RoiPoolForwardTile::kThreads),
                    RoiPoolForwardTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(x),
                    pointer<T>(y), pointer<int64_t>(indices), cells, roi);
  });
}

void roi_pool_input_grad(Dtype dtype, Address dy, Address indices, Address dx, Address image, Address begin,
                         Address end, const Roi& roi, Address stream) {
  if (roi.images * roi.planes * roi.positions() * roi.lanes == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const RoiBlocks blocks(roi, 1);
    const RoiCells cells{pointer<const int64_t>(image), pointer<const int32_t>(begin),
                         pointer<const int32_t>(end)};
    const PooledGradient<T> gradient{pointer<const T>(dy), pointer<const int64_t>(indices), cells};
    FASTCONV_LAUNCH((roi_input_grad_kernel<T, 1, PooledGradient<T>>), blocks_for(blocks.blocks(roi), 1),
                    RoiInputGradTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<T>(dx), gradient,
                    roi, blocks);
  });
}

}  // namespace fastconv
