// grid.h -- entry points of sampling at the points of a grid. Plain C++.
#pragma once
#include "device/dispatch.h"
#include "grid/reads.h"

namespace fastconv {

/// y [N, C, points] from x [N, C, D, H, W] and grid [N, points, axes], or with C innermost. Enqueues on
/// stream and returns.
void grid_sample_forward(Dtype dtype, Address x, Address grid, Address y, const GridSampling& sampling,
                         Address stream);

/// keys int64 and weights [reads, count] of points [first, first + count) of all images. Enqueues on stream
/// and returns.
void grid_sample_reads(Dtype dtype, Address grid, Address keys, Address weights, const GridSampling& sampling,
                       int64_t first, int64_t count, Address stream);

/// dx like x from dy like y, of the reads that grid_sample_reads wrote: order int64 sorts them by their keys,
/// starts int64 [N * volume + 1] says where those of each key start. accumulate: added to dx. Enqueues on
/// stream and returns.
void grid_sample_input_grad(Dtype dtype, Address dy, Address order, Address starts, Address weights,
                            Address dx, const GridSampling& sampling, int64_t first, int64_t count,
                            bool accumulate, Address stream);

/// dgrid like grid from dy like y, x and grid; not of the nearest position, whose derivatives are 0. Enqueues
/// on stream and returns.
void grid_sample_grid_grad(Dtype dtype, Address dy, Address x, Address grid, Address dgrid,
                           const GridSampling& sampling, Address stream);

}  // namespace fastconv
