// depthwise_weight_grad.cu -- weight gradient of depthwise convolution; see depthwise.h.
#include <algorithm>

#include "conv/depthwise.h"
#include "conv/depthwise_weight_grad_direct.cuh"

namespace fastconv {
namespace {

constexpr int64_t kEnoughBlocks = 1056;  // a few for every multiprocessor of any GPU
constexpr int64_t kLeastShare = 2048;    // output positions that are worth a block

template <class T>
void launch_depthwise_weight_grad(Format format, Address x, Address dy, Address dw, Address partial,
                                  int splits, const Window& window, Address stream) {
  using A = accumulator_t<T>;
  if (window.weight_elements() == 0) return;
  const bool last = format == Format::kChannelsLast;
  const int64_t columns = last ? (window.filters + kWarp - 1) / kWarp : window.filters;
  const unsigned blocks = blocks_for(columns * window.kernel.product() * splits, 1);
  FASTCONV_LAUNCH((depthwise_weight_grad_direct_kernel<T>), blocks, DepthwiseWeightGradDirectTile::kThreads,
                  0, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(dy), pointer<T>(dw),
                  splits > 1 ? pointer<A>(partial) : nullptr, window, last, splits);
  if (splits == 1) return;
  const int64_t elements = window.weight_elements();
  FASTCONV_LAUNCH((depthwise_add_splits_kernel<T>), blocks_for(elements, DepthwiseSplitsTile::kThreads),
                  DepthwiseSplitsTile::kThreads, 0, pointer<CUstream_st>(stream), pointer<const A>(partial),
                  pointer<T>(dw), elements, splits);
}

}  // namespace

int depthwise_weight_grad_splits(Dtype, Format format, const Window& window) {
  const int64_t columns =
      format == Format::kChannelsLast ? (window.filters + kWarp - 1) / kWarp : window.filters;
  const int64_t blocks = std::max(columns * window.kernel.product(), int64_t{1});
  const int64_t positions = window.batch * window.output.product();
  const int64_t splits = std::min(kEnoughBlocks / blocks, positions / kLeastShare);
  return static_cast<int>(std::max(splits, int64_t{1}));
}

void depthwise_weight_grad(Dtype dtype, Format format, Address x, Address dy, Address dw, Address partial,
                           int splits, const Window& window, Address stream) {
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_weight_grad<typename decltype(type)::type>(format, x, dy, dw, partial, splits, window,
                                                                stream);
  });
}

}  // namespace fastconv
