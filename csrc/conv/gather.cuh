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
  int32_t channel, tap;

  /// Go `count` places on; whether the tap has changed.
  __device__ __forceinline__ bool skip(int32_t count, int32_t channels) {
    channel += count;
    const bool changed = channel >= channels;
    while (channel >= channels) {
      channel -= channels;
      ++tap;
    }
    return changed;
  }
};

/// The tap of a number, along each axis; one past the last has as many along the first axis as there are.
__device__ __forceinline__ Axes tap_of(int32_t number, const Axes& taps) {
  const uint32_t rows = static_cast<uint32_t>(number) / static_cast<uint32_t>(taps[2]);
  const uint32_t planes = rows / static_cast<uint32_t>(taps[1]);
  return {{static_cast<int32_t>(planes), static_cast<int32_t>(rows - planes * taps[1]),
           static_cast<int32_t>(number - rows * taps[2])}};
}

/// How an image [N, C, *size] lies in memory. Where it lies stays a parameter of the kernel: loads through an
/// address that was itself read from memory would not be known to be of global memory.
struct ImageLayout {
  int64_t offset;         // elements to what is the block's first channel
  int64_t image_pitch;    // elements from one image of the batch to the next
  int64_t channel_pitch;  // from one channel to the next
  int64_t pixel_pitch;    // from one position of the innermost axis to the next
  bool channels_last;
};

__device__ inline void lay_out(ImageLayout& layout, int64_t channels, int64_t first_channel, const Axes& size,
                               bool channels_last) {
  const int64_t plane = size.product();
  layout.image_pitch = channels * plane;
  layout.channel_pitch = channels_last ? 1 : plane;
  layout.pixel_pitch = channels_last ? channels : 1;
  layout.offset = first_channel * layout.channel_pitch;
  layout.channels_last = channels_last;
}

/// What all threads of a block know of it. It lies in shared memory, because registers that no step of the
/// sum needs would cost the block its neighbours on the multiprocessor.
struct GatherBlock {
  Sampling sampling;
  ImageLayout image;
  Pixel pixel;      // the tile's first
  int64_t filters;  // elements of w to the first that the tile reads
  int32_t depth;    // taps by channels
  int32_t group, first_row;
  int rows, columns;  // how many are left from the first of the tile on; none where a phase has ended
};

/// Operand on the right: element (depth, pixel) is what the tap and channel of that depth meet for the pixel.
/// What changes with the tap alone is computed anew from the number of the tap, not kept.
template <class Tile>
class GatherOperand {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;

 public:
  __device__ GatherOperand(const T* images, const GatherBlock& block, int32_t channels, bool vectors,
                           int thread)
      : images_(images), block_(block), channels_(channels), vectors_(vectors) {
    share_ = block.image.channels_last ? GemmShare::depth_vectors<Tile>(thread)
                                       : GemmShare::depth_of_rows<Tile>(thread);
    cursor_ = {0, 0};
    cursor_.skip(share_.depth, channels_);
    locate(corner(), tap_of(cursor_.tap, block.sampling.taps));
  }

