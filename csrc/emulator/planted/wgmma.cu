// wgmma.cu -- a matrix product on Hopper's tensor cores: one warp loads by TMA, four compute, with bugs.
//
//   d[100, 72] = a[100, 200] * b[72, 200]^T, halves in, float32 out
#include "device/tma.h"
#include "device/vector.h"
#include "device/wgmma.h"
#include "emulator/planted/planted.h"

namespace fastconv::planted {
namespace {

constexpr int kM = 100, kN = 72, kK = 200;

struct Tile {
  static constexpr int kRows = 64, kColumns = 64, kDepth = 64;
  static constexpr int kStages = 2;
  static constexpr int kConsumers = 128;  // a warpgroup
  static constexpr int kThreads = kConsumers + kWarp;
  static constexpr int kBytes = kRows * kDepth * 2;  // of a's part of a stage, and of b's
};

__global__ void wgmma_kernel(Bug bug,
                             const __grid_constant__ TensorMap a,  // [kM, kK]
                             const __grid_constant__ TensorMap b,  // [kN, kK]
                             float* __restrict__ d) {              // [kM, kN]
  FASTCONV_DYNAMIC_SHARED(unsigned char, stages);
  FASTCONV_SHARED(uint64_t, full, [Tile::kStages]);
  FASTCONV_SHARED(uint64_t, empty, [Tile::kStages]);
  const int t = threadIdx.x, lane = t % kWarp;
  const int first_row = blockIdx.y * Tile::kRows, first_column = blockIdx.x * Tile::kColumns;
  const int tiles = (kK + Tile::kDepth - 1) / Tile::kDepth;
  const auto stage_of = [&](int tile) {
    return shared_address(stages) + tile % Tile::kStages * 2 * Tile::kBytes;
  };
  if (t == 0) {
    for (int s = 0; s < Tile::kStages; ++s) {
      barrier_init(shared_address(&full[s]), 1);
      barrier_init(shared_address(&empty[s]), Tile::kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (t == Tile::kConsumers) {
    for (int tile = 0; tile < tiles; ++tile) {
      const int s = tile % Tile::kStages, parity = tile / Tile::kStages % 2;
      const uint32_t loaded = shared_address(&full[s]);
      if (bug != Bug::kNoWaitForEmpty) barrier_wait(shared_address(&empty[s]), parity ^ 1);
      barrier_arrive_expect(loaded, bug == Bug::kTooFewBytes ? Tile::kBytes : 2 * Tile::kBytes);
      tma_load<2>(stage_of(tile), a, loaded, {{tile * Tile::kDepth, first_row}});
      tma_load<2>(stage_of(tile) + Tile::kBytes, b, loaded, {{tile * Tile::kDepth, first_column}});
    }
  }
  if (t >= Tile::kConsumers) return;  // no barrier of the block follows
  float sum[Tile::kColumns / 2] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    const int s = tile % Tile::kStages;
    barrier_wait(shared_address(&full[s]), tile / Tile::kStages % 2);
    const uint32_t a_tile = stage_of(tile), b_tile = a_tile + Tile::kBytes;
    wgmma_fence();
    for (int k = 0; k < Tile::kDepth / 16; ++k) {
      wgmma_m64k16<__half>(sum, wgmma_descriptor(a_tile + k * 32), wgmma_descriptor(b_tile + k * 32), true);
    }
    wgmma_commit();
    if (bug == Bug::kEarlyRelease) barrier_arrive(shared_address(&empty[s]));
    if (bug != Bug::kEarlyRead || tile + 1 < tiles) wgmma_wait<0>();
    if (bug != Bug::kEarlyRelease) barrier_arrive(shared_address(&empty[s]));
  }
  for (int i = 0; i < Tile::kColumns / 4; ++i) {
    const int m = first_row + t / kWarp * 16 + lane / 4 + i % 2 * 8,
              n = first_column + i / 2 * 8 + lane % 4 * 2;
    const Vector<float, 2> pair{{sum[i / 2 * 4 + i % 2 * 2], sum[i / 2 * 4 + i % 2 * 2 + 1]}};
    if (m < kM && n < kN) store_vector(d + m * kN + n, pair);
  }
}

}  // namespace

void run_wgmma(const Arguments& use) {
  const dim3 grid((kN + Tile::kColumns - 1) / Tile::kColumns, (kM + Tile::kRows - 1) / Tile::kRows);
  const int box[5] = {Tile::kDepth, Tile::kRows};
  const auto map = [&](int input, int rows) {
    const MappedTensor tensor{Dtype::kFloat16, 2, pointer<void>(use.inputs.at(input)), {kK, rows}, {kK * 2}};
    return encode_tiled(tensor, box, Swizzle::k128Bytes);
  };
  FASTCONV_LAUNCH((wgmma_kernel), grid, Tile::kThreads, Tile::kStages * 2 * Tile::kBytes, nullptr,
                  bug_of(use), map(0, kM), map(1, kN), pointer<float>(use.output));
}

}  // namespace fastconv::planted
