// pixel_depth.cuh -- the operands of a weight gradient, whose depth is the pixels of the output.
#pragma once
#include "conv/gather.cuh"

namespace fastconv {

/// A pixel of the output that walks on by a step at a time, without a division.
struct PixelCursor {
  Pixel now;
  int64_t left;  // pixels from here to the end of the block's part, at most 0 past it

  /// by: pixel_of the step.
  __device__ __forceinline__ void advance(int step, const Pixel& by, const Axes& count) {
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
  /// layout: of dy, at the first filter of the tile. rows: filters left from there on.
  __device__ ErrorOperand(const T* dy, const ImageLayout& layout, int rows, bool vectors, int thread)
      : dy_(dy), layout_(layout), rows_(rows), vectors_(vectors) {
    share_ = pixel_share<Tile>(layout.channels_last, vectors, thread);
  }

  __device__ __forceinline__ void fetch(const PixelCursor& cursor, const Axes& output) {
    const int64_t place =
        (int64_t{cursor.now.at[0]} * output[1] + cursor.now.at[1]) * output[2] + cursor.now.at[2];
    const T* from = dy_ + layout_.offset + cursor.now.image * layout_.image_pitch +
                    place * layout_.pixel_pitch + share_.row * layout_.channel_pitch;
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
      registers_.value[i] = there ? from[i * share_.step * layout_.channel_pitch] : narrow<T>(0);
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
  const T* dy_;
  const ImageLayout& layout_;
  int rows_;
  bool vectors_;
};

/// A column of dw, which is a tap and a channel.
struct PatchColumn {
  int64_t at;   // elements from where the corner of a pixel's window lies to what the column reads
  Axes offset;  // the same along each axis; outside for every pixel past the last column
};

/// An offset that takes every position out of the image.
constexpr int32_t kOutside = std::numeric_limits<int32_t>::min();

/// The columns of a tile, an array a member: neighbours are read together.
template <int kColumns>
struct PatchColumns {
  int64_t at[kColumns];
  int32_t offset[3][kColumns];
  __device__ __forceinline__ PatchColumn operator[](int i) const {
    return {at[i], {{offset[0][i], offset[1][i], offset[2][i]}}};
  }
};

/// Columns lie as in dw: channel by channel, or tap by tap where the images are channels last.
template <int kColumns>
__device__ void describe(PatchColumns<kColumns>& columns, int i, int64_t column, int64_t end,
                         const ImageLayout& x, const Window& window) {
  const int64_t taps = window.kernel.product(), channels = window.group_channels();
  const int64_t channel = x.channels_last ? column % channels : column / taps;
  const Pixel tap = pixel_of(x.channels_last ? column / channels : column % taps, window.kernel);
  int64_t place = 0;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    const int32_t offset = tap.at[axis] * window.dilation[axis] - window.padding[axis];
    columns.offset[axis][i] = column < end ? offset : kOutside;
    place = place * window.size[axis] + offset;
  }
  columns.at[i] = channel * x.channel_pitch + place * x.pixel_pitch;
}

/// Operand on the right: element (pixel, column) is what the pixel and the column's tap meet in the column's
/// channel.
template <class Tile>
class PatchOperand {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;

 public:
  using Columns = PatchColumns<Tile::kColumns>;

  /// layout: of x, at the first channel of the group. columns: those of the tile, in shared memory.
  __device__ PatchOperand(const T* x, const ImageLayout& layout, const Window& window, const Columns& columns,
                          bool vectors, int thread)
      : x_(x), layout_(layout), window_(window), columns_(columns), vectors_(vectors) {
    share_ = pixel_share<Tile>(layout.channels_last, vectors, thread);
    if (vectors) column_ = columns[share_.row];
  }

  __device__ __forceinline__ void fetch(const PixelCursor& cursor) {
    Axes corner;
    int64_t place = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      corner[axis] = cursor.now.at[axis] * window_.stride[axis];
      place = place * window_.size[axis] + corner[axis];
    }
    const T* from =
        x_ + layout_.offset + cursor.now.image * layout_.image_pitch + place * layout_.pixel_pitch;
    const auto inside = [&](const PatchColumn& column) {
      bool all = cursor.left > 0;
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        const uint32_t at = static_cast<uint32_t>(corner[axis]) + static_cast<uint32_t>(column.offset[axis]);
        all = all && at < static_cast<uint32_t>(window_.size[axis]);
      }
      return all;
    };
    if (vectors_) {
      outside_ = inside(column_) ? 0 : ~0u;
      if (outside_ == 0) {
        registers_.load(from + column_.at);
      } else {
        registers_.clear();
      }
      return;
    }
    outside_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) {
      const PatchColumn column = columns_[share_.row + i * share_.step];
      const bool met = inside(column);
      registers_.value[i] = met ? from[column.at] : narrow<T>(0);
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
  const T* x_;
  const ImageLayout& layout_;
  const Window& window_;
  const Columns& columns_;
  PatchColumn column_;    // the thread's first, where all of its elements are of one tap
  uint32_t outside_ = 0;  // a bit an element of the registers
  bool vectors_;
};

}  // namespace fastconv
