// norm.h -- entry points of the norm family: batch, layer, instance and group normalisation. Plain C++.
//
// Arrays [N, C, *size] are dense in the format that is named, [C] dense; mean, variance, sums and partial
// have the accumulator type of dtype, float or double. fastconv/cuda/norm.py composes operators of these,
// and gives partial where a number of splits needs it. Each enqueues on stream and returns. Where mean may be
// absent, RMS norm is what is meant: nothing is subtracted, and variance is the mean of squares.
#pragma once
#include "norm/shape.h"

namespace fastconv {

/// mean and variance of every statistic of x, by columns or by runs; partial is [splits, 3, sums], with a sum
/// a statistic by runs, and by columns one a channel of all images or of each.
void norm_statistics(Dtype dtype, Format format, Address x, Address mean, Address variance, Address partial,
                     const NormShape& shape, bool by_columns, int splits, Address stream);

/// y of x, mean and variance; residual, w and b may be absent.
void norm_forward(Dtype dtype, Format format, Address x, Address residual, Address y, Address mean,
                  Address variance, Address w, Address b, const NormShape& shape, double eps, bool relu,
                  Address stream);

/// Sums of dy and dy * h over all images for every channel, or for every channel of every image; y may be
/// absent, and channels last mean. They go to those of dw and db (dtype) and sum_dy and sum_product that are
/// there. partial is [splits, 2, sums].
void norm_weight_grad(Dtype dtype, Format format, Address dy, Address x, Address y, Address mean,
                      Address variance, Address dw, Address db, Address sum_dy, Address sum_product,
                      Address partial, const NormShape& shape, bool of_images, int splits, double eps,
                      Address stream);

/// From channel_dy and channel_product [N, C]: dw and db [C], and the sums of each group weighted by w.
void norm_group_sums(Dtype dtype, Address channel_dy, Address channel_product, Address w, Address group_dy,
                     Address group_product, Address dw, Address db, const NormShape& shape, Address stream);

/// dx and, unless absent, dresidual of the sums of each statistic; y and w may be absent.
void norm_input_grad(Dtype dtype, Format format, Address dy, Address x, Address y, Address dx,
                     Address dresidual, Address mean, Address variance, Address w, Address sum_dy,
                     Address sum_product, const NormShape& shape, double eps, Address stream);

/// y, mean and variance of x by a warp or a block a statistic.
void norm_forward_rows(Dtype dtype, Format format, Address x, Address y, Address mean, Address variance,
                       Address w, Address b, const NormShape& shape, double eps, Address stream);

/// dx and those of dresidual, dw and db that are there, by a warp or a block a statistic; mean may be absent.
void norm_input_grad_rows(Dtype dtype, Format format, Address dy, Address x, Address y, Address dx,
                          Address dresidual, Address mean, Address variance, Address w, Address dw,
                          Address db, const NormShape& shape, double eps, Address stream);

/// RMS norm: y and the mean of squares of each row of x [rows, length], by a warp or a block a row; w may be
/// absent.
void norm_rms_forward(Dtype dtype, Address x, Address y, Address square, Address w, int64_t rows,
                      int64_t length, double eps, Address stream);

}  // namespace fastconv
