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

/// How an image [N, C, *size] lies in memory. Where it lies stays a parameter of the kernel: loads through an
/// address that was itself read from memory would not be known to be of global memory.
struct ImageLayout {
  int64_t image_pitch;    // elements from one image of the batch to the next
  int64_t channel_pitch;  // from one channel to the next
  int64_t pixel_pitch;    // from one position of the innermost axis to the next
  bool channels_last;
};

__host__ __device__ inline ImageLayout layout_of(int64_t channels, const Axes& size, bool channels_last) {
  const int64_t plane = size.product();
  return {channels * plane, channels_last ? 1 : plane, channels_last ? channels : 1, channels_last};
}

/// What all threads of a block know of it. It lies in shared memory, because registers that no step of the
/// sum needs would cost the block its neighbours on the multiprocessor.
struct GatherBlock {
  Sampling sampling;
  ImageLayout image;
  Pixel pixel;    // the tile's first
  int64_t depth;  // taps by channels
  int32_t group, first_row;
  int rows, columns;  // how many are left from the first of the tile on; none where a phase has ended
};

/// Operand on the right: element (depth, pixel) is what the tap and channel of that depth meet for the pixel.
template <class Tile>
class GatherOperand {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;

 public:
  /// image: the first channel of the group.
  __device__ GatherOperand(const T* image, const GatherBlock& block, int32_t channels, bool vectors,
                           int thread)
      : block_(block), channels_(channels), vectors_(vectors) {
    const Sampling& s = block.sampling;
    share_ = block.image.channels_last ? GemmShare::depth_vectors<Tile>(thread)
                                       : GemmShare::depth_of_rows<Tile>(thread);
    one_tap_ = channels % Tile::kLoad == 0;
    there_ = share_.row < block.columns;
    const Pixel pixel = pixel_after(block.pixel, share_.row, s.count);
    image_ = image + (there_ ? pixel.image * block.image.image_pitch : 0);
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) position_[axis] = pixel.at[axis] * s.step[axis] + s.first[axis];
    cursor_ = {0, {{0, 0, 0}}};
    cursor_.skip(share_.depth, channels_, s.taps);
    locate();
  }

  __device__ __forceinline__ void fetch() {
    const Axes& taps = block_.sampling.taps;
    const int64_t channel_pitch = block_.image.channel_pitch;
    if (one_tap_) {
      outside_ = inside_ ? 0 : ~0u;
      const T* from = tap_ + cursor_.channel * channel_pitch;
      if (!inside_) {
        registers_.clear();
      } else if (vectors_) {
        registers_.load(from);
      } else {
#pragma unroll
        for (int i = 0; i < Tile::kLoad; ++i) registers_.value[i] = from[i * channel_pitch];
      }
      if (cursor_.skip(Tile::kDepth, channels_, taps)) locate();
      return;
    }
    outside_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      registers_.value[i] = inside_ ? tap_[cursor_.channel * channel_pitch] : narrow<T>(0);
      outside_ |= inside_ ? 0 : 1u << i;
      if (cursor_.skip(1, channels_, taps)) locate();
    }
    if (cursor_.skip(Tile::kDepth - Tile::kLoad, channels_, taps)) locate();
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
    const Sampling& s = block_.sampling;
    int64_t place = 0;
    inside_ = there_ && cursor_.tap[0] < s.taps[0];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t at = position_[axis] + cursor_.tap[axis] * s.increment[axis];
      inside_ = inside_ && static_cast<uint32_t>(at) < static_cast<uint32_t>(s.size[axis]);
      place = place * s.size[axis] + at;
    }
    tap_ = image_ + (inside_ ? place * block_.image.pixel_pitch : 0);
  }

  GemmRegisters<Tile> registers_;
  GemmShare share_;
  const GatherBlock& block_;
  DepthCursor cursor_;
  Axes position_;  // that tap 0 reads
  const T* image_;
  const T* tap_;  // channel 0 where the pixel and the cursor's tap meet
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
  /// w: [filters, taps of the window, channels] of the group, at the first channel of the tile.
  __device__ TransposedFilters(const T* w, const GatherBlock& block, const Axes& kernel, int32_t filters,
                               int32_t channels, bool vectors, int thread)
      : block_(block), kernel_(kernel), w_(w), filters_(filters), channels_(channels), vectors_(vectors) {
    share_ = vectors ? GemmShare::row_vectors<Tile>(thread) : GemmShare::row_elements<Tile>(thread);
    w_ += share_.row;
    pitch_ = kernel.product() * channels;
    cursor_ = {0, {{0, 0, 0}}};
    cursor_.skip(share_.depth, filters_, block.sampling.taps);
    locate();
  }

  __device__ __forceinline__ void fetch() {
    const Axes& taps = block_.sampling.taps;
    const bool inside = cursor_.tap[0] < taps[0];
    const T* from = tap_ + cursor_.channel * pitch_;
    if (vectors_) {
      if (inside && share_.row < block_.rows) {
        registers_.load(from);
      } else {
        registers_.clear();
      }
    } else {
#pragma unroll
      for (int i = 0; i < Tile::kLoad; ++i) {
        const bool there = inside && share_.row + i * share_.step < block_.rows;
        registers_.value[i] = there ? from[i * share_.step] : narrow<T>(0);
      }
    }
    if (cursor_.skip(Tile::kDepth, filters_, taps)) locate();
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
    const Sampling& s = block_.sampling;
    int64_t tap = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      tap = tap * kernel_[axis] + s.tap_start[axis] + cursor_.tap[axis] * s.tap_step[axis];
    }
    tap_ = w_ + tap * channels_;
  }

  GemmRegisters<Tile> registers_;
  FiniteCheck<typename Tile::Sum> check_;
  GemmShare share_;
  const GatherBlock& block_;
  const Axes& kernel_;
  DepthCursor cursor_;
  const T* w_;
  const T* tap_;   // filter 0 of the cursor's tap
  int64_t pitch_;  // elements from one filter to the next
  int32_t filters_, channels_;
  bool vectors_;
};

}  // namespace fastconv
