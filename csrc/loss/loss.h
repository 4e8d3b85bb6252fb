// loss.h -- entry points of the loss family. Plain C++.
#pragma once
#include "device/dispatch.h"

namespace fastconv {

/// total [1], in the accumulator type of dtype, from w [classes]. Enqueues on stream and returns.
void cross_entropy_weight_sum(Dtype dtype, Address w, Address total, int64_t classes, Address stream);

/// loss and logsumexp [batch, positions], in the accumulator type of dtype, from x [batch, classes,
/// positions], or [batch, positions, classes] if last. w [classes] and total [1], its sum, may be 0. Enqueues
/// on stream and returns.
void cross_entropy_forward(Dtype dtype, bool last, Address x, Address target, Address w, Address total,
                           Address loss, Address logsumexp, int64_t batch, int64_t classes, int64_t positions,
                           int64_t ignored, double smoothing, Address stream);

/// dx, shape and format of x. Enqueues on stream and returns.
void cross_entropy_grad(Dtype dtype, bool last, Address dloss, Address x, Address logsumexp, Address target,
                        Address w, Address total, Address dx, int64_t batch, int64_t classes,
                        int64_t positions, int64_t ignored, double smoothing, Address stream);

}  // namespace fastconv
