// conv_bias_grad.cu -- see conv.h.
#include "conv/bias_grad.cuh"
#include "conv/conv.h"
#include "conv/sum_splits.cuh"

namespace fastconv {
namespace {

struct BiasGrad {
  Address dy;
  int parts;
  int64_t batch;
  int32_t channels;
  int64_t positions;
  bool last;
};

template <class T, class Out, int kElements>
void launch_elements(const BiasGrad& problem, Out* out, Address stream) {
  const T* dy = pointer<const T>(problem.dy);
  if (problem.last) {
    const auto tiles = static_cast<int32_t>(blocks_for(problem.channels, kWarp * kElements));
    FASTCONV_LAUNCH((conv_bias_grad_channels_last_kernel<T, Out, kElements>),
                    blocks_for(int64_t{tiles} * problem.parts, 1), BiasGradTile::kThreads, 0,
                    pointer<CUstream_st>(stream), dy, out, problem.batch * problem.positions,
                    problem.channels, tiles, problem.parts);
  } else {
    FASTCONV_LAUNCH((conv_bias_grad_channels_first_kernel<T, Out, kElements>),
                    blocks_for(int64_t{problem.channels} * problem.parts, 1), BiasGradTile::kThreads, 0,
                    pointer<CUstream_st>(stream), dy, out, problem.batch, problem.channels, problem.positions,
                    problem.parts);
  }
}

template <class T, class Out>
void launch_parts(const BiasGrad& problem, Out* out, Address stream) {
  const int64_t contiguous = problem.last ? problem.channels : problem.positions;
  if (contiguous % kVector<T> == 0 && is_aligned(pointer<const T>(problem.dy))) {
    launch_elements<T, Out, kVector<T>>(problem, out, stream);
  } else {
    launch_elements<T, Out, 1>(problem, out, stream);
  }
}

}  // namespace

void conv_bias_grad(Dtype dtype, Format format, Address dy, Address db, Address partial, int parts,
                    int64_t batch, int32_t channels, int64_t positions, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const BiasGrad problem{dy, parts, batch, channels, positions, format == Format::kChannelsLast};
    if (parts == 1) return launch_parts<T>(problem, pointer<T>(db), stream);
    auto* sums = pointer<accumulator_t<T>>(partial);
    launch_parts<T>(problem, sums, stream);
    launch_sum_splits<T>(sums, pointer<T>(db), parts, channels, stream);
  });
}

}  // namespace fastconv
