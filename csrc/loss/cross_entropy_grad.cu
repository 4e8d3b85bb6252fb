// cross_entropy_grad.cu -- see loss.h.
#include "loss/grad.cuh"
#include "loss/loss.h"

namespace fastconv {
namespace {

using Tile = CrossEntropyGradTile;

struct Arrays {
  Address dloss, x, logsumexp, target, w, total, dx, stream;
};

template <class T, int V>
void launch_rows(const Arrays& a, const Scores& scores) {
  using A = accumulator_t<T>;
  const unsigned blocks = blocks_for((scores.elements() + V - 1) / V, Tile::kThreads);
  FASTCONV_LAUNCH((cross_entropy_grad_rows_kernel<T, V>), blocks, Tile::kThreads, 0,
                  pointer<CUstream_st>(a.stream), pointer<const A>(a.dloss), pointer<const T>(a.x),
                  pointer<const A>(a.logsumexp), pointer<const int64_t>(a.target), pointer<const T>(a.w),
                  pointer<const A>(a.total), pointer<T>(a.dx), scores);
}

template <class T, int V>
void launch_planes(const Arrays& a, const Scores& scores) {
  using A = accumulator_t<T>;
  const unsigned blocks_a_plane = blocks_for(scores.positions / V, Tile::kThreads);
  const unsigned parts = blocks_for(scores.classes, Tile::kClasses);
  const unsigned blocks = blocks_for(scores.batch * parts * blocks_a_plane, 1);
  FASTCONV_LAUNCH((cross_entropy_grad_planes_kernel<T, V>), blocks, Tile::kThreads, 0,
                  pointer<CUstream_st>(a.stream), pointer<const A>(a.dloss), pointer<const T>(a.x),
                  pointer<const A>(a.logsumexp), pointer<const int64_t>(a.target), pointer<const T>(a.w),
                  pointer<const A>(a.total), pointer<T>(a.dx), scores, blocks_a_plane, parts);
}

}  // namespace

void cross_entropy_weight_sum(Dtype dtype, Address w, Address total, int64_t classes, Address stream) {
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    FASTCONV_LAUNCH((cross_entropy_weight_sum_kernel<T>), 1, Tile::kThreads, 0, pointer<CUstream_st>(stream),
                    pointer<const T>(w), pointer<accumulator_t<T>>(total), classes);
  });
}

void cross_entropy_grad(Dtype dtype, bool last, Address dloss, Address x, Address logsumexp, Address target,
                        Address w, Address total, Address dx, int64_t batch, int64_t classes,
                        int64_t positions, int64_t ignored, double smoothing, Address stream) {
  const double even = classes > 0 ? smoothing / static_cast<double>(classes) : 0.0;
  const Scores scores{batch, classes, positions, ignored, smoothing, even};
  if (scores.elements() == 0) return;
  const Arrays arrays{dloss, x, logsumexp, target, w, total, dx, stream};
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    const bool aligned = is_aligned(pointer<T>(x)) && is_aligned(pointer<T>(dx));
    if (last) {
      if (aligned) return launch_rows<T, V>(arrays, scores);
      return launch_rows<T, 1>(arrays, scores);
    }
    const bool enough = scores.rows() / V >= Tile::kEnough;
    if (enough && aligned && positions % V == 0) return launch_planes<T, V>(arrays, scores);
    return launch_planes<T, 1>(arrays, scores);
  });
}

}  // namespace fastconv
