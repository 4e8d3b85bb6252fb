// roi_align.cu -- see roi.h.
#include "roi/align_forward.cuh"
#include "roi/input_grad.cuh"
#include "roi/roi.h"

namespace fastconv {
namespace {

template <class T>
RoiSamples<accumulator_t<T>> samples_of(Address image, Address start, Address bin, Address count) {
  using Number = accumulator_t<T>;
  return {pointer<const int64_t>(image), pointer<const Number>(start), pointer<const Number>(bin),
          pointer<const int32_t>(count)};
}

/// body(how many lanes of these arrays are accessed at once).
template <class T, class Body>
void with_vector(const Roi& roi, Address x, Address y, Body&& body) {
  constexpr int V = kVector<T>;
  if (roi.lanes % V == 0 && is_aligned(pointer<T>(x)) && is_aligned(pointer<T>(y))) {
    return body(std::integral_constant<int, V>{});
  }
  body(std::integral_constant<int, 1>{});
}

}  // namespace

void roi_align_forward(Dtype dtype, Address x, Address y, Address image, Address start, Address bin,
                       Address count, const Roi& roi, Address stream) {
  const int64_t results = roi.regions * roi.planes * roi.bins() * roi.lanes;
  if (results == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    with_vector<T>(roi, x, y, [&](auto vector) {
      constexpr int V = decltype(vector)::value;
      FASTCONV_LAUNCH((roi_align_forward_kernel<T, V>),
                      blocks_for(results / V, RoiAlignForwardTile::kThreads), RoiAlignForwardTile::kThreads,
                      0, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<T>(y),
                      samples_of<T>(image, start, bin, count), roi);
    });
  });
}

void roi_align_input_grad(Dtype dtype, Address dy, Address dx, Address image, Address start, Address bin,
                          Address count, Address extent, const Roi& roi, Address stream) {
  if (roi.images * roi.planes * roi.positions() * roi.lanes == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    with_vector<T>(roi, dy, dx, [&](auto vector) {
      constexpr int V = decltype(vector)::value;
      const RoiBlocks blocks(roi, V);
      const AlignedGradient<T> gradient{pointer<const T>(dy), samples_of<T>(image, start, bin, count),
                                        pointer<const int32_t>(extent)};
      FASTCONV_LAUNCH((roi_input_grad_kernel<T, V, AlignedGradient<T>>), blocks_for(blocks.blocks(roi), 1),
                      RoiInputGradTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<T>(dx), gradient,
                      roi, blocks);
    });
  });
}

}  // namespace fastconv
