// nms.h -- entry points of non-maximum suppression. Plain C++.
#pragma once
#include "device/dispatch.h"

namespace fastconv {

/// mask [blocks - first, rows * 64] of 64-bit words: which of the boxes [first * 64, (first + rows) * 64)
/// overlap which behind them; blocks of 64 boxes. dtype is float32 or float64, corners [2 * axes, count] with
/// axes 2 or 3 lie best box first, groups [count] of int64 may be 0. Enqueues on stream and returns.
void nms_mask(Dtype dtype, int axes, Address corners, Address groups, Address mask, int64_t count,
              int64_t first, int64_t rows, double threshold, Address stream);

/// Of order [count] those that are kept, to kept [count], and how many they are, to kept_count [1]: all
/// int64. Passes over blocks of rows follow each other from first = 0 on; mask of this pass may be 0, so that
/// it is computed anew. Enqueues on stream and returns.
void nms_select(Dtype dtype, int axes, Address corners, Address groups, Address mask, Address order,
                Address kept, Address kept_count, int64_t count, int64_t first, int64_t rows,
                double threshold, Address stream);

}  // namespace fastconv
