// launch.h -- what the launchers of the norm family share.
#pragma once
#include <initializer_list>

#include "norm/reduce.cuh"

namespace fastconv {

template <int V>
struct Width {
  static constexpr int value = V;
};

/// body(Width<V>{}) with the vectors of T where stretches of `length` elements of all arrays are made of
/// them, with single elements otherwise.
template <class T, class Body>
void with_width(int64_t length, std::initializer_list<Address> arrays, Body&& body) {
  bool whole = length % kVector<T> == 0;
  for (const Address array : arrays) whole = whole && is_aligned(pointer<const void>(array));
  if (whole) return body(Width<kVector<T>>{});
  return body(Width<1>{});
}

/// Images that are reduced apart: all rows of a batch together, or each image by itself.
inline Columns norm_columns(const NormShape& s, bool of_images, int width, int64_t splits) {
  const int64_t images = of_images ? s.images : 1;
  return columns_of(images, s.images * s.positions / images, s.channels, width, splits);
}

}  // namespace fastconv
