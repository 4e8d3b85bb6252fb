// products.cu -- see norm_weight_grad and norm_group_sums in norm.h.
#include "norm/launch.h"
#include "norm/norm.h"
#include "norm/products.cuh"

namespace fastconv {
namespace {

constexpr int kThreads = NormReduceTile::kThreads;

/// The runs of each channel, of all images or of one.
Runs channel_runs(const NormShape& s, bool of_images) {
  const int64_t image = s.channels * s.positions;
  return {s.channels, of_images ? image : 0, s.positions, of_images ? 1 : s.images, image, s.positions};
}

}  // namespace

void norm_weight_grad(Dtype dtype, Format format, Address dy, Address x, Address y, Address mean,
                      Address variance, Address dw, Address db, Address sum_dy, Address sum_product,
                      Address partial, const NormShape& shape, bool of_images, int splits, double eps,
                      Address stream) {
  if (shape.elements() == 0) return;
  const auto at = pointer<CUstream_st>(stream);
  const int members = static_cast<int>(shape.group_channels());
  const int64_t sums = (of_images ? shape.images : 1) * shape.channels;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const ProductsInput<T> in{pointer<const T>(dy),   pointer<const T>(x),        pointer<const T>(y),
                              pointer<const A>(mean), pointer<const A>(variance), static_cast<A>(eps)};
    const ProductsOutput<T> out{pointer<T>(dw), pointer<T>(db), pointer<A>(sum_dy), pointer<A>(sum_product)};
    if (format == Format::kChannelsLast) {
      // Rows of one image have one statistic a channel, and so have all rows where images share theirs.
      const int64_t span = shape.shared ? shape.images * shape.positions : shape.positions;
      with_width<T>(shape.channels, {dy, x, y}, [&](auto width) {
        constexpr int V = decltype(width)::value;
        const Columns columns = norm_columns(shape, of_images, V, splits);
        FASTCONV_LAUNCH((norm_products_columns_kernel<T, V>), blocks_for(columns.blocks(), 1), kThreads, 0,
                        at, in, out, pointer<A>(partial), columns, members, span);
      });
    } else {
      const int64_t step = shape.shared ? 0 : shape.groups;
      const Runs runs = channel_runs(shape, of_images);
      with_width<T>(runs.length, {dy, x, y}, [&](auto width) {
        FASTCONV_LAUNCH((norm_products_runs_kernel<T, decltype(width)::value>), blocks_for(sums * splits, 1),
                        kThreads, 0, at, in, out, pointer<A>(partial), runs, splits, members, step);
      });
    }
    if (splits > 1) {
      FASTCONV_LAUNCH((norm_products_join_kernel<T>), blocks_for(sums, kWarp), NormReduceTile::kJoinThreads,
                      0, at, pointer<const A>(partial), out, int64_t{splits}, sums);
    }
  });
}

void norm_group_sums(Dtype dtype, Address channel_dy, Address channel_product, Address w, Address group_dy,
                     Address group_product, Address dw, Address db, const NormShape& shape, Address stream) {
  if (shape.elements() == 0) return;
  const int64_t warps = shape.images * shape.groups + (shape.channels + kWarp - 1) / kWarp;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    FASTCONV_LAUNCH((norm_group_sums_kernel<T>), blocks_for(warps, NormReduceTile::kWarps), kThreads, 0,
                    pointer<CUstream_st>(stream), pointer<const A>(channel_dy),
                    pointer<const A>(channel_product), pointer<const T>(w), pointer<A>(group_dy),
                    pointer<A>(group_product), pointer<T>(dw), pointer<T>(db), shape);
  });
}

}  // namespace fastconv
