// map.cu -- see norm_forward and norm_input_grad in norm.h.
#include <algorithm>

#include "norm/launch.h"
#include "norm/map.cuh"
#include "norm/norm.h"

namespace fastconv {
namespace {

constexpr int kThreads = NormMapTile::kThreads;

template <class Map>
void launch_map(const Map& map, Format format, std::initializer_list<Address> arrays, const NormShape& shape,
                Address stream) {
  using T = typename Map::Element;
  const auto at = pointer<CUstream_st>(stream);
  if (format == Format::kChannelsFirst) {
    const int64_t unit = shape.positions < kVector<T> ? 1 : kVector<T>;
    with_width<T>(unit, arrays, [&](auto width) {
      constexpr int V = decltype(width)::value;
      FASTCONV_LAUNCH((norm_map_planes_kernel<Map, V>),
                      blocks_for(shape.elements(), kThreads * NormMapTile::kUnits * V), kThreads, 0, at, map,
                      shape.channels, shape.positions, shape.elements());
    });
  } else {
    with_width<T>(shape.channels, arrays, [&](auto width) {
      constexpr int V = decltype(width)::value;
      Columns columns = norm_columns(shape, !shape.shared, V, 1);
      const int64_t rows = int64_t{columns.pixels} * NormMapTile::kPasses;
      columns.splits = std::max<int64_t>(columns.rows / rows, 1);
      FASTCONV_LAUNCH((norm_map_columns_kernel<Map, V>), blocks_for(columns.blocks(), 1), kThreads, 0, at,
                      map, columns);
    });
  }
}

}  // namespace

void norm_forward(Dtype dtype, Format format, Address x, Address residual, Address y, Address mean,
                  Address variance, Address w, Address b, const NormShape& shape, double eps, bool relu,
                  Address stream) {
  if (shape.elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const ForwardMap<T> map{pointer<const T>(x),    pointer<const T>(residual), pointer<T>(y),
                            pointer<const A>(mean), pointer<const A>(variance), pointer<const T>(w),
                            pointer<const T>(b),    static_cast<A>(eps),        relu,
                            statistic_of(shape)};
    launch_map(map, format, {x, residual, y}, shape, stream);
  });
}

void norm_input_grad(Dtype dtype, Format format, Address dy, Address x, Address y, Address dx,
                     Address dresidual, Address mean, Address variance, Address w, Address sum_dy,
                     Address sum_product, const NormShape& shape, double eps, Address stream) {
  if (shape.elements() == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const InputGradMap<T> map{pointer<const T>(dy),
                              pointer<const T>(x),
                              pointer<const T>(y),
                              pointer<T>(dx),
                              pointer<T>(dresidual),
                              pointer<const A>(mean),
                              pointer<const A>(variance),
                              pointer<const T>(w),
                              pointer<const A>(sum_dy),
                              pointer<const A>(sum_product),
                              static_cast<A>(eps),
                              static_cast<A>(shape.values()),
                              shape.shared,
                              statistic_of(shape)};
    launch_map(map, format, {dy, x, y, dx, dresidual}, shape, stream);
  });
}

}  // namespace fastconv
