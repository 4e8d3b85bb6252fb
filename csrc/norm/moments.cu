// moments.cu -- see norm_statistics in norm.h.
#include "norm/launch.h"
#include "norm/moments.cuh"
#include "norm/norm.h"

namespace fastconv {

void norm_statistics(Dtype dtype, Format format, Address x, Address mean, Address variance, Address partial,
                     const NormShape& shape, bool by_columns, int splits, Address stream) {
  if (shape.elements() == 0) return;
  constexpr int kThreads = NormReduceTile::kThreads;
  const auto at = pointer<CUstream_st>(stream);
  const Runs runs = runs_of(shape, format);
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const int members = by_columns ? static_cast<int>(shape.group_channels()) : 1;
    if (by_columns) {
      with_width<T>(shape.channels, {x}, [&](auto width) {
        constexpr int V = decltype(width)::value;
        const Columns columns = norm_columns(shape, !shape.shared, V, splits);
        FASTCONV_LAUNCH((norm_moments_columns_kernel<T, V>), blocks_for(columns.blocks(), 1), kThreads, 0, at,
                        pointer<const T>(x), pointer<A>(mean), pointer<A>(variance), pointer<A>(partial),
                        columns, members);
      });
    } else {
      with_width<T>(runs.length, {x}, [&](auto width) {
        FASTCONV_LAUNCH((norm_moments_runs_kernel<T, decltype(width)::value>),
                        blocks_for(shape.statistics() * splits, 1), kThreads, 0, at, pointer<const T>(x),
                        pointer<A>(mean), pointer<A>(variance), pointer<A>(partial), runs, splits);
      });
    }
    if (splits > 1 || members > 1) {
      FASTCONV_LAUNCH((norm_moments_join_kernel<T>), blocks_for(shape.statistics(), kWarp),
                      NormReduceTile::kJoinThreads, 0, at, pointer<const T>(x), pointer<const A>(partial),
                      pointer<A>(mean), pointer<A>(variance), runs, int64_t{splits},
                      shape.statistics() * members, int64_t{members});
    }
  });
}

}  // namespace fastconv
