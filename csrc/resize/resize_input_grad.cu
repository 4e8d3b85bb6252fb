// resize_input_grad.cu -- see resize.h.
#include "resize/input_grad.cuh"
#include "resize/resize.h"

namespace fastconv {
namespace {

using Tile = ResizeInputGradTile;

template <class T, int V, int U>
void launch_resize_input_grad(Address dy, Address dx, const Resize& problem, Address stream) {
  const ResizeColumns columns(problem.outer, problem.axis[0].size, problem.axis[1].size, problem.axis[2].size,
                              problem.inner / V, Tile::kRows, Tile::kEnough);
  FASTCONV_LAUNCH((resize_input_grad_kernel<T, V, U>), blocks_for(columns.threads, Tile::kThreads),
                  Tile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(dy), pointer<T>(dx),
                  problem, columns);
}

}  // namespace

void resize_input_grad(Dtype dtype, Address dy, Address dx, int64_t outer, int64_t inner,
                       const std::array<ResizeAxis, 3>& axes, Address stream) {
  const Resize problem{outer, inner, {axes[0], axes[1], axes[2]}};
  if (problem.input_elements() == 0 || problem.output_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    constexpr int U = Tile::kColumns;
    const bool aligned = is_aligned(pointer<T>(dy)) && is_aligned(pointer<T>(dx));
    if (inner % V == 0 && aligned) {
      launch_resize_input_grad<T, V, 1>(dy, dx, problem, stream);
    } else if (inner == 1 && axes[2].output % U == 0 && aligned) {
      launch_resize_input_grad<T, 1, U>(dy, dx, problem, stream);
    } else {
      launch_resize_input_grad<T, 1, 1>(dy, dx, problem, stream);
    }
  });
}

}  // namespace fastconv
