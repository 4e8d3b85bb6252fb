// resize_input_grad.cu -- see resize.h.
#include "resize/input_grad.cuh"
#include "resize/resize.h"

namespace fastconv {
namespace {

template <class T, int V>
void launch_resize_input_grad(Address dy, Address dx, const Resize& problem, Address stream) {
  using Tile = ResizeInputGradTile;
  const ResizeColumns columns(problem.outer, problem.axis[0].size, problem.axis[1].size, problem.axis[2].size,
                              problem.inner / V, Tile::kRows, Tile::kEnough);
  FASTCONV_LAUNCH((resize_input_grad_kernel<T, V>), blocks_for(columns.threads, Tile::kThreads),
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
    if (inner % V == 0 && is_aligned(pointer<T>(dy)) && is_aligned(pointer<T>(dx))) {
      launch_resize_input_grad<T, V>(dy, dx, problem, stream);
    } else {
      launch_resize_input_grad<T, 1>(dy, dx, problem, stream);
    }
  });
}

}  // namespace fastconv
