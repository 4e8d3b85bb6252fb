// rows.cu -- see norm_forward_rows and norm_input_grad_rows in norm.h.
#include "norm/launch.h"
#include "norm/norm.h"
#include "norm/rows.cuh"

namespace fastconv {
namespace {

constexpr int kThreads = NormRowsTile::kThreads;

/// body(threads a statistic) as a Width: a warp where that holds all of its values, otherwise a block.
template <class Body>
void with_threads(int64_t values, int width, Body&& body) {
  if (values <= int64_t{width} * kWarp * NormRowsTile::kHeld) return body(Width<kWarp>{});
  return body(Width<kThreads>{});
}

/// Neighbours in a run that share a channel.
int64_t span_of(const NormShape& shape, Format format) {
  return format == Format::kChannelsLast ? 1 : shape.positions;
}

}  // namespace

void norm_forward_rows(Dtype dtype, Format format, Address x, Address y, Address mean, Address variance,
                       Address w, Address b, const NormShape& shape, double eps, Address stream) {
  if (shape.elements() == 0) return;
  const Runs runs = runs_of(shape, format);
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const RowsForward<T> arrays{pointer<const T>(x),  pointer<T>(y),       pointer<A>(mean),
                                pointer<A>(variance), pointer<const T>(w), pointer<const T>(b),
                                static_cast<A>(eps)};
    with_width<T>(runs.length, {x, y}, [&](auto width) {
      constexpr int V = decltype(width)::value;
      with_threads(runs.values(), V, [&](auto threads) {
        constexpr int kRowThreads = decltype(threads)::value;
        FASTCONV_LAUNCH((norm_forward_rows_kernel<T, V, kRowThreads>),
                        blocks_for(shape.statistics(), kThreads / kRowThreads), kThreads, 0,
                        pointer<CUstream_st>(stream), arrays, shape, runs, span_of(shape, format));
      });
    });
  });
}

void norm_input_grad_rows(Dtype dtype, Format format, Address dy, Address x, Address y, Address dx,
                          Address dresidual, Address mean, Address variance, Address w, Address dw,
                          Address db, const NormShape& shape, double eps, Address stream) {
  if (shape.elements() == 0) return;
  const Runs runs = runs_of(shape, format);
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using A = accumulator_t<T>;
    const RowsInputGrad<T> arrays{{pointer<const T>(dy), pointer<const T>(x), pointer<const T>(y),
                                   pointer<const A>(mean), pointer<const A>(variance), static_cast<A>(eps)},
                                  pointer<T>(dx),
                                  pointer<T>(dresidual),
                                  pointer<const T>(w),
                                  pointer<T>(dw),
                                  pointer<T>(db)};
    with_width<T>(runs.length, {dy, x, y, dx, dresidual}, [&](auto width) {
      constexpr int V = decltype(width)::value;
      with_threads(runs.values(), V, [&](auto threads) {
        constexpr int kRowThreads = decltype(threads)::value;
        FASTCONV_LAUNCH((norm_input_grad_rows_kernel<T, V, kRowThreads>),
                        blocks_for(shape.statistics(), kThreads / kRowThreads), kThreads, 0,
                        pointer<CUstream_st>(stream), arrays, shape, runs, span_of(shape, format));
      });
    });
  });
}

}  // namespace fastconv
