// simt.cu -- a float32 matrix product through shared memory, two buffers a tile, with bugs.
//
//   d[45, 37] = a[45, 21] * b[37, 21]^T
#include "device/vector.h"
#include "emulator/planted/planted.h"

namespace fastconv::planted {
namespace {

constexpr int kM = 45, kN = 37, kK = 21;

struct Tile {
  static constexpr int kRows = 32, kColumns = 32, kDepth = 8;
  static constexpr int kThreads = 64;  // 8 x 8, of 4 x 4 outputs
  static constexpr int kPad = 4;       // spreads the transposed stores over the banks
};

__global__ void simt_kernel(Bug bug,
                            const float* __restrict__ a,  // [kM, kK]
                            const float* __restrict__ b,  // [kN, kK]
                            float* __restrict__ d) {      // [kM, kN]
  FASTCONV_SHARED(float, a_tile, [2][Tile::kDepth][Tile::kRows + Tile::kPad]);
  FASTCONV_SHARED(float, b_tile, [2][Tile::kDepth][Tile::kColumns]);
  const int t = threadIdx.x, tx = t % 8, ty = t / 8;
  const int first_row = blockIdx.y * Tile::kRows, first_column = blockIdx.x * Tile::kColumns;
  const int at = t / 2, depth = t % 2 * 4;  // what this thread loads: four of a row
  const int row = first_row + at, column = first_column + at;
  float a_next[4], b_next[4];
  const auto fetch = [&](int k0) {
    for (int i = 0; i < 4; ++i) {
      const int k = k0 + depth + i;
      const bool a_inside = k < kK || bug == Bug::kGlobalRead;  // b is 0 there
      a_next[i] = row < kM && a_inside ? a[row * kK + k] : 0.0f;
      b_next[i] = column < kN && k < kK ? b[column * kK + k] : 0.0f;
    }
  };
  const auto stash = [&](int buffer) {
    for (int i = 0; i < 4; ++i) {
      a_tile[buffer][depth + i][at] = a_next[i];
      if (bug == Bug::kUnwrittenShared && at == 5 && i == 2) continue;
      const bool past = bug == Bug::kSharedWrite && t == Tile::kThreads - 1 && i == 3;
      (&b_tile[buffer][depth + i][at])[past ? 1 : 0] = b_next[i];
    }
  };
  float sum[4][4] = {};
  fetch(0);
  stash(0);
  __syncthreads();
  for (int k0 = 0, buffer = 0; k0 < kK; k0 += Tile::kDepth, buffer ^= 1) {
    const bool more = k0 + Tile::kDepth < kK;
    if (more) fetch(k0 + Tile::kDepth);
    for (int k = 0; k < Tile::kDepth; ++k) {
      const auto a_part = load_vector<4>(&a_tile[buffer][k][ty * 4]);
      const auto b_part = load_vector<4>(&b_tile[buffer][k][tx * 4]);
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sum[i][j] = multiply_add(a_part[i], b_part[j], sum[i][j]);
      }
    }
    if (more) stash(buffer ^ 1);
    if (bug != Bug::kMissingBarrier) __syncthreads();
    if (bug == Bug::kDivergentBarrier && column < kN) __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    const int m = first_row + ty * 4 + i;
    if (m >= kM) continue;
    const int end = bug == Bug::kGlobalWrite && m == kM - 1 ? kN + 1 : kN;
    for (int j = 0; j < 4; ++j) {
      const int n = first_column + tx * 4 + j;
      if (bug == Bug::kUnwrittenOutput && m == kM - 1 && n == kN - 1) continue;
      if (n < end) d[m * kN + n] = sum[i][j];
    }
  }
}

}  // namespace

void run_simt(const Arguments& use) {
  const dim3 grid((kN + Tile::kColumns - 1) / Tile::kColumns, (kM + Tile::kRows - 1) / Tile::kRows);
  FASTCONV_LAUNCH((simt_kernel), grid, Tile::kThreads, 0, nullptr, bug_of(use),
                  pointer<const float>(use.inputs.at(0)), pointer<const float>(use.inputs.at(1)),
                  pointer<float>(use.output));
}

}  // namespace fastconv::planted
