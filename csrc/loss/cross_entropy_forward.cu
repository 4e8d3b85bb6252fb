// cross_entropy_forward.cu -- see loss.h.
#include "loss/forward.cuh"
#include "loss/loss.h"

namespace fastconv {
namespace {

struct Arrays {
  Address x, target, w, total, loss, logsumexp, stream;
};

template <class T, int V>
void launch_rows(const Arrays& a, const Scores& scores) {
  using A = accumulator_t<T>;
  using Tile = CrossEntropyRowsTile;
  const int log2_lanes = cross_entropy_log2_lanes((scores.classes + V - 1) / V);
  FASTCONV_LAUNCH((cross_entropy_forward_rows_kernel<T, V>),
                  blocks_for(scores.rows() << log2_lanes, Tile::kThreads), Tile::kThreads, 0,
                  pointer<CUstream_st>(a.stream), pointer<const T>(a.x), pointer<const int64_t>(a.target),
                  pointer<const T>(a.w), pointer<const A>(a.total), pointer<A>(a.loss),
                  pointer<A>(a.logsumexp), scores, log2_lanes);
}

template <class T, int V>
void launch_planes(const Arrays& a, const Scores& scores) {
  using A = accumulator_t<T>;
  using Tile = CrossEntropyPlanesTile;
  const unsigned blocks_an_image = blocks_for(scores.positions / V, Tile::kThreads);
  FASTCONV_LAUNCH((cross_entropy_forward_planes_kernel<T, V>), blocks_for(scores.batch * blocks_an_image, 1),
                  Tile::kThreads, 0, pointer<CUstream_st>(a.stream), pointer<const T>(a.x),
                  pointer<const int64_t>(a.target), pointer<const T>(a.w), pointer<const A>(a.total),
                  pointer<A>(a.loss), pointer<A>(a.logsumexp), scores, blocks_an_image);
}

}  // namespace

void cross_entropy_forward(Dtype dtype, bool last, Address x, Address target, Address w, Address total,
                           Address loss, Address logsumexp, int64_t batch, int64_t classes, int64_t positions,
                           int64_t ignored, double smoothing, Address stream) {
  const double even = classes > 0 ? smoothing / static_cast<double>(classes) : 0.0;
  const Scores scores{batch, classes, positions, ignored, smoothing, even};
  if (scores.rows() == 0) return;
  const Arrays arrays{x, target, w, total, loss, logsumexp, stream};
  with_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int V = kVector<T>;
    if (last || classes == 0) {
      if (classes % V == 0 && is_aligned(pointer<T>(x))) return launch_rows<T, V>(arrays, scores);
      return launch_rows<T, 1>(arrays, scores);
    }
    const bool enough = scores.rows() / V >= CrossEntropyPlanesTile::kEnough;
    if (enough && positions % V == 0 && is_aligned(pointer<T>(x))) return launch_planes<T, V>(arrays, scores);
    return launch_planes<T, 1>(arrays, scores);
  });
}

}  // namespace fastconv
