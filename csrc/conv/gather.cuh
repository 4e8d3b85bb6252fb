// gather.cuh -- the operands of an implicit GEMM whose columns are pixels and whose depth is taps by
// channels.
//
// The depth is numbered tap by tap, all channels of one before the next, so that padding and offsets change
// but once a tap. Source: Chetlur et al., cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759.
#pragma once
#include "conv/sampling.h"
#include "gemm/operand.cuh"

namespace fastconv {

/// A place along the depth.
struct DepthCursor {
  int32_t channel;
  Axes tap;

  /// Go `count` places on; whether the tap has changed.
  __device__ __forceinline__ bool skip(int32_t count, int32_t channels, const Axes& taps) {
    channel += count;
    const bool changed = channel >= channels;
    while (channel >= channels) {
      channel -= channels;
      if (++tap[2] == taps[2]) {
        tap[2] = 0;
        if (++tap[1] == taps[1]) {
          tap[1] = 0;
          ++tap[0];
        }
      }
    }
    return changed;
  }
};

/// An image [N, C, *size] in either memory format.
template <class T>
struct Image {
  const T* p;
  int64_t image_pitch;    // elements from one image of the batch to the next
  int64_t channel_pitch;  // from one channel to the next
  int64_t pixel_pitch;    // from one position of the innermost axis to the next
  bool channels_last;
};

template <class T>
__host__ __device__ Image<T> image_of(const T* p, int64_t channels, const Axes& size, bool channels_last) {
  const int64_t plane = size.product();
  return {p, channels * plane, channels_last ? 1 : plane, channels_last ? channels : 1, channels_last};
}

/// Operand on the right: element (depth, pixel) is what the tap and channel of that depth meet for the pixel.
template <class Tile>
class GatherOperand {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;

 public:
  /// image: at the first channel of the group. first: number of the tile's first pixel, of `pixels`.
  __device__ GatherOperand(const Image<T>& image, const Sampling& s, int32_t channels, int64_t first,
                           int64_t pixels, bool vectors, int thread)
      : s_(s), channels_(channels), vectors_(vectors) {
    share_ =
        image.channels_last ? GemmShare::depth_vectors<Tile>(thread) : GemmShare::depth_of_rows<Tile>(thread);
    pixel_pitch_ = image.pixel_pitch;
    channel_pitch_ = image.channel_pitch;
    one_tap_ = channels % Tile::kLoad == 0;
    there_ = first + share_.row < pixels;
    const Pixel pixel = pixel_of(there_ ? first + share_.row : 0, s.count);
    image_ = image.p + pixel.image * image.image_pitch;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) position_[axis] = pixel.at[axis] * s.step[axis] + s.first[axis];
    cursor_ = {0, {{0, 0, 0}}};
    cursor_.skip(share_.depth, channels_, s_.taps);
    locate();
  }

