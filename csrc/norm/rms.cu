// rms.cu -- see norm_rms_forward in norm.h.
#include "norm/launch.h"
#include "norm/norm.h"
#include "norm/rms.cuh"

namespace fastconv {

void norm_rms_forward(Dtype dtype, Address x, Address y, Address square, Address w, int64_t rows,
                      int64_t length, double eps, Address stream) {
  if (rows * length == 0) return;
  constexpr int kThreads = NormRmsTile::kThreads;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const auto launch = [&](auto width, auto threads) {
      constexpr int V = decltype(width)::value, kRowThreads = decltype(threads)::value;
      FASTCONV_LAUNCH((norm_rms_forward_kernel<T, V, kRowThreads>), blocks_for(rows, kThreads / kRowThreads),
                      kThreads, 0, pointer<CUstream_st>(stream), pointer<const T>(x), pointer<const T>(w),
                      pointer<T>(y), pointer<A>(square), rows, length, static_cast<A>(eps));
    };
    with_width<T>(length, {x, y}, [&](auto width) {
      if (length <= int64_t{decltype(width)::value} * kWarp * NormRmsTile::kHeld) {
        launch(width, Width<kWarp>{});
      } else {
        launch(width, Width<kThreads>{});
      }
    });
  });
}

}  // namespace fastconv
