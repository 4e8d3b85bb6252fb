// layout.cu -- see layout.h. Elements are moved, not computed with, so that their size alone decides.
#include <algorithm>

#include "layout/copy.cuh"
#include "layout/layout.h"
#include "layout/transpose.cuh"

namespace fastconv {
namespace {

// Below so many rows or columns most of a tile would be empty: the copy serves, whose lanes always have work.
constexpr int64_t kLeastSide = 8;

template <class T, int kParts>
void launch_layout_copy(Address x, Address y, const Strided& shape, Address stream) {
  const int64_t elements = shape.elements();
  const unsigned blocks = blocks_for(elements, LayoutCopyTile::kThreads);
  const auto launch_with = [&](auto index) {
    FASTCONV_LAUNCH((layout_copy_kernel<T, kParts, decltype(index)>), blocks, LayoutCopyTile::kThreads, 0,
                    pointer<CUstream_st>(stream), pointer<const T>(x), pointer<T>(y), shape);
  };
  if (elements <= std::numeric_limits<uint32_t>::max()) return launch_with(uint32_t{});
  launch_with(uint64_t{});
}

/// Copy kParts neighbours as one where they always lie together, otherwise half as many.
template <class T, int kParts>
void launch_widest_copy(Address x, Address y, const Strided& shape, Address stream) {
  if constexpr (kParts > 1) {
    const int last = shape.axes - 1;
    Strided wide = shape;
    bool fits = shape.stride[last] == 1 && (x | y) % (kParts * sizeof(T)) == 0;
    fits = fits && shape.size[last] % kParts == 0;
    wide.size[last] /= kParts;
    for (int axis = 0; axis < last; ++axis) {
      fits = fits && shape.stride[axis] % kParts == 0;
      wide.stride[axis] /= kParts;
    }
    if (!fits) return launch_widest_copy<T, kParts / 2>(x, y, shape, stream);
    return launch_layout_copy<T, kParts>(x, y, wide, stream);
  }
  launch_layout_copy<T, 1>(x, y, shape, stream);
}

/// Whether the array is a batch of matrices to transpose, and which.
template <class T>
bool as_transposition(Address x, Address y, const Strided& shape, Transposition& found) {
  const int last = shape.axes - 1;
  if (last < 1 || last > 2 || shape.stride[last - 1] != 1) return false;
  found = {last == 2 ? shape.size[0] : 1,
           shape.size[last - 1],
           shape.size[last],
           last == 2 ? shape.stride[0] : 0,
           shape.stride[last],
           false,
           false};
  const int64_t vector = kVector<T>;
  found.vector_loads = x % 16 == 0 && found.rows % vector == 0 && found.batch_stride % vector == 0 &&
                       found.column_stride % vector == 0;
  found.vector_stores = y % 16 == 0 && found.columns % vector == 0;
  return found.rows >= kLeastSide && found.columns >= kLeastSide;
}

template <class T>
void launch_layout(Address x, Address y, const Strided& shape, Address stream) {
  using Tile = LayoutTransposeTile<T>;
  Transposition found;
  if (!as_transposition<T>(x, y, shape, found)) {
    return launch_widest_copy<T, kVector<T>>(x, y, shape, stream);
  }
  const int64_t tiles = (found.rows + Tile::kRows - 1) / Tile::kRows *
                        ((found.columns + Tile::kColumns - 1) / Tile::kColumns) * found.batch;
  FASTCONV_LAUNCH((layout_transpose_kernel<T>), blocks_for(tiles, 1), Tile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(x), pointer<T>(y), found);
}

}  // namespace

void layout_copy(int bytes, Address x, Address y, const std::vector<int64_t>& size,
                 const std::vector<int64_t>& stride, Address stream) {
  if (size.size() != stride.size() || size.size() > size_t{kCopyAxes}) {
    throw DispatchError("a copy of " + std::to_string(size.size()) + " axes");
  }
  Strided shape = {std::max(static_cast<int>(size.size()), 1), {1}, {1}};  // a single element has no axis
  std::copy(size.begin(), size.end(), shape.size);
  std::copy(stride.begin(), stride.end(), shape.stride);
  if (shape.elements() == 0) return;
  switch (bytes) {
    case 2:
      return launch_layout<uint16_t>(x, y, shape, stream);
    case 4:
      return launch_layout<uint32_t>(x, y, shape, stream);
    case 8:
      return launch_layout<uint64_t>(x, y, shape, stream);
  }
  throw DispatchError("elements of " + std::to_string(bytes) + " bytes have no copy");
}

}  // namespace fastconv
