// nms.cu -- see nms.h.
#include "nms/mask.cuh"
#include "nms/nms.h"
#include "nms/select.cuh"

namespace fastconv {
namespace {

/// body(Type<T>{}, number of axes as a type).
template <class Body>
void with_boxes(Dtype dtype, int axes, Body&& body) {
  const auto with_axes = [&](auto type) {
    if (axes == 2) return body(type, std::integral_constant<int, 2>{});
    if (axes == 3) return body(type, std::integral_constant<int, 3>{});
    throw DispatchError("boxes of " + std::to_string(axes) + " axes have no kernels");
  };
  if (dtype == Dtype::kFloat32) return with_axes(Type<float>{});
  if (dtype == Dtype::kFloat64) return with_axes(Type<double>{});
  throw DispatchError("boxes of dtype " + std::to_string(static_cast<int>(dtype)) + " have no kernels");
}

}  // namespace

void nms_mask(Dtype dtype, int axes, Address corners, Address groups, Address mask, int64_t count,
              int64_t first, int64_t rows, double threshold, Address stream) {
  const NmsPass pass{count, first, rows};
  if (count == 0) return;
  with_boxes(dtype, axes, [&](auto type, auto number) {
    using T = typename decltype(type)::type;
    FASTCONV_LAUNCH((nms_mask_kernel<T, decltype(number)::value>), blocks_for(rows * pass.columns(), 1),
                    kNmsBlock, 0, pointer<CUstream_st>(stream), pointer<const T>(corners),
                    pointer<const int64_t>(groups), pointer<uint64_t>(mask), pass, static_cast<T>(threshold));
  });
}

void nms_select(Dtype dtype, int axes, Address corners, Address groups, Address mask, Address order,
                Address kept, Address kept_count, int64_t count, int64_t first, int64_t rows,
                double threshold, Address stream) {
  const NmsPass pass{count, first, rows};
  if (count == 0) return;
  const auto launch_with = [&](auto overlaps) {
    FASTCONV_LAUNCH((nms_select_kernel<decltype(overlaps)>), 1, NmsSelectTile::kThreads, 0,
                    pointer<CUstream_st>(stream), overlaps, pointer<const int64_t>(order),
                    pointer<int64_t>(kept), pointer<int64_t>(kept_count), pass);
  };
  if (mask != 0) return launch_with(StoredOverlaps{pointer<const uint64_t>(mask)});
  with_boxes(dtype, axes, [&](auto type, auto number) {
    using T = typename decltype(type)::type;
    launch_with(ComputedOverlaps<T, decltype(number)::value>{
        pointer<const T>(corners), pointer<const int64_t>(groups), static_cast<T>(threshold)});
  });
}

}  // namespace fastconv
