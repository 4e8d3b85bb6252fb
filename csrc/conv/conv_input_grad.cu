// conv_input_grad.cu -- see conv.h.
#include "conv/conv.h"
#include "conv/implicit_gemm.cuh"

namespace fastconv {
namespace {

/// Whether every position of dx has a position of dy. With output_padding below dilation some have none.
bool is_pointwise(const Window& window) {
  for (int axis = 0; axis < 3; ++axis) {
    if (window.kernel[axis] != 1 || window.stride[axis] != 1 || window.padding[axis] != 0) return false;
    if (window.size[axis] != window.output[axis]) return false;
  }
  return true;
}

/// How many positions of dx are contiguous within a phase, channels first: vectors have to divide it.
int64_t contiguous_positions(const Window& window) {
  if (window.stride[2] != 1) return 1;
  return window.stride[0] == 1 && window.stride[1] == 1 ? window.size.product() : window.size[2];
}

}  // namespace

void conv_input_grad_implicit_gemm(Dtype dtype, Format format, bool large, Address dy, Address w, Address b,
                                   Address dx, const Window& window, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using Tile = GemmTile<T, false>;  // what follows is the same for both
    const bool last = format == Format::kChannelsLast;
    ImplicitGemm<T> problem{};
    problem.image = pointer<const T>(dy);
    problem.w = pointer<const T>(w);
    problem.b = pointer<const T>(b);
    problem.result = pointer<T>(dx);
    problem.window = window;
    problem.sampling = input_grad_sampling(window);
    problem.phases = input_grad_phases(window);
    problem.activation = Activation::kNone;
    problem.channels_last = last;
    problem.padded = !is_pointwise(window);
    problem.image_vectors = last && window.group_filters() % Tile::kLoad == 0 && is_aligned(problem.image);
    problem.w_vectors = window.group_channels() % Tile::kLoad == 0 && is_aligned(problem.w);
    const int64_t contiguous = last ? window.group_channels() : contiguous_positions(window);
    problem.result_vectors = contiguous % Tile::kGroup == 0 && is_aligned(problem.result);
    if constexpr (std::is_same_v<T, double>) {
      if (large) throw DispatchError("float64 has no large tile");
    } else if (large) {
      return launch_conv_implicit_gemm<T, true, true>(problem, stream);
    }
    launch_conv_implicit_gemm<T, false, true>(problem, stream);
  });
}

}  // namespace fastconv