  __device__ __forceinline__ void fetch() {
    if (one_tap_) {
      outside_ = inside_ ? 0 : ~0u;
      const T* from = tap_ + cursor_.channel * channel_pitch_;
      if (!inside_) {
        registers_.clear();
      } else if (vectors_) {
        registers_.load(from);
      } else {
#pragma unroll
        for (int i = 0; i < Tile::kLoad; ++i) registers_.value[i] = from[i * channel_pitch_];
      }
      if (cursor_.skip(Tile::kDepth, channels_, s_.taps)) locate();
      return;
    }
    outside_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      registers_.value[i] = inside_ ? tap_[cursor_.channel * channel_pitch_] : narrow<T>(0);
      outside_ |= inside_ ? 0 : 1u << i;
      if (cursor_.skip(1, channels_, s_.taps)) locate();
    }
    if (cursor_.skip(Tile::kDepth - Tile::kLoad, channels_, s_.taps)) locate();
  }

  __device__ __forceinline__ void stash(Sum* panel, bool guarded) {
    Sum wide[Tile::kLoad];
    registers_.widened(wide);
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      wide[i] = outside_ >> i & 1 ? outside_value<Sum>(guarded) : inside_value(wide[i]);
    }
    fastconv::stash<Tile>(panel, share_, wide);
  }

 private:
  /// Find where the pixel and the cursor's tap meet; past the last tap is outside, too.
  __device__ __forceinline__ void locate() {
    int64_t place = 0;
    inside_ = there_ && cursor_.tap[0] < s_.taps[0];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t at = position_[axis] + cursor_.tap[axis] * s_.increment[axis];
      inside_ = inside_ && static_cast<uint32_t>(at) < static_cast<uint32_t>(s_.size[axis]);
      place = place * s_.size[axis] + at;
    }
    tap_ = image_ + (inside_ ? place * pixel_pitch_ : 0);
  }

  GemmRegisters<Tile> registers_;
  GemmShare share_;
  const Sampling& s_;
  DepthCursor cursor_;
  Axes position_;  // that tap 0 reads
  const T* image_;
  const T* tap_;  // channel 0 where the pixel and the cursor's tap meet
  int64_t pixel_pitch_, channel_pitch_;
  int32_t channels_;
  uint32_t outside_;  // a bit an element of the registers
  bool there_, inside_, one_tap_, vectors_;
};

/// Operand on the left of an input gradient: element (channel, depth) is w[filter, tap, channel], where the
/// depth is taps by filters and w is channels last, so that channels are contiguous.
template <class Tile>
class TransposedFilters {
  using T = typename Tile::Element;

 public:
  /// w: [filters, taps of the window, channels] of the group, at the first channel of the tile; rows:
  /// channels left from there on.
  __device__ TransposedFilters(const T* w, const Sampling& s, const Axes& kernel, int32_t filters,
                               int32_t channels, int rows, bool vectors, int thread)
      : s_(s),
        kernel_(kernel),
        w_(w),
        filters_(filters),
        channels_(channels),
        rows_(rows),
        vectors_(vectors) {
    share_ = vectors ? GemmShare::row_vectors<Tile>(thread) : GemmShare::row_elements<Tile>(thread);
    w_ += share_.row;
    pitch_ = kernel.product() * channels;
    cursor_ = {0, {{0, 0, 0}}};
    cursor_.skip(share_.depth, filters_, s_.taps);
    locate();
  }

  __device__ __forceinline__ void fetch() {
    const bool inside = cursor_.tap[0] < s_.taps[0];
    const T* from = tap_ + cursor_.channel * pitch_;
    if (vectors_) {
      if (inside && share_.row < rows_) {
        registers_.load(from);
      } else {
        registers_.clear();
      }
    } else {
#pragma unroll
      for (int i = 0; i < Tile::kLoad; ++i) {
        const bool there = inside && share_.row + i * share_.step < rows_;
        registers_.value[i] = there ? from[i * share_.step] : narrow<T>(0);
      }
    }
    if (cursor_.skip(Tile::kDepth, filters_, s_.taps)) locate();
  }

  __device__ __forceinline__ void stash(typename Tile::Sum* panel) {
    typename Tile::Sum wide[Tile::kLoad];
    registers_.widened(wide);
    check_.add(wide);
    fastconv::stash<Tile>(panel, share_, wide);
  }
  __device__ __forceinline__ bool not_finite() const { return check_.failed(); }

 private:
  __device__ __forceinline__ void locate() {
    int64_t tap = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      tap = tap * kernel_[axis] + s_.tap_start[axis] + cursor_.tap[axis] * s_.tap_step[axis];
    }
    tap_ = w_ + tap * channels_;
  }

  GemmRegisters<Tile> registers_;
  FiniteCheck<typename Tile::Sum> check_;
  GemmShare share_;
  const Sampling& s_;
  const Axes& kernel_;
  DepthCursor cursor_;
  const T* w_;
  const T* tap_;   // filter 0 of the cursor's tap
  int64_t pitch_;  // elements from one filter to the next
  int32_t filters_, channels_;
  int rows_;
  bool vectors_;
};

}  // namespace fastconv
