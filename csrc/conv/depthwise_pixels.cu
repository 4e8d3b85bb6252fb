// depthwise_pixels.cu -- launcher of the gather for channels last; see depthwise_gather.h.
#include "conv/depthwise_gather.h"
#include "conv/depthwise_pixels.cuh"

namespace fastconv {
namespace {

template <class T>
bool launch_depthwise_gather_pixels(Address x, Address w, Address b, Address y, const DepthwiseGather& gather,
                                    Activation activation, Address stream) {
  const bool aligned = (x | y) % 16 == 0;
  DepthwisePixels plan;
  if (!plan_pixels(gather, kRun<accumulator_t<T>>, sizeof(T), aligned, false, plan)) return false;
  FASTCONV_LAUNCH((depthwise_gather_pixels_kernel<T>), blocks_for(plan.blocks, 1), plan.threads,
                  plan.shared_bytes, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w),
                  pointer<const T>(b), pointer<T>(y), plan, activation);
  return true;
}

}  // namespace

bool depthwise_gather_pixels(Dtype dtype, Address x, Address w, Address b, Address y,
                             const DepthwiseGather& gather, Activation activation, Address stream) {
  bool launched = false;
  with_dtype(dtype, [&](auto type) {
    launched =
        launch_depthwise_gather_pixels<typename decltype(type)::type>(x, w, b, y, gather, activation, stream);
  });
  return launched;
}

}  // namespace fastconv
