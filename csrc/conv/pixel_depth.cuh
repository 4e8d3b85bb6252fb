// pixel_depth.cuh -- the operands of a weight gradient, whose depth is the pixels of the output.
#pragma once
#include "conv/gather.cuh"

namespace fastconv {

/// A pixel of the output that walks on by kDepth at a time, without a division.
struct PixelCursor {
  Pixel now, by;
  int64_t left;  // pixels from here to the end of the block's part, at most 0 past it

  __device__ PixelCursor(int64_t first, int64_t end, int depth, int step, const Axes& count)
      : now(pixel_of(first + depth, count)), by(pixel_of(step, count)), left(end - first - depth) {}

  __device__ __forceinline__ void advance(int step, const Axes& count) {
    int32_t carry = 0;
#pragma unroll
    for (int axis = 2; axis >= 0; --axis) {
      now.at[axis] += by.at[axis] + carry;
      carry = now.at[axis] >= count[axis];
      now.at[axis] -= carry ? count[axis] : 0;
    }
    now.image += by.image + carry;
    left -= step;
  }
};

/// How the threads of a block share panels whose depth is pixels: both operands of a thread are of one pixel.
template <class Tile>
__device__ __forceinline__ GemmShare pixel_share(bool channels_last, bool vectors, int thread) {
  if (!channels_last) return GemmShare::depth_elements<Tile>(thread);
  return vectors ? GemmShare::row_vectors<Tile>(thread) : GemmShare::row_elements<Tile>(thread);
}

/// Operand on the left: element (filter, pixel) of dy.
template <class Tile>
class ErrorOperand {
  using T = typename Tile::Element;

 public:
  /// dy: at the first filter of the tile. rows: filters left from there on.
  __device__ ErrorOperand(const Image<T>& dy, int rows, bool vectors, int thread)
      : dy_(dy), rows_(rows), vectors_(vectors) {
    share_ = pixel_share<Tile>(dy.channels_last, vectors, thread);
    dy_.p += share_.row * dy.channel_pitch;
    step_ = share_.step * dy.channel_pitch;
  }

  __device__ __forceinline__ void fetch(const PixelCursor& cursor, const Axes& output) {
    const int64_t place =
        (int64_t{cursor.now.at[0]} * output[1] + cursor.now.at[1]) * output[2] + cursor.now.at[2];
    const T* from = dy_.p + cursor.now.image * dy_.image_pitch + place * dy_.pixel_pitch;
    if (vectors_) {
      if (cursor.left > 0 && share_.row < rows_) {
        registers_.load(from);
      } else {
        registers_.clear();
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      const bool there = cursor.left > 0 && share_.row + i * share_.step < rows_;
      registers_.value[i] = there ? from[i * step_] : narrow<T>(0);
    }
  }

  __device__ __forceinline__ void stash(typename Tile::Sum* panel) {
    typename Tile::Sum wide[Tile::kLoad];
    registers_.widened(wide);
    check_.add(wide);
    fastconv::stash<Tile>(panel, share_, wide);
  }
  __device__ __forceinline__ bool not_finite() const { return check_.failed(); }

 private:
  GemmRegisters<Tile> registers_;
  FiniteCheck<typename Tile::Sum> check_;
  GemmShare share_;
  Image<T> dy_;
  int64_t step_;
  int rows_;
  bool vectors_;
};

/// Operand on the right: element (pixel, column) is what the pixel and the column's tap meet in the column's
/// channel. Columns lie as in dw: channel by channel, or tap by tap where the images are channels last.
template <class Tile>
class PatchOperand {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;

 public:
  /// x: at the first channel of the group. first: number of the tile's first column, of `columns`.
  __device__ PatchOperand(const Image<T>& x, const Window& window, int64_t first, int64_t columns,
                          bool vectors, int thread)
      : x_(x), window_(window), vectors_(vectors) {
    const bool last = x.channels_last;
    share_ = pixel_share<Tile>(last, vectors, thread);
    const int32_t taps = static_cast<int32_t>(window.kernel.product()), channels = window.group_channels();
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      const int64_t column = first + share_.row + i * share_.step;
      const int64_t channel = last ? column % channels : column / taps;
      const Pixel tap = pixel_of(last ? column / channels : column % taps, window.kernel);
      int64_t place = 0;
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        offset_[i][axis] = tap.at[axis] * window.dilation[axis] - window.padding[axis];
        place = place * window.size[axis] + offset_[i][axis];
      }
      at_[i] = channel * x.channel_pitch + place * x.pixel_pitch;
      if (column >= columns) there_ &= ~(1u << i);
    }
  }

  __device__ __forceinline__ void fetch(const PixelCursor& cursor) {
    Axes corner;
    int64_t place = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      corner[axis] = cursor.now.at[axis] * window_.stride[axis];
      place = place * window_.size[axis] + corner[axis];
    }
    const T* from = x_.p + cursor.now.image * x_.image_pitch + place * x_.pixel_pitch;
    const auto inside = [&](int i) {
      bool all = cursor.left > 0 && (there_ >> i & 1);
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        const auto at = static_cast<uint32_t>(corner[axis] + offset_[i][axis]);
        all = all && at < static_cast<uint32_t>(window_.size[axis]);
      }
      return all;
    };
    if (vectors_) {
      outside_ = inside(0) ? 0 : ~0u;
      if (outside_ == 0) {
        registers_.load(from + at_[0]);
      } else {
        registers_.clear();
      }
      return;
    }
    outside_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      const bool met = inside(i);
      registers_.value[i] = met ? from[at_[i]] : narrow<T>(0);
      outside_ |= met ? 0 : 1u << i;
    }
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
  GemmRegisters<Tile> registers_;
  GemmShare share_;
  Image<T> x_;
  const Window& window_;
  int64_t at_[Tile::kLoad];   // from where a pixel's corner lies to what its column reads
  Axes offset_[Tile::kLoad];  // the same along each axis
  uint32_t there_ = ~0u;      // a bit a column of dw
  uint32_t outside_ = 0;      // a bit an element of the registers
  bool vectors_;
};

}  // namespace fastconv
