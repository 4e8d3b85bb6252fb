// resize_forward.cu -- see resize.h.
#include "resize/forward.cuh"
#include "resize/resize.h"

namespace fastconv {
namespace {

using Tile = ResizeForwardTile;

template <class T, int V, int U>
void launch_resize_forward(Address x, Address y, const Resize& problem, Address stream) {
  const ResizeColumns columns(problem.outer, problem.axis[0].output, problem.axis[1].output,
                              problem.axis[2].output / U, problem.inner / V, Tile::kRows, Tile::kEnough);
  FASTCONV_LAUNCH((resize_forward_kernel<T, V, U>), blocks_for(columns.threads, Tile::kThreads),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<T>(y),
                  problem, columns);
}

}  // namespace

void resize_forward(Dtype dtype, Address x, Address y, int64_t outer, int64_t inner,
                    const std::array<ResizeAxis, 3>& axes, Address stream) {
  const Resize problem{outer, inner, {axes[0], axes[1], axes[2]}};
  if (problem.input_elements() == 0 || problem.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    constexpr int U = Tile::kColumns;
    const bool aligned = is_aligned(pointer<T>(x)) && is_aligned(pointer<T>(y));
    if (inner % V == 0 && aligned) {
      launch_resize_forward<T, V, 1>(x, y, problem, stream);
    } else if (inner == 1 && axes[2].output % U == 0 && aligned) {
      launch_resize_forward<T, 1, U>(x, y, problem, stream);
    } else {
      launch_resize_forward<T, 1, 1>(x, y, problem, stream);
    }
  });
}

}  // namespace fastconv
