// sampling.h -- which pixels a convolution gathers, for the forward pass and each phase of an input gradient.
//
// Along each axis pixel o and tap t meet in the image that is read at position o * step + first + t *
// increment; the sum is written at position start + o * spread. A strided input gradient is split into
// phases: positions of dx that share the same taps. Each phase is a convolution of dy with some of the taps,
// so that no inserted zeros are multiplied.
#pragma once
#include <algorithm>
#include <numeric>

#include "window.h"

namespace fastconv {

struct Sampling {
  Axes size;                 // positions of the image that is read
  Axes count;                // pixels computed
  Axes step;                 // positions read from one pixel to the next
  Axes taps;                 // taps that meet something
  Axes first, increment;     // position read by tap 0 for pixel 0, and from one tap to the next
  Axes tap_start, tap_step;  // which of the kernel's taps tap 0 is, and from one to the next
  Axes output;               // positions of the image that is written
  Axes start, spread;        // position written for pixel 0, and from one pixel to the next
};

/// to = from, member by member: the emulator's tracer does not see copies of whole structures.
FASTCONV_HOST_DEVICE inline void assign(Sampling& to, const Sampling& from) {
  for (int axis = 0; axis < 3; ++axis) {
    to.size[axis] = from.size[axis];
    to.count[axis] = from.count[axis];
    to.step[axis] = from.step[axis];
    to.taps[axis] = from.taps[axis];
    to.first[axis] = from.first[axis];
    to.increment[axis] = from.increment[axis];
    to.tap_start[axis] = from.tap_start[axis];
    to.tap_step[axis] = from.tap_step[axis];
    to.output[axis] = from.output[axis];
    to.start[axis] = from.start[axis];
    to.spread[axis] = from.spread[axis];
  }
}

inline Sampling forward_sampling(const Window& window) {
  const Axes zero{{0, 0, 0}}, one{{1, 1, 1}};
  Sampling s{window.size, window.output, window.stride, window.kernel, zero, window.dilation,
             zero,        one,           window.output, zero,          one};
  for (int axis = 0; axis < 3; ++axis) s.first[axis] = -window.padding[axis];
  return s;
}

/// How many phases an input gradient has along each axis.
inline Axes input_grad_phases(const Window& window) {
  Axes phases;
  for (int axis = 0; axis < 3; ++axis) phases[axis] = std::min(window.stride[axis], window.size[axis]);
  return phases;
}

/// What all phases of an input gradient share, and the first of them where there is but one; see enter_phase.
inline Sampling input_grad_sampling(const Window& window) {
  const Axes zero{{0, 0, 0}}, one{{1, 1, 1}};
  Sampling s{window.output, zero, one, zero, zero, zero, zero, zero, window.size, zero, window.stride};
  for (int axis = 0; axis < 3; ++axis) {
    // Position i meets tap r where i + padding - r * dilation is a multiple of the stride: so does every
    // stride / gcd'th tap after it, one dilation / gcd further back in dy.
    const int32_t divisor = std::gcd(window.stride[axis], window.dilation[axis]);
    s.tap_step[axis] = window.stride[axis] / divisor;
    s.increment[axis] = -(window.dilation[axis] / divisor);
  }
  return s;
}

/// Make the Sampling that of one phase: of the positions start + o * stride.
FASTCONV_HOST_DEVICE inline void enter_phase(Sampling& s, const Window& window, const Axes& start) {
  for (int axis = 0; axis < 3; ++axis) {
    const int32_t stride = window.stride[axis], kernel = window.kernel[axis];
    const int32_t position = start[axis] + window.padding[axis];
    int32_t tap = 0;
    while (tap < kernel && tap < s.tap_step[axis] && (position - tap * window.dilation[axis]) % stride != 0) {
      ++tap;
    }
    const bool meets = tap < kernel && tap < s.tap_step[axis];
    s.start[axis] = start[axis];
    s.count[axis] = (window.size[axis] - start[axis] + stride - 1) / stride;
    s.tap_start[axis] = tap;
    s.taps[axis] = meets ? (kernel - tap + s.tap_step[axis] - 1) / s.tap_step[axis] : 0;
    s.first[axis] = meets ? (position - tap * window.dilation[axis]) / stride : 0;
  }
}

/// One pixel: its image in the batch and its place along each axis.
struct Pixel {
  int64_t image;
  Axes at;
};

/// The pixel of a number, counted along the last axis first and through the batch last.
FASTCONV_HOST_DEVICE inline Pixel pixel_of(int64_t number, const Axes& count) {
  Pixel pixel;
  for (int axis = 2; axis >= 0; --axis) {
    const int64_t rest = number / count[axis];
    pixel.at[axis] = static_cast<int32_t>(number - rest * count[axis]);
    number = rest;
  }
  pixel.image = number;
  return pixel;
}

/// The pixel `steps` places after another one; few steps, so that no 64-bit division is needed.
FASTCONV_HOST_DEVICE inline Pixel pixel_after(const Pixel& pixel, int32_t steps, const Axes& count) {
  Pixel result;
  uint32_t carry = static_cast<uint32_t>(steps);
  for (int axis = 2; axis >= 0; --axis) {
    const uint32_t at = static_cast<uint32_t>(pixel.at[axis]) + carry;
    carry = at / static_cast<uint32_t>(count[axis]);
    result.at[axis] = static_cast<int32_t>(at - carry * static_cast<uint32_t>(count[axis]));
  }
  result.image = pixel.image + carry;
  return result;
}

}  // namespace fastconv
