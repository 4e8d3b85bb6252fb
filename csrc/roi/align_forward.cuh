// align_forward.cuh -- averages of interpolated samples in the bins of regions.
//
//   y[k,o,p,q] = 1 / count * sum over the samples of the bin of share * x[image[k], d, h, w]
//
// A region of an image that does not exist is NaN. A share of zero counts as well: next to an infinity it
// makes NaN, as in torchvision.
#pragma once
#include "device/vector.h"
#include "roi/geometry.h"

namespace fastconv {

struct RoiAlignForwardTile {
  static constexpr int kThreads = 256;       // V elements of y each; neighbours write neighbours
  static constexpr int kMinBlocksPerSm = 3;  // caps registers at 80, but for double, whose division is a call
  static_assert(kThreads % kWarp == 0, "whole warps only");
};

/// V lanes at once.
template <class T, int V, class Tile = RoiAlignForwardTile>
__global__ void __launch_bounds__(Tile::kThreads, sizeof(accumulator_t<T>) == 8 ? 1 : Tile::kMinBlocksPerSm)
    roi_align_forward_kernel(const T* __restrict__ x,  // [images, planes, D, H, W, lanes]
                             T* __restrict__ y,        // [regions, planes, O, P, Q, lanes], all written
                             const RoiSamples<accumulator_t<T>> regions, const Roi roi) {
  using Number = accumulator_t<T>;
  int64_t rest = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  const int64_t vectors = roi.lanes / V;
  if (rest >= roi.regions * roi.planes * roi.bins() * vectors) return;
  T* result = y + rest * V;
  const int64_t lane = roi_split(rest, vectors) * V;
  const int32_t q = static_cast<int32_t>(roi_split(rest, roi.output[2]));
  const int32_t p = static_cast<int32_t>(roi_split(rest, roi.output[1]));
  const int32_t o = static_cast<int32_t>(roi_split(rest, roi.output[0]));
  const int64_t plane = roi_split(rest, roi.planes), region = rest, image = regions.image[region];
  Number sum[V];
#pragma unroll
  for (int v = 0; v < V; ++v) sum[v] = Number(0);
  if (image >= 0) {
    const RoiAxis<Number> depth = regions.axis(roi, region, 0), height = regions.axis(roi, region, 1),
                          width = regions.axis(roi, region, 2);
    const T* source = x + (image * roi.planes + plane) * roi.positions() * roi.lanes + lane;
    int32_t first[3], last[3];
    depth.range(o, Number(-1), Number(roi.size[0]), first[0], last[0]);
    height.range(p, Number(-1), Number(roi.size[1]), first[1], last[1]);
    width.range(q, Number(-1), Number(roi.size[2]), first[2], last[2]);
    for (int32_t a = first[0]; a < last[0]; ++a) {
      const Number z = depth.at(o, a);
      if (!(z >= Number(-1) && z <= Number(roi.size[0]))) continue;
      const RoiTaps<Number> in_depth = depth.taps(z);
      for (int32_t b = first[1]; b < last[1]; ++b) {
        const Number h = height.at(p, b);
        if (!(h >= Number(-1) && h <= Number(roi.size[1]))) continue;
        const RoiTaps<Number> in_height = height.taps(h);
        for (int32_t c = first[2]; c < last[2]; ++c) {
          const Number w = width.at(q, c);
          if (!(w >= Number(-1) && w <= Number(roi.size[2]))) continue;
          const RoiTaps<Number> in_width = width.taps(w);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            if (i == 1 && roi.missing > 0) break;
#pragma unroll
            for (int j = 0; j < 2; ++j) {
              const int64_t row =
                  (int64_t{in_depth.position[i]} * roi.size[1] + in_height.position[j]) * roi.size[2];
              const Number share = in_depth.share[i] * in_height.share[j];
#pragma unroll
              for (int k = 0; k < 2; ++k) {
                const Vector<T, V> read = load_vector<V>(source + (row + in_width.position[k]) * roi.lanes);
#pragma unroll
                for (int v = 0; v < V; ++v) {
                  sum[v] = multiply_add(share * in_width.share[k], widen(read[v]), sum[v]);
                }
              }
            }
          }
        }
      }
    }
  }
  const Number samples = image >= 0 ? regions.samples(region) : Number(0);  // 0 / 0
  Vector<T, V> written;
#pragma unroll
  for (int v = 0; v < V; ++v) written[v] = narrow<T>(sum[v] / samples);
  store_vector(result, written);
}

}  // namespace fastconv
