// depthwise.cu -- forward and input gradient of depthwise convolution; see depthwise.h.
#include <numeric>
#include <type_traits>

#include "conv/depthwise.h"
#include "conv/depthwise_direct.cuh"
#include "conv/depthwise_gather.h"

namespace fastconv {
namespace {

/// A gather for the direct kernel: of a window forward, or of its transpose.
DepthwiseDirect direct_gather(const Window& window, bool transposed, Format format, int run, bool aligned) {
  DepthwiseDirect problem = {};
  for (int i = 0; i < 3; ++i) {
    DepthwiseDirectAxis& axis = problem.axis[i];
    const int32_t common = std::gcd(window.stride[i], window.dilation[i]);
    axis.stride = Divisor(window.stride[i]);
    axis.size = transposed ? window.output[i] : window.size[i];
    axis.result = transposed ? window.size[i] : window.output[i];
    axis.kernel = window.kernel[i];
    axis.dilation = window.dilation[i];
    axis.padding = window.padding[i];
    axis.step = transposed ? std::min(window.stride[i] / common, window.kernel[i]) : 1;
    axis.move = transposed ? -(window.dilation[i] / common) : window.dilation[i];
    axis.transposed = transposed;
    problem.parts[i] = Divisor(axis.result);
  }
  const bool last = format == Format::kChannelsLast;
  const int32_t multiplier = window.group_filters();
  problem.channels = transposed ? window.channels : window.filters;
  problem.sources = transposed ? window.filters : window.channels;
  problem.pairs = transposed ? multiplier : 1;
  problem.divisor = transposed ? 1 : multiplier;
  problem.vectors = last && aligned && multiplier == 1 && problem.channels % run == 0;
  problem.parts[3] = Divisor(problem.vectors ? problem.channels / run : problem.channels);
  if (!last)
    problem.parts[1] = Divisor(depthwise::divide_up(problem.axis[1].result, DepthwiseDirectTile::kRows));
  problem.threads = window.batch;
  for (const Divisor& part : problem.parts) problem.threads *= part.value();
  return problem;
}

template <class T>
void launch_depthwise_direct(Format format, Address x, Address w, Address b, Address y, const Window& window,
                             bool transposed, Activation activation, Address stream) {
  const DepthwiseDirect problem =
      direct_gather(window, transposed, format, kRun<accumulator_t<T>>, (x | y) % 16 == 0);
  const unsigned blocks = blocks_for(problem.threads, DepthwiseDirectTile::kThreads);
  const auto launch_with = [&](auto last) {
    FASTCONV_LAUNCH((depthwise_gather_direct_kernel<T, decltype(last)::value>), blocks,
                    DepthwiseDirectTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(x),
                    pointer<const T>(w), pointer<const T>(b), pointer<T>(y), problem, activation);
  };
  if (format == Format::kChannelsLast) return launch_with(std::true_type{});
  launch_with(std::false_type{});
}

}  // namespace

void depthwise_forward(Dtype dtype, Format format, Address x, Address w, Address b, Address y,
                       const Window& window, Activation activation, Address stream) {
  if (window.output_elements() == 0) return;
  const auto gather = format == Format::kChannelsLast ? depthwise_gather_pixels : depthwise_gather_planes;
  if (gather(dtype, x, w, b, y, forward_gather(window), activation, stream)) return;
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_direct<typename decltype(type)::type>(format, x, w, b, y, window, false, activation,
                                                           stream);
  });
}

void depthwise_input_grad(Dtype dtype, Format format, Address dy, Address w, Address b, Address dx,
                          const Window& window, Address stream) {
  if (window.input_elements() == 0) return;
  const auto gather = format == Format::kChannelsLast ? depthwise_gather_pixels : depthwise_gather_planes;
  const bool unit = window.stride[0] == 1 && window.stride[1] == 1 && window.stride[2] == 1;
  if (unit && gather(dtype, dy, w, b, dx, input_grad_gather(window), Activation::kNone, stream)) return;
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_direct<typename decltype(type)::type>(format, dy, w, b, dx, window, true,
                                                           Activation::kNone, stream);
  });
}

}  // namespace fastconv
