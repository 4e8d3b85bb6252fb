// depthwise_gather.h -- launchers of the tiled gathers behind forward and input gradient, each in a file of
// its own so that they compile side by side. Plain C++.
#pragma once
#include "activation.h"
#include "conv/depthwise_plan.h"
#include "device/dispatch.h"

namespace fastconv {

/// y = activation(b + the gather of x by w), channels first; false, and nothing is launched, where no tile
/// holds it.
bool depthwise_gather_planes(Dtype dtype, Address x, Address w, Address b, Address y,
                             const DepthwiseGather& gather, Activation activation, Address stream);

/// The same for channels last.
bool depthwise_gather_pixels(Dtype dtype, Address x, Address w, Address b, Address y,
                             const DepthwiseGather& gather, Activation activation, Address stream);

}  // namespace fastconv
