// split.h -- how threads share the cells of a pooling with large ones. Plain C++.
#pragma once
#include <cstdint>

namespace fastconv {

/// From fastconv/cuda/pool_tile.py.
struct PoolSplit {
  int32_t log_ranks, log_lanes;  // threads of a block that share a cell, and its lanes, as powers of two
  int32_t parts;                 // blocks that share a cell; more than 1 leave partial results
};

}  // namespace fastconv
