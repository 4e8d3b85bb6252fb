// matmul.h -- entry point of the matrix product. Plain C++.
#pragma once
#include "device/dispatch.h"

namespace fastconv {

/// c [batch, rows, columns] = a @ b, for a [batch, rows, depth], or its transpose [batch, depth, rows], and
/// b [batch, depth, columns], or its transpose [batch, columns, depth], all dense. `large` asks for the
/// larger tile, which float64 does not have; c has at least one element. Enqueues on stream and returns.
void matmul_tiled(Dtype dtype, bool large, Address a, bool a_transposed, Address b, bool b_transposed,
                  Address c, int64_t batch, int64_t rows, int64_t depth, int64_t columns, Address stream);

}  // namespace fastconv
