// pool.h -- entry points of the pooling family. Plain C++. Every one enqueues on stream and returns; which
// one serves a call is decided in fastconv/cuda/pool.py.
#pragma once
#include "device/dispatch.h"
#include "pool/geometry.h"
#include "pool/indexed.h"
#include "pool/split.h"
#include "pool/tile.h"

namespace fastconv {

/// Of the indices of maxima and of taps, their positions within windows, one is given and the other 0.

/// A block makes a tile of y from a box of x in shared memory; see forward_tile.cuh.
void max_pool_forward_tile(Dtype dtype, Address x, Address y, Address indices, Address taps,
                           const Pooling& pooling, const PoolTile& tile, Address stream);
void avg_pool_forward_tile(Dtype dtype, Address x, Address y, const Pooling& pooling, const PoolTile& tile,
                           const Averaging& averaging, Address stream);

/// Several threads share a cell; see forward_split.cuh. partial [parts, *y] in the accumulator's type and
/// partial_positions of int64 are scratch, 0 where there is one part.
void max_pool_forward_split(Dtype dtype, Address x, Address y, Address indices, Address taps, Address partial,
                            Address partial_positions, const Pooling& pooling, const PoolSplit& split,
                            Address stream);
void avg_pool_forward_split(Dtype dtype, Address x, Address y, Address partial, const Pooling& pooling,
                            const PoolSplit& split, const Averaging& averaging, Address stream);

/// A block makes a tile of dx from a box of dy in shared memory; see input_grad.cuh. Planes of max pooling
/// have fewer than 2^31 positions.
void max_pool_input_grad_tile(Dtype dtype, Address dy, Address indices, Address taps, Address dx,
                              const Pooling& pooling, const PoolTile& tile, Address stream);
void avg_pool_input_grad_tile(Dtype dtype, Address dy, Address dx, const Pooling& pooling,
                              const PoolTile& tile, const Averaging& averaging, Address stream);

/// A thread makes an element of dx from global memory; see input_grad.cuh.
void max_pool_input_grad_direct(Dtype dtype, Address dy, Address indices, Address taps, Address dx,
                                const Pooling& pooling, Address stream);
void avg_pool_input_grad_direct(Dtype dtype, Address dy, Address dx, const Pooling& pooling,
                                const Averaging& averaging, Address stream);

/// See indexed.cuh.
void pool_gather(Dtype dtype, Address x, Address indices, Address y, const PoolIndexed& shape,
                 Address stream);
void pool_scatter(Dtype dtype, Address dy, Address indices, Address dx, const PoolIndexed& shape,
                  Address stream);
void pool_place(Dtype dtype, Address x, Address indices, Address y, const PoolIndexed& shape, Address stream);

}  // namespace fastconv
