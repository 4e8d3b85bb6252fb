// depthwise_weight_grad.cu -- weight gradient of depthwise convolution; see depthwise.h.
#include <algorithm>

#include "conv/depthwise.h"
#include "conv/depthwise_weight_grad_direct.cuh"
#include "conv/depthwise_weight_grad_pixels.cuh"
#include "conv/depthwise_weight_grad_planes.cuh"

namespace fastconv {
namespace {

constexpr int64_t kLeastShare = 2048;  // output positions that are worth a block of the direct kernel

/// Filters, or groups of filters, that a block of the direct kernel sums one tap of.
int64_t direct_columns(const Window& window, bool last) {
  return last ? depthwise::divide_up(window.filters, kWarp) : window.filters;
}

/// Call planes(plan), pixels(plan) or direct(), whichever serves.
template <class T, class Planes, class Pixels, class Direct>
void with_weight_grad_plan(Format format, const Window& window, bool aligned, Planes&& planes,
                           Pixels&& pixels, Direct&& direct) {
  constexpr int kR = kRun<accumulator_t<T>>;
  DepthwiseWeightGradPlanes by_planes;
  DepthwiseWeightGradPixels by_pixels;
  if (format == Format::kChannelsFirst &&
      plan_weight_grad_planes(window, kR, sizeof(T), aligned, by_planes)) {
    planes(by_planes);
  } else if (format == Format::kChannelsLast &&
             plan_weight_grad_pixels(window, kR, sizeof(T), aligned, by_pixels)) {
    pixels(by_pixels);
  } else {
    direct();
  }
}

template <class T>
int weight_grad_splits(Format format, const Window& window) {
  int splits = 1;
  // Alignment changes how a tile is loaded, not how many there are.
  with_weight_grad_plan<T>(
      format, window, true,
      [&](const DepthwiseWeightGradPlanes& plan) { splits = depthwise_splits(plan.items, plan.tile.blocks); },
      [&](const DepthwiseWeightGradPixels& plan) { splits = depthwise_splits(plan.items, plan.tile.blocks); },
      [&] {
        const int64_t columns = direct_columns(window, format == Format::kChannelsLast);
        const int64_t items = window.batch * window.output.product() / kLeastShare;
        splits = depthwise_splits(items, columns * window.kernel.product());
      });
  return splits;
}

template <class T>
void launch_depthwise_weight_grad(Format format, Address x, Address dy, Address dw, Address partial,
                                  int splits, const Window& window, Address stream) {
  using A = accumulator_t<T>;
  CUstream_st* const queue = pointer<CUstream_st>(stream);
  A* const sums = splits > 1 ? pointer<A>(partial) : nullptr;
  with_weight_grad_plan<T>(
      format, window, (x | dy) % 16 == 0,
      [&](const DepthwiseWeightGradPlanes& plan) {
        FASTCONV_LAUNCH((depthwise_weight_grad_planes_kernel<T>), blocks_for(plan.tile.blocks * splits, 1),
                        plan.tile.threads, plan.tile.shared_bytes, queue, pointer<const T>(x),
                        pointer<const T>(dy), pointer<T>(dw), sums, plan, splits);
      },
      [&](const DepthwiseWeightGradPixels& plan) {
        FASTCONV_LAUNCH((depthwise_weight_grad_pixels_kernel<T>), blocks_for(plan.tile.blocks * splits, 1),
                        plan.tile.threads, plan.tile.shared_bytes, queue, pointer<const T>(x),
                        pointer<const T>(dy), pointer<T>(dw), sums, plan, splits);
      },
      [&] {
        const bool last = format == Format::kChannelsLast;
        const unsigned blocks =
            blocks_for(direct_columns(window, last) * window.kernel.product() * splits, 1);
        FASTCONV_LAUNCH((depthwise_weight_grad_direct_kernel<T>), blocks,
                        DepthwiseWeightGradDirectTile::kThreads, 0, queue, pointer<const T>(x),
                        pointer<const T>(dy), pointer<T>(dw), sums, window, last, splits);
      });
  if (splits == 1) return;
  const int64_t elements = window.weight_elements();
  FASTCONV_LAUNCH((depthwise_add_splits_kernel<T>), blocks_for(elements, DepthwiseSplitsTile::kThreads),
                  DepthwiseSplitsTile::kThreads, 0, queue, pointer<const A>(partial), pointer<T>(dw),
                  elements, splits);
}

}  // namespace

int depthwise_weight_grad_splits(Dtype dtype, Format format, const Window& window) {
  if (window.weight_elements() == 0) return 1;
  int splits = 1;
  with_dtype(dtype,
             [&](auto type) { splits = weight_grad_splits<typename decltype(type)::type>(format, window); });
  return splits;
}

void depthwise_weight_grad(Dtype dtype, Format format, Address x, Address dy, Address dw, Address partial,
                           int splits, const Window& window, Address stream) {
  if (window.weight_elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    launch_depthwise_weight_grad<typename decltype(type)::type>(format, x, dy, dw, partial, splits, window,
                                                                stream);
  });
}

}  // namespace fastconv
