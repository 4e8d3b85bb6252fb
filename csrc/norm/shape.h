// shape.h -- what a normalisation is taken over. Plain C++ for host and device.
//
// A statistic (a mean and a variance) belongs to a channel in batch norm and to a group of channels of one
// image in group norm, of which instance norm (groups = C) and layer norm (one group, one position) are
// cases.
#pragma once
#include <cstdint>

#include "device/dispatch.h"

namespace fastconv {

/// x [N, C, *size] with S = product of *size; in memory [N, C, S], or [N, S, C] channels last.
struct NormShape {
  int64_t images;     // N
  int64_t channels;   // C
  int64_t positions;  // S
  int64_t groups;     // G, statistics of an image; C for batch norm
  bool shared;        // whether all images share their statistics, as in batch norm

  __host__ __device__ int64_t elements() const { return images * channels * positions; }
  __host__ __device__ int64_t group_channels() const { return channels / groups; }
  __host__ __device__ int64_t statistics() const { return shared ? groups : images * groups; }
  __host__ __device__ int64_t values() const {  // of a statistic
    return (shared ? images : 1) * positions * group_channels();
  }
};

/// Where the values of a statistic lie: `runs` stretches of `length` elements, `stride` apart.
struct Runs {
  int64_t per_image;         // statistics of an image
  int64_t image_stride;      // from a statistic to the same one of the next image
  int64_t statistic_stride;  // from a statistic to the next of its image
  int64_t runs;
  int64_t stride;
  int64_t length;

  __host__ __device__ int64_t begin(int64_t statistic) const {
    return statistic / per_image * image_stride + statistic % per_image * statistic_stride;
  }
  int64_t values() const { return runs * length; }
};

/// The runs of each statistic of a shape.
inline Runs runs_of(const NormShape& s, Format format) {
  const int64_t image = s.channels * s.positions, members = s.group_channels();
  if (format == Format::kChannelsLast) {
    const int64_t rows = s.shared ? s.images * s.positions : s.positions;
    return {s.groups, image, members, rows, s.channels, members};
  }
  const int64_t length = members * s.positions;
  return {s.groups, image, length, s.shared ? s.images : 1, image, length};
}

}  // namespace fastconv
