// depthwise_gather.cu -- forward and input gradient of depthwise convolution; see depthwise.h.
#include <numeric>

#include "conv/depthwise.h"
#include "conv/depthwise_direct.cuh"
#include "conv/depthwise_pixels.cuh"
#include "conv/depthwise_planes.cuh"

namespace fastconv {
namespace {

/// Run a gather by the kernel that holds it in shared memory; false if there is none.
template <class T>
bool launch_depthwise_gather(Format format, Address x, Address w, Address b, Address y,
                             const DepthwiseGather& gather, Activation activation, Address stream) {
  using A = accumulator_t<T>;
  const bool aligned = (x | y) % 16 == 0;
  if (format == Format::kChannelsLast) {
    DepthwisePixels plan;
    if (!plan_pixels(gather, kRun<A>, sizeof(T), aligned, false, plan)) return false;
    FASTCONV_LAUNCH((depthwise_gather_pixels_kernel<T>), blocks_for(plan.blocks, 1), plan.threads,
                    plan.shared_bytes, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w),
                    pointer<const T>(b), pointer<T>(y), plan, activation);
    return true;
  }
  DepthwisePlanes plan;
  if (!plan_planes(gather, kRun<A>, sizeof(T), aligned, plan)) return false;
  FASTCONV_LAUNCH((depthwise_gather_planes_kernel<T>), blocks_for(plan.blocks, 1), plan.threads,
                  plan.shared_bytes, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w),
                  pointer<const T>(b), pointer<T>(y), plan, activation);
  return true;
}

template <class T>
void launch_depthwise_forward(Format format, Address x, Address w, Address b, Address y, const Window& window,
                              Activation activation, Address stream) {
  if (window.output_elements() == 0) return;
  if (launch_depthwise_gather<T>(format, x, w, b, y, forward_gather(window), activation, stream)) return;
  const unsigned blocks = blocks_for(window.output_elements(), DepthwiseDirectTile::kThreads);
  FASTCONV_LAUNCH((depthwise_forward_direct_kernel<T>), blocks, DepthwiseDirectTile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w), pointer<const T>(b),
                  pointer<T>(y), window, format == Format::kChannelsLast, activation);
}

template <class T>
void launch_depthwise_input_grad(Format format, Address dy, Address w, Address b, Address dx,
                                 const Window& window, Address stream) {
  if (window.input_elements() == 0) return;
  const bool unit = window.stride[0] == 1 && window.stride[1] == 1 && window.stride[2] == 1;
  if (unit && launch_depthwise_gather<T>(format, dy, w, b, dx, input_grad_gather(window), Activation::kNone,
                                         stream)) {
    return;
  }
  DepthwiseSteps steps;
  for (int axis = 0; axis < 3; ++axis) {
    const int32_t common = std::gcd(window.stride[axis], window.dilation[axis]);
    steps.taps[axis] = std::min(window.stride[axis] / common, window.kernel[axis]);
    steps.positions[axis] = window.dilation[axis] / common;
  }
  const unsigned blocks = blocks_for(window.input_elements(), DepthwiseDirectTile::kThreads);
  FASTCONV_LAUNCH((depthwise_input_grad_direct_kernel<T>), blocks, DepthwiseDirectTile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(dy), pointer<const T>(w),
                  pointer<const T>(b), pointer<T>(dx), window, steps, format == Format::kChannelsLast);
}

}  // namespace

void depthwise_forward(Dtype dtype, Format format, Address x, Address w, Address b, Address y,
                       const Window& window, Activation activation, Address stream) {
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_forward<typename decltype(type)::type>(format, x, w, b, y, window, activation, stream);
  });
}

void depthwise_input_grad(Dtype dtype, Format format, Address dy, Address w, Address b, Address dx,
                          const Window& window, Address stream) {
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_input_grad<typename decltype(type)::type>(format, dy, w, b, dx, window, stream);
  });
}

}  // namespace fastconv
