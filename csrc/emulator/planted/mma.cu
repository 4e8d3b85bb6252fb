// mma.cu -- a matrix product on tensor cores, with a ring of tiles that cp.async fills, with bugs.
//
//   d[70, 40] = a[70, 136] * b[40, 136]^T, halves in, float32 out
#include "device/async_copy.h"
#include "device/matrix.h"
#include "device/vector.h"
#include "emulator/planted/planted.h"

namespace fastconv::planted {
namespace {

constexpr int kM = 70, kN = 40, kK = 136;

struct Tile {
  static constexpr int kRows = 64, kColumns = 32, kDepth = 32;
  static constexpr int kStages = 3;
  static constexpr int kThreads = 64;  // two warps, of 32 x 32 outputs each
  static constexpr int kRowBytes = kDepth * 2;
  static constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
};

/// Offset of a 16-byte chunk: exclusive or with the row lets 8 rows lie in different banks.
__device__ __forceinline__ int chunk_at(int row, int chunk) {
  return row * Tile::kRowBytes + ((chunk ^ (row >> 1)) & 3) * 16;
}

__global__ void mma_kernel(Bug bug,
                           const __half* __restrict__ a,  // [kM, kK]
                           const __half* __restrict__ b,  // [kN, kK]
                           float* __restrict__ d) {       // [kM, kN]
  FASTCONV_DYNAMIC_SHARED(unsigned char, stages);
  const uint32_t ring = shared_address(stages);
  const int t = threadIdx.x, lane = t % kWarp, warp_row = t / kWarp * 32;
  const int first_row = blockIdx.y * Tile::kRows, first_column = blockIdx.x * Tile::kColumns;
  const int tiles = (kK + Tile::kDepth - 1) / Tile::kDepth;
  const auto load = [&](int tile) {
    const uint32_t to = ring + tile % Tile::kStages * Tile::kStageBytes;
    for (int i = t; i < (Tile::kRows + Tile::kColumns) * 4; i += Tile::kThreads) {
      const int row = i / 4, chunk = i % 4, k = tile * Tile::kDepth + chunk * 8;
      const bool is_a = row < Tile::kRows;
      const int at = is_a ? first_row + row : first_column + row - Tile::kRows;
      const bool inside = k < kK && at < (is_a ? kM : kN);
      const __half* from = is_a ? a : b;
      if (inside) from += at * kK + k + (bug == Bug::kMisalignedCopy ? 1 : 0);
      copy_async<16>(to + chunk_at(row, chunk), from, inside ? 16 : 0);
    }
  };
  for (int tile = 0; tile < Tile::kStages - 1; ++tile) {
    load(tile);
    copy_async_commit();
  }
  float sum[2][4][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    if (bug == Bug::kWaitAfterBarrier) __syncthreads();
    if (bug == Bug::kWaitForTooFew) {
      copy_async_wait<Tile::kStages - 1>();
    } else {
      copy_async_wait<Tile::kStages - 2>();
    }
    if (bug != Bug::kWaitAfterBarrier && bug != Bug::kMissingBarrier) __syncthreads();
    if (tile + Tile::kStages - 1 < tiles) load(tile + Tile::kStages - 1);
    copy_async_commit();
    const uint32_t a_tile = ring + tile % Tile::kStages * Tile::kStageBytes;
    const uint32_t b_tile = a_tile + Tile::kRows * Tile::kRowBytes;
    for (int k = 0; k < Tile::kDepth / 16; ++k) {
      uint32_t a_part[2][4], b_part[2][4];
      for (int i = 0; i < 2; ++i) {
        load_matrix_x4(a_part[i], a_tile + chunk_at(warp_row + i * 16 + lane % 16, k * 2 + lane / 16));
        load_matrix_x4(b_part[i], b_tile + chunk_at(i * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) {
          const uint32_t b_used[2] = {b_part[j / 2][j % 2 * 2], b_part[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<__half>(sum[i][j], a_part[i], b_used);
        }
      }
    }
  }
  copy_async_wait<0>();
  for (int i = 0; i < 2; ++i) {
    for (int half = 0; half < 2; ++half) {
      const int m = first_row + warp_row + i * 16 + half * 8 + lane / 4;
      for (int j = 0; j < 4 && m < kM; ++j) {
        const int n = first_column + j * 8 + lane % 4 * 2;
        const Vector<float, 2> pair{{sum[i][j][half * 2], sum[i][j][half * 2 + 1]}};
        if (n < kN) store_vector(d + m * kN + n, pair);
      }
    }
  }
}

}  // namespace

void run_mma(const Arguments& use) {
  const dim3 grid((kN + Tile::kColumns - 1) / Tile::kColumns, (kM + Tile::kRows - 1) / Tile::kRows);
  FASTCONV_LAUNCH((mma_kernel), grid, Tile::kThreads, Tile::kStages * Tile::kStageBytes, nullptr, bug_of(use),
                  pointer<const __half>(use.inputs.at(0)), pointer<const __half>(use.inputs.at(1)),
                  pointer<float>(use.output));
}

}  // namespace fastconv::planted
