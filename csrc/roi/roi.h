// roi.h -- entry points of roi_align and roi_pool. Plain C++.
#pragma once
#include "device/dispatch.h"
#include "roi/geometry.h"

namespace fastconv {

/// y from x by start, bin [regions, 3] in the accumulator type of dtype, count int32 [regions, 3] and image
/// int64 [regions]. Enqueues on stream and returns.
void roi_align_forward(Dtype dtype, Address x, Address y, Address image, Address start, Address bin,
                       Address count, const Roi& roi, Address stream);

/// dx from dy; extent int32 [regions, 6] bounds the positions that a region reads. Enqueues on stream and
/// returns.
void roi_align_input_grad(Dtype dtype, Address dy, Address dx, Address image, Address start, Address bin,
                          Address count, Address extent, const Roi& roi, Address stream);

/// y and indices from x by begin, end int32 [regions, bins of all axes]. Enqueues on stream and returns.
void roi_pool_forward(Dtype dtype, Address x, Address y, Address indices, Address image, Address begin,
                      Address end, const Roi& roi, Address stream);

/// dx from dy and indices, by image, begin and end as of roi_pool_forward. Enqueues on stream and returns.
void roi_pool_input_grad(Dtype dtype, Address dy, Address indices, Address dx, Address image, Address begin,
                         Address end, const Roi& roi, Address stream);

}  // namespace fastconv
