// window.h -- geometry of a sliding window, always three spatial axes. Plain C++ for host and device.
//
// Along each axis, output position p and tap r meet at input position p * stride - padding + r * dilation;
// positions outside [0, size) are padding. Letters and formulas: Dumoulin & Visin, arXiv:1603.07285.
// fastconv/window.py has checked all of it before it comes here.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define FASTCONV_HOST_DEVICE __host__ __device__
#else
#define FASTCONV_HOST_DEVICE
#endif

namespace fastconv {

/// Three numbers, one a spatial axis: depth, height, width. A problem of rank 1 or 2 has size 1 in front.
struct Axes {
  int32_t value[3];
  FASTCONV_HOST_DEVICE int32_t& operator[](int axis) { return value[axis]; }
  FASTCONV_HOST_DEVICE int32_t operator[](int axis) const { return value[axis]; }
  FASTCONV_HOST_DEVICE int64_t product() const { return int64_t{value[0]} * value[1] * value[2]; }
};

/// One problem of convolution or pooling.
struct Window {
  int64_t batch;     // N
  int32_t channels;  // C, of the input
  int32_t filters;   // K, channels of the output; equal to C for pooling
  int32_t groups;
  Axes size, kernel, stride, dilation, padding, output;  // padding is the one before each axis

  FASTCONV_HOST_DEVICE int32_t group_channels() const { return channels / groups; }
  FASTCONV_HOST_DEVICE int32_t group_filters() const { return filters / groups; }
  FASTCONV_HOST_DEVICE int64_t input_planes() const { return batch * channels; }
  FASTCONV_HOST_DEVICE int64_t output_planes() const { return batch * filters; }
  FASTCONV_HOST_DEVICE int64_t input_elements() const { return input_planes() * size.product(); }
  FASTCONV_HOST_DEVICE int64_t output_elements() const { return output_planes() * output.product(); }
  FASTCONV_HOST_DEVICE int64_t weight_elements() const {
    return int64_t{filters} * group_channels() * kernel.product();
  }
  /// Where output position p and tap r meet along an axis; outside [0, size) is padding.
  FASTCONV_HOST_DEVICE int32_t meeting(int axis, int32_t p, int32_t r) const {
    return p * stride[axis] - padding[axis] + r * dilation[axis];
  }
};

}  // namespace fastconv
