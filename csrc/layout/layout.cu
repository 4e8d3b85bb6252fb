// layout.cu -- see layout.h. Elements are moved, not computed with, so that their size alone decides.
#include <algorithm>

#include "layout/copy.cuh"
#include "layout/layout.h"

namespace fastconv {
namespace {

template <class T>
void launch_layout_copy(Address x, Address y, const Strided& shape, Address stream) {
  const unsigned blocks = blocks_for(shape.elements(), LayoutCopyTile::kThreads);
  FASTCONV_LAUNCH((layout_copy_kernel<T>), blocks, LayoutCopyTile::kThreads, 0, pointer<CUstream_st>(stream),
                  pointer<const T>(x), pointer<T>(y), shape);
}

}  // namespace

void layout_copy(int bytes, Address x, Address y, const std::array<int64_t, 5>& size,
                 const std::array<int64_t, 5>& stride, Address stream) {
  Strided shape;
  std::copy(size.begin(), size.end(), shape.size);
  std::copy(stride.begin(), stride.end(), shape.stride);
  if (shape.elements() == 0) return;
  switch (bytes) {
    case 2:
      return launch_layout_copy<uint16_t>(x, y, shape, stream);
    case 4:
      return launch_layout_copy<uint32_t>(x, y, shape, stream);
    case 8:
      return launch_layout_copy<uint64_t>(x, y, shape, stream);
  }
  throw DispatchError("elements of " + std::to_string(bytes) + " bytes have no copy");
}

}  // namespace fastconv
