// axis.h -- which positions of an axis meet when it is resized: fastconv/resize.py, rounding by rounding.
//
// Output position p lies at r = max(scale * (p + shift) + offset, 0), the product and the sum rounded once.
// It reads floor(r + rise), and with two taps the position behind it too, by its share. Source: PyTorch,
// aten/src/ATen/native/cpu/UpSampleKernel.cpp.
#pragma once
#include "device/numeric.h"

namespace fastconv {

/// One axis. An axis that a problem of lower rank lacks has size and output 1 and a single tap.
struct ResizeAxis {
  int32_t size;
  int32_t output;
  double scale;  // a float where coordinates are float
  float shift;
  float offset;
  float rise;
  int32_t taps;  // 1 nearest, 2 linear
};

/// The input positions that an output position reads, and their shares; high is low where there is one tap.
template <class Number>
struct Neighbours {
  int32_t low, high;
  Number low_share, high_share;
};

/// Neighbours of output position p in coordinates of type Number.
template <class Number>
__host__ __device__ __forceinline__ Neighbours<Number> neighbours(const ResizeAxis& axis, int32_t p) {
  const int32_t last = axis.size - 1;
  if (axis.taps == 2 && axis.size == axis.output) return {p, p, Number(1), Number(0)};
  // fma also where offset is 0: the compiler must not contract the product with the subtraction below.
  const Number at = multiply_add(static_cast<Number>(axis.scale), Number(p) + Number(axis.shift),
                                 static_cast<Number>(axis.offset));
  const Number r = at > Number(0) ? at : Number(0);
  const float risen = static_cast<float>(r + Number(axis.rise));
  // Compared first: a position behind the axis need not fit 32 bits.
  int32_t low = risen >= static_cast<float>(axis.size) ? last : static_cast<int32_t>(risen);
  low = low < last ? low : last;
  if (axis.taps == 1) return {low, low, Number(1), Number(0)};
  Number rest = r - Number(low);
  rest = rest < Number(0) ? Number(0) : rest > Number(1) ? Number(1) : rest;
  return {low, low < last ? low + 1 : last, Number(1) - rest, rest};
}

/// First output position whose neighbour, the high one or else the low one, is at least i; output if there is
/// none. Neighbours never step back, so that a guess need only be walked from.
template <class Number, bool kHigh>
__host__ __device__ __forceinline__ int32_t first_reaching(const ResizeAxis& axis, int32_t i) {
  const auto reached = [&](int32_t p) {
    const Neighbours<Number> n = neighbours<Number>(axis, p);
    return (kHigh ? n.high : n.low) >= i;
  };
  if (i <= 0) return 0;
  if (i >= axis.size) return axis.output;
  const float r = static_cast<float>(kHigh && axis.taps == 2 ? i - 1 : i) - axis.rise - axis.offset;
  const float scale = static_cast<float>(axis.scale);
  float guess = scale > 0 ? r / scale - axis.shift : 0.0f;
  guess = guess > 0 ? guess : 0.0f;
  int32_t p = guess < static_cast<float>(axis.output) ? static_cast<int32_t>(guess) : axis.output;
  while (p > 0 && reached(p - 1)) --p;
  while (p < axis.output && !reached(p)) ++p;
  return p;
}

/// Output positions [first, last) that read input position i: those the gradient sums.
struct Readers {
  int32_t first, last;
};

template <class Number>
__host__ __device__ __forceinline__ Readers readers(const ResizeAxis& axis, int32_t i) {
  return {first_reaching<Number, true>(axis, i), first_reaching<Number, false>(axis, i + 1)};
}

/// One problem: x is [outer, D, H, W, inner] and y [outer, O, P, Q, inner], which is N * C and 1 for channels
/// first, N and C for channels last.
struct Resize {
  int64_t outer;
  int64_t inner;
  ResizeAxis axis[3];

  __host__ __device__ int64_t input_elements() const {
    return outer * axis[0].size * axis[1].size * axis[2].size * inner;
  }
  __host__ __device__ int64_t output_elements() const {
    return outer * axis[0].output * axis[1].output * axis[2].output * inner;
  }
};

/// index % size, and index divided by size; most indices fit the 32 bits in which a division is several times
/// as fast.
__host__ __device__ __forceinline__ int64_t split_off(int64_t& index, int64_t size) {
  const int64_t whole = index;
  if ((static_cast<uint64_t>(whole | size) >> 32) == 0) {
    index = static_cast<uint32_t>(whole) / static_cast<uint32_t>(size);
  } else {
    index = whole / size;
  }
  return whole - index * size;
}

/// How threads share a tensor [outer, depth, height, width, inner]: one owns a column of one depth, position
/// of the width and vector of inner, and walks over a strip of its rows, so that neighbours access
/// neighbours.
struct ResizeColumns {
  int64_t outer, vectors, strips, threads;
  int32_t depth, height, width, rows;

  /// Strips of up to `most` rows; of fewer where there would be less than `enough` threads.
  ResizeColumns(int64_t outer, int32_t depth, int32_t height, int32_t width, int64_t vectors, int32_t most,
                int64_t enough)
      : outer(outer), vectors(vectors), depth(depth), height(height), width(width), rows(most) {
    const int64_t lanes = outer * depth * width * vectors;
    while (rows > 1 && lanes * ((height + rows - 1) / rows) < enough) rows /= 2;
    strips = (height + rows - 1) / rows;
    threads = lanes * strips;
  }
};

/// The strip of one thread: rows [first_row, last_row) of its column.
struct ResizeStrip {
  int64_t outer, vector;
  int32_t depth, width, first_row, last_row;

  __device__ __forceinline__ ResizeStrip(const ResizeColumns& columns, int64_t thread) {
    vector = split_off(thread, columns.vectors);
    width = static_cast<int32_t>(split_off(thread, columns.width));
    first_row = static_cast<int32_t>(split_off(thread, columns.strips)) * columns.rows;
    depth = static_cast<int32_t>(split_off(thread, columns.depth));
    outer = thread;
    last_row = columns.height - first_row < columns.rows ? columns.height : first_row + columns.rows;
  }
};

}  // namespace fastconv
