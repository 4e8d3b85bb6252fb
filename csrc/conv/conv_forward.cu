// conv_forward.cu -- see conv.h.
#include "conv/conv.h"
#include "conv/implicit_gemm.cuh"

namespace fastconv {
namespace {

/// Whether some tap meets padding for some position of the output.
bool reaches_outside(const Window& window) {
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t last = int64_t{window.output[axis] - 1} * window.stride[axis] - window.padding[axis] +
                         int64_t{window.kernel[axis] - 1} * window.dilation[axis];
    if (window.padding[axis] > 0 || last >= window.size[axis]) return true;
  }
  return false;
}

}  // namespace

void conv_forward_implicit_gemm(Dtype dtype, Format format, bool large, Address x, Address w, Address b,
                                Address y, const Window& window, Activation activation, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using Tile = GemmTile<T, false>;  // what follows is the same for both
    const bool last = format == Format::kChannelsLast;
    ImplicitGemm<T> problem{};
    problem.image = pointer<const T>(x);
    problem.w = pointer<const T>(w);
    problem.b = pointer<const T>(b);
    problem.result = pointer<T>(y);
    problem.window = window;
    problem.sampling = forward_sampling(window);
    problem.phases = {{1, 1, 1}};
    problem.activation = activation;
    problem.channels_last = last;
    problem.padded = reaches_outside(window);
    const int64_t depth = window.group_channels() * window.kernel.product();
    problem.image_vectors = last && window.group_channels() % Tile::kLoad == 0 && is_aligned(problem.image);
    problem.w_vectors = depth % Tile::kLoad == 0 && is_aligned(problem.w);
    const int64_t contiguous = last ? window.group_filters() : window.output.product();
    problem.result_vectors = contiguous % Tile::kGroup == 0 && is_aligned(problem.result);
    if constexpr (std::is_same_v<T, double>) {
      if (large) throw DispatchError("float64 has no large tile");
    } else if (large) {
      return launch_conv_implicit_gemm<T, true, false>(problem, stream);
    }
    launch_conv_implicit_gemm<T, false, false>(problem, stream);
  });
}

}  // namespace fastconv
