// depthwise_planes.cu -- launcher of the gather for channels first; see depthwise_gather.h.
#include "conv/depthwise_gather.h"
#include "conv/depthwise_planes.cuh"

namespace fastconv {
namespace {

template <class T>
bool launch_depthwise_gather_planes(Address x, Address w, Address b, Address y, const DepthwiseGather& gather,
                                    Activation activation, Address stream) {
  const bool aligned = (x | y) % 16 == 0;
  DepthwisePlanes plan;
  if (!plan_planes(gather, kRun<accumulator_t<T>>, sizeof(T), aligned, plan)) return false;
  FASTCONV_LAUNCH((depthwise_gather_planes_kernel<T>), blocks_for(plan.blocks, 1), plan.threads,
                  plan.shared_bytes, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w),
                  pointer<const T>(b), pointer<T>(y), plan, activation);
  return true;
}

}  // namespace

bool depthwise_gather_planes(Dtype dtype, Address x, Address w, Address b, Address y,
                             const DepthwiseGather& gather, Activation activation, Address stream) {
  bool launched = false;
  with_dtype(dtype, [&](auto type) {
    launched =
        launch_depthwise_gather_planes<typename decltype(type)::type>(x, w, b, y, gather, activation, stream);
  });
  return launched;
}

}  // namespace fastconv
