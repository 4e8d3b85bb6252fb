// depthwise.cu -- forward and input gradient of depthwise convolution; see depthwise.h.
#include <numeric>

#include "conv/depthwise.h"
#include "conv/depthwise_direct.cuh"
#include "conv/depthwise_gather.h"

namespace fastconv {
namespace {

template <class T>
void launch_depthwise_forward_direct(Format format, Address x, Address w, Address b, Address y,
                                     const Window& window, Activation activation, Address stream) {
  const unsigned blocks = blocks_for(window.output_elements(), DepthwiseDirectTile::kThreads);
  FASTCONV_LAUNCH((depthwise_forward_direct_kernel<T>), blocks, DepthwiseDirectTile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w), pointer<const T>(b),
                  pointer<T>(y), window, format == Format::kChannelsLast, activation);
}

template <class T>
void launch_depthwise_input_grad_direct(Format format, Address dy, Address w, Address b, Address dx,
                                        const Window& window, Address stream) {
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
  if (window.output_elements() == 0) return;
  const auto gather = format == Format::kChannelsLast ? depthwise_gather_pixels : depthwise_gather_planes;
  if (gather(dtype, x, w, b, y, forward_gather(window), activation, stream)) return;
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_forward_direct<typename decltype(type)::type>(format, x, w, b, y, window, activation,
                                                                   stream);
  });
}

void depthwise_input_grad(Dtype dtype, Format format, Address dy, Address w, Address b, Address dx,
                          const Window& window, Address stream) {
  if (window.input_elements() == 0) return;
  const auto gather = format == Format::kChannelsLast ? depthwise_gather_pixels : depthwise_gather_planes;
  const bool unit = window.stride[0] == 1 && window.stride[1] == 1 && window.stride[2] == 1;
  if (unit && gather(dtype, dy, w, b, dx, input_grad_gather(window), Activation::kNone, stream)) return;
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_input_grad_direct<typename decltype(type)::type>(format, dy, w, b, dx, window, stream);
  });
}

}  // namespace fastconv
