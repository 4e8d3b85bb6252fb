// resize_taps.cu -- see resize.h.
#include "resize/resize.h"
#include "resize/taps.cuh"

namespace fastconv {
namespace {

using Tile = ResizeTapsTile;

template <class T, int V>
void launch_resize_taps(Address x, Address y, const ResizeByTaps& problem,
                        const ResizeTaps<accumulator_t<T>>& taps, Address stream) {
  const ResizeTapsBlocks plan(problem, problem.inner / V, Tile::kThreads, Tile::kLanes, Tile::kRows,
                              Tile::kStaged / V, Tile::kBankBytes / sizeof(accumulator_t<T>));
  FASTCONV_LAUNCH((resize_taps_kernel<T, V>), blocks_for(plan.blocks, 1), Tile::kThreads, 0,
                  pointer<CUstream_st>(stream), pointer<const T>(x), pointer<T>(y), taps, problem, plan);
}

}  // namespace

void resize_taps(Dtype dtype, Address x, Address y, int64_t outer, int64_t inner,
                 const std::array<int32_t, 3>& size, const std::array<int32_t, 3>& output,
                 const std::array<Address, 7>& tables, Address stream) {
  const ResizeByTaps problem{outer, inner, size[0], size[1], size[2], output[0], output[1], output[2]};
  if (outer * inner == 0) return;
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using Number = accumulator_t<T>;
    constexpr int V = kVector<T>;
    const ResizeTaps<Number> taps{pointer<const int32_t>(tables[0]), pointer<const int32_t>(tables[1]),
                                  pointer<const Number>(tables[2]),  pointer<const int32_t>(tables[3]),
                                  pointer<const int32_t>(tables[4]), pointer<const int32_t>(tables[5]),
                                  pointer<const Number>(tables[6])};
    if (inner % V == 0 && is_aligned(pointer<T>(x)) && is_aligned(pointer<T>(y))) {
      launch_resize_taps<T, V>(x, y, problem, taps, stream);
    } else {
      launch_resize_taps<T, 1>(x, y, problem, taps, stream);
    }
  });
}

}  // namespace fastconv