  __device__ __forceinline__ void fetch() {
    const int64_t channel_pitch = block_.image.channel_pitch;
    const Axes& taps = block_.sampling.taps;
    if (channels_ % Tile::kLoad == 0) {  // all of the share is of one tap
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
      if (cursor_.skip(Tile::kDepth, channels_)) locate(corner(), tap_of(cursor_.tap, taps));
      return;
    }
    const Corner corner = this->corner();
    Axes tap = tap_of(cursor_.tap, taps);
    locate(corner, tap);
    outside_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      registers_.value[i] = inside_ ? tap_[cursor_.channel * channel_pitch] : narrow<T>(0);
      outside_ |= inside_ ? 0 : 1u << i;
      if (++cursor_.channel < channels_) continue;
      cursor_.channel = 0;
      ++cursor_.tap;
      if (++tap[2] == taps[2]) {
        tap[2] = 0;
        if (++tap[1] == taps[1]) {
          tap[1] = 0;
          ++tap[0];
        }
      }
      locate(corner, tap);
    }
    cursor_.skip(Tile::kDepth - Tile::kLoad, channels_);
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
  /// Where the pixel's tap 0 lies.
  struct Corner {
    int64_t image;  // elements to the image of the pixel
    Axes position;
  };
  __device__ __forceinline__ Corner corner() const {
    const Sampling& s = block_.sampling;
    const Pixel pixel = pixel_after(block_.pixel, share_.row, s.count);
    Corner corner;
    corner.image = block_.image.offset + pixel.image * block_.image.image_pitch;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      corner.position[axis] = pixel.at[axis] * s.step[axis] + s.first[axis];
    }
    return corner;
  }

  /// Find where the pixel and a tap meet; past the last tap is outside, too.
  __device__ __forceinline__ void locate(const Corner& corner, const Axes& tap) {
    const Sampling& s = block_.sampling;
    int64_t place = 0;
    inside_ = share_.row < block_.columns && tap[0] < s.taps[0];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const int32_t at = corner.position[axis] + tap[axis] * s.increment[axis];
      inside_ = inside_ && static_cast<uint32_t>(at) < static_cast<uint32_t>(s.size[axis]);
      place = place * s.size[axis] + at;
    }
    tap_ = images_ + (inside_ ? corner.image + place * block_.image.pixel_pitch : 0);
  }

  GemmRegisters<Tile> registers_;
  GemmShare share_;
  const T* images_;
  const GatherBlock& block_;
  DepthCursor cursor_;
  const T* tap_;  // channel 0 where the pixel and the cursor's tap meet
  int32_t channels_;
  uint32_t outside_;  // a bit an element of the registers
  bool inside_, vectors_;
};

/// Operand on the left of an input gradient: element (channel, depth) is w[filter, tap, channel], where the
/// depth is taps by filters and w is channels last, so that channels are contiguous.
template <class Tile>
class TransposedFilters {
  using T = typename Tile::Element;

 public:
  /// w: [K, taps of the window, channels].
  __device__ TransposedFilters(const T* w, const GatherBlock& block, const Axes& kernel, int32_t filters,
                               int32_t channels, bool vectors, int thread)
      : w_(w), block_(block), kernel_(kernel), filters_(filters), channels_(channels), vectors_(vectors) {
    share_ = vectors ? GemmShare::row_vectors<Tile>(thread) : GemmShare::row_elements<Tile>(thread);
    cursor_ = {0, 0};
    cursor_.skip(share_.depth, filters_);
    locate();
  }

  __device__ __forceinline__ void fetch() {
    const T* from = tap_ + cursor_.channel * kernel_.product() * channels_;
    if (vectors_) {
      if (inside_ && share_.row < block_.rows) {
        registers_.load(from);
      } else {
        registers_.clear();
      }
    } else {
#pragma unroll
      for (int i = 0; i < Tile::kLoad; ++i) {
        const bool there = inside_ && share_.row + i * share_.step < block_.rows;
        registers_.value[i] = there ? from[i * share_.step] : narrow<T>(0);
      }
    }
    if (cursor_.skip(Tile::kDepth, filters_)) locate();
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
    const Axes tap = tap_of(cursor_.tap, s.taps);
    int64_t place = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      place = place * kernel_[axis] + s.tap_start[axis] + tap[axis] * s.tap_step[axis];
    }
    inside_ = tap[0] < s.taps[0];
    tap_ = w_ + block_.filters + place * channels_ + share_.row;
  }

  GemmRegisters<Tile> registers_;
  FiniteCheck<typename Tile::Sum> check_;
  GemmShare share_;
  const T* w_;
  const GatherBlock& block_;
  const Axes& kernel_;
  DepthCursor cursor_;
  const T* tap_;  // filter 0 of the cursor's tap
  int32_t filters_, channels_;
  bool inside_, vectors_;
};

}  // namespace fastconv
