// geometry.h -- which input positions each output position of a pooling covers, and the way back. Plain C++
// for host and device.
//
// An axis is windowed, output position p covering p * stride - before + r * dilation for r in [0, kernel), or
// adaptive, covering [floor(p * size / output), ceil((p + 1) * size / output)). What lies outside the input
// is left out. fastconv/cuda/pool_geometry.py makes these structures.
#pragma once
#include "divisor.h"
#include "window.h"

namespace fastconv {

/// Positions start, start + step, ... below stop, the step being known from elsewhere.
struct Span {
  int32_t start, stop;
};

/// One spatial axis of a pooling.
struct PoolAxis {
  int32_t size, output;
  int32_t kernel;  // taps of a window, 0 for an adaptive axis
  int32_t stride, dilation;
  int32_t before, after;  // padding

  FASTCONV_HOST_DEVICE bool adaptive() const { return kernel == 0; }
  /// Where the window of p begins, outside the input too.
  FASTCONV_HOST_DEVICE int64_t first(int32_t p) const { return int64_t{p} * stride - before; }
  /// Input positions from the first tap to the last.
  FASTCONV_HOST_DEVICE int64_t extent() const { return int64_t{kernel - 1} * dilation + 1; }

  /// The input positions that output position p covers, dilation apart.
  FASTCONV_HOST_DEVICE Span cell(int32_t p) const {
    if (adaptive()) {
      const int64_t next = int64_t{p + 1} * size + output - 1;
      return {static_cast<int32_t>(quotient(int64_t{p} * size, output)),
              static_cast<int32_t>(quotient(next, output))};
    }
    int64_t start = first(p);
    const int64_t stop = start + extent();
    if (start < 0)
      start += quotient(dilation - 1 - start, dilation) * dilation;  // the first tap that lies inside
    return {static_cast<int32_t>(start < size ? start : size),
            static_cast<int32_t>(stop < size ? stop : size)};
  }

  /// The same, those outside the input included: the cells of a windowed axis then have the same length.
  FASTCONV_HOST_DEVICE Span window(int32_t p) const {
    if (adaptive()) return cell(p);
    return {static_cast<int32_t>(first(p)), static_cast<int32_t>(first(p) + extent())};
  }

  /// The input positions between which all taps of output positions p to last lie.
  FASTCONV_HOST_DEVICE Span reach(int32_t p, int32_t last) const {
    if (adaptive()) return {cell(p).start, cell(last).stop};
    const int64_t start = first(p);
    return {static_cast<int32_t>(start > 0 ? start : 0), cell(last).stop};
  }

  /// The same, those outside the input included.
  FASTCONV_HOST_DEVICE Span overhanging(int32_t p, int32_t last) const {
    return {window(p).start, window(last).stop};
  }

  /// The output positions whose windows, gaps of a dilation included, cover input position i.
  FASTCONV_HOST_DEVICE Span covering(int32_t i) const {
    if (adaptive()) {
      if (output == 0) return {0, 0};
      return {static_cast<int32_t>(quotient(int64_t{i} * output, size)),
              static_cast<int32_t>(quotient(int64_t{i + 1} * output - 1, size) + 1)};
    }
    const int64_t newest = int64_t{i} + before, oldest = newest - extent() + 1;
    const int64_t stop = quotient(newest, stride) + 1;
    return {static_cast<int32_t>(oldest > 0 ? quotient(oldest - 1, stride) + 1 : 0),
            static_cast<int32_t>(stop < output ? stop : output)};
  }

  /// Elements of the window of p that an average counts along this axis; there is no dilation then.
  FASTCONV_HOST_DEVICE int32_t counted(int32_t p, bool include_padding) const {
    if (adaptive() || !include_padding) {
      const Span inside = cell(p);
      return inside.stop - inside.start;
    }
    const int64_t start = first(p), stop = start + kernel, end = int64_t{size} + after;
    return static_cast<int32_t>((stop < end ? stop : end) - start);
  }
};

/// One problem of pooling: x [planes, *size, lanes], y [planes, *output, lanes]. Channels first has N * C
/// planes of one lane, channels last N planes of C lanes.
struct Pooling {
  int64_t planes;
  int32_t lanes;
  PoolAxis axis[3];

  FASTCONV_HOST_DEVICE int64_t positions() const {
    return int64_t{axis[0].size} * axis[1].size * axis[2].size;
  }
  FASTCONV_HOST_DEVICE int64_t outputs() const {
    return int64_t{axis[0].output} * axis[1].output * axis[2].output;
  }
  FASTCONV_HOST_DEVICE int64_t input_elements() const { return planes * positions() * lanes; }
  FASTCONV_HOST_DEVICE int64_t output_elements() const { return planes * outputs() * lanes; }
  /// Offset of an element of x, and of y.
  FASTCONV_HOST_DEVICE int64_t input_at(int64_t plane, int32_t d, int32_t h, int32_t w, int32_t lane) const {
    return (((plane * axis[0].size + d) * axis[1].size + h) * axis[2].size + w) * lanes + lane;
  }
  FASTCONV_HOST_DEVICE int64_t output_at(int64_t plane, int32_t o, int32_t p, int32_t q, int32_t lane) const {
    return (((plane * axis[0].output + o) * axis[1].output + p) * axis[2].output + q) * lanes + lane;
  }
};

/// Positions within windows of at most 256 elements, in the order of the flattened window: a byte instead of
/// the eight of a position in the flattened plane.
class WindowTaps {
 public:
  explicit WindowTaps(const Pooling& pooling) {
    for (int a = 0; a < 3; ++a) {
      kernel_[a] = Divisor(pooling.axis[a].adaptive() ? 1 : pooling.axis[a].kernel);
      dilation_[a] = Divisor(pooling.axis[a].dilation);
    }
  }

  /// That of the input position d, h, w in the window of the output position o, p, q.
  FASTCONV_HOST_DEVICE uint8_t tap(const Pooling& pooling, int32_t o, int32_t p, int32_t q, int32_t d,
                                   int32_t h, int32_t w) const {
    const int32_t slice = dilation_[0](static_cast<int32_t>(d - pooling.axis[0].first(o))),
                  row = dilation_[1](static_cast<int32_t>(h - pooling.axis[1].first(p))),
                  column = dilation_[2](static_cast<int32_t>(w - pooling.axis[2].first(q)));
    return static_cast<uint8_t>((slice * kernel_[1].value() + row) * kernel_[2].value() + column);
  }

  /// The way back: a position in the flattened plane.
  FASTCONV_HOST_DEVICE int64_t position(const Pooling& pooling, int32_t o, int32_t p, int32_t q,
                                        uint8_t tap) const {
    const int32_t row = kernel_[2](tap), slice = kernel_[1](row);
    const int64_t d = pooling.axis[0].first(o) + slice * dilation_[0].value(),
                  h = pooling.axis[1].first(p) + (row - slice * kernel_[1].value()) * dilation_[1].value(),
                  w = pooling.axis[2].first(q) + (tap - row * kernel_[2].value()) * dilation_[2].value();
    return (d * pooling.axis[1].size + h) * pooling.axis[2].size + w;
  }

 private:
  Divisor kernel_[3], dilation_[3];
};

/// What the sum of an average pooling is divided by.
struct Averaging {
  bool include_padding;  // whether the padding, which is zero, counts
  double divisor;        // if not 0, this number instead of any count
};

}  // namespace fastconv
