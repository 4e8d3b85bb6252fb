// small.cu -- kernels of a few lines with one bug each; x and y are [256] and [64] floats.
//
// Each comes with the same kernel without the bug, which writes what is said beside it.
#include "device/vector.h"
#include "emulator/planted/planted.h"

namespace fastconv::planted {
namespace {

constexpr int kThreads = 64;
constexpr unsigned kAllLanes = 0xffffffffu;

/// The maximum of three neighbours, for 30 of the lanes of each warp; 0 for the others.
__global__ void shuffle_kernel(bool correct, const float* x, float* y) {
  const int t = threadIdx.x, lane = t % kWarp;
  float best = x[t], own = best;
  for (int s = 1; s < 3; ++s) {
    if (!correct && lane >= 30) break;
    best = max(best, __shfl_sync(kAllLanes, own, lane + s));
  }
  y[t] = lane < 30 ? best : 0.0f;
}

/// The sum of four neighbours, x[4t] to x[4t + 3].
__global__ void vector_kernel(bool correct, const float* x, float* y) {
  const auto four = load_vector<4>(x + 4 * threadIdx.x % 252 + (correct ? 0 : 1));
  y[threadIdx.x] = four[0] + four[1] + four[2] + four[3];
}

/// x, each half turned round.
__global__ void turn_kernel(bool correct, const float* x, float* y) {
  FASTCONV_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = x[t];
  if (correct) __syncwarp();
  y[t] = tile[t ^ (kWarp - 1)];
}

/// 64 blocks write, or 32 pairs of them, the first or only ones x.
__global__ void blocks_kernel(bool correct, const float* x, float* y) {
  const unsigned block = blockIdx.x;
  if (threadIdx.x == 0) y[correct ? block : block / 2] = x[block];
}

/// Each block adds its x to an element of its own, or to the first.
__global__ void update_kernel(bool correct, const float* x, float* y) {
  const unsigned block = blockIdx.x;
  if (threadIdx.x != 0) return;
  if (correct || block == 0) y[block] = 0.0f;
  y[correct ? block : 0] += x[block];
}

/// Whether x is above 0; the bug is in x, half of which was never written.
__global__ void compare_kernel(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] > 0.0f ? 1.0f : 0.0f;
}

/// Twice x; but threads from 40 on leave.
__global__ void exit_kernel(bool correct, const float* x, float* y) {
  if (!correct && threadIdx.x >= 40) return;
  y[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] += x[threadIdx.x];
}

/// x of the next thread, round the block.
__global__ void rotate_kernel(bool correct, const float* x, float* y) {
  FASTCONV_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  const float value = tile[(t + 1) % kThreads];
  if (correct) __syncthreads();
  tile[t] = -1.0f;
  y[t] = value;
}

/// x of the opposite thread.
__global__ void opposite_kernel(bool correct, const float* x, float* y) {
  FASTCONV_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = x[t];
  if (correct || t < kWarp) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[t] = tile[kThreads - 1 - t];
}

/// x plus that of the neighbour, in the lower halves of warps.
__global__ void mask_kernel(bool correct, const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x % kWarp < 16) value += __shfl_xor_sync(correct ? 0xffffu : kAllLanes, value, 1);
  y[threadIdx.x] = value;
}

/// 1, which one thread says, or several.
__global__ void flag_kernel(bool correct, const float*, float* y) {
  FASTCONV_SHARED(float, flag, [1]);
  if (correct ? threadIdx.x == 0 : threadIdx.x % 7 == 0) flag[0] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = flag[0];
}

/// x, by way of dynamic shared memory of which the host asks for what no GPU has.
__global__ void shared_kernel(bool, const float* x, float* y) {
  FASTCONV_DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[threadIdx.x];
}

}  // namespace

void run_small(const Arguments& use) {
  const float* x = pointer<const float>(use.inputs.at(0));
  float* y = pointer<float>(use.output);
  const bool correct = use.correct;
  const auto run = [&](auto kernel, unsigned blocks) {
    FASTCONV_LAUNCH((kernel), blocks, kThreads, 0, nullptr, correct, x, y);
  };
  switch (use.bug) {
    case Bug::kDivergentShuffle:
      return run(shuffle_kernel, 1);
    case Bug::kMisalignedVector:
      return run(vector_kernel, 1);
    case Bug::kMissingWarpBarrier:
      return run(turn_kernel, 1);
    case Bug::kBlocksWriteSame:
      return run(blocks_kernel, 64);
    case Bug::kBlocksReadWrite:
      return run(update_kernel, 64);
    case Bug::kUnwrittenInput:
      FASTCONV_LAUNCH((compare_kernel), 1, kThreads, 0, nullptr, x, y);
      return;
    case Bug::kEarlyExit:
      return run(exit_kernel, 1);
    case Bug::kWriteAfterRead:
      return run(rotate_kernel, 1);
    case Bug::kBarrierAtTwoPlaces:
      return run(opposite_kernel, 1);
    case Bug::kWrongMask:
      return run(mask_kernel, 1);
    case Bug::kSameValue:
      return run(flag_kernel, 1);
    case Bug::kTooMuchShared:
      FASTCONV_LAUNCH((shared_kernel), 1, kThreads, correct ? 1024 : 232449, nullptr, correct, x, y);
      return;
    default:
      throw DispatchError("no small kernel has this bug");
  }
}

}  // namespace fastconv::planted
