// conv_weight_grad.cu -- see conv.h.
#include "conv/conv.h"
#include "conv/implicit_gemm_weight_grad.cuh"

namespace fastconv {

void conv_weight_grad_implicit_gemm(Dtype dtype, Format format, bool large, Address x, Address dy, Address dw,
                                    Address partial, int splits, const Window& window, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using Tile = GemmTile<T, false>;  // what follows is the same for both
    const bool last = format == Format::kChannelsLast;
    ImplicitGemmWeightGrad<T> problem{};
    problem.x = pointer<const T>(x);
    problem.dy = pointer<const T>(dy);
    problem.dw = pointer<T>(dw);
    problem.partial = pointer<accumulator_t<T>>(partial);
    problem.window = window;
    problem.splits = splits;
    problem.channels_last = last;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t end = int64_t{window.output[axis] - 1} * window.stride[axis] - window.padding[axis] +
                          int64_t{window.kernel[axis] - 1} * window.dilation[axis];
      problem.padded = problem.padded || window.padding[axis] > 0 || end >= window.size[axis];
    }
    const int64_t columns = window.group_channels() * window.kernel.product();
    problem.x_vectors = last && window.group_channels() % Tile::kLoad == 0 && is_aligned(problem.x);
    problem.dy_vectors = last && window.group_filters() % Tile::kLoad == 0 && is_aligned(problem.dy);
    problem.dw_vectors = columns % Tile::kGroup == 0 && is_aligned(problem.dw) && is_aligned(problem.partial);
    if constexpr (std::is_same_v<T, double>) {
      if (large) throw DispatchError("float64 has no large tile");
    } else if (large) {
      return launch_conv_weight_grad_implicit_gemm<T, true>(problem, stream);
    }
    launch_conv_weight_grad_implicit_gemm<T, false>(problem, stream);
  });
}

}  // namespace fastconv
