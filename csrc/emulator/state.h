// state.h -- what the emulator knows while a block runs: its threads, their places, counts, and the options.
#pragma once
#include <cuda_runtime.h>  // dim3, uint3

#include <cstddef>
#include <cstdint>

#include "device/site.h"

namespace fastconv::emulator {

constexpr int kMaxThreads = 1024;  // of a block
constexpr int kLanes = 32;
constexpr int kGroupThreads = 128;  // of a warpgroup

/// Who goes on when several threads can. Forward and reverse let a released warp run ahead as far as it can.
enum class Order { kForward, kReverse, kRandom, kLockstep };

/// Asynchronous copies and products take effect at the wait for them, or at once.
enum class Async { kLate, kEarly };

constexpr int64_t kAllBlocks = -1, kLastBlock = -2;

struct Options {
  Order order = Order::kForward;
  Async async = Async::kLate;
  uint32_t seed = 1;
  bool reverse_blocks = false;
  int64_t only_block = kAllBlocks;         // run this block alone, counted x first
  uint32_t max_shared_bytes = 227 * 1024;  // what a block of compute capability 9.0 may have
};
extern Options options;

/// What a thread waits for.
enum class Wait : uint8_t { kNothing, kBarrier, kWarp, kWarpgroup, kMbarrier, kExited };

/// What a warp or a warpgroup does together.
enum class Operation : uint8_t { kNone, kSyncWarp, kShuffle, kVote, kLoadMatrix, kMma, kWgmma, kWgmmaWait };

/// One CUDA thread.
struct Thread {
  void* stack_pointer;  // while it does not run
  uint3 index;          // threadIdx
  int id, lane, warp;
  Wait wait;
  Operation operation;
  int barrier;     // which one of __syncthreads() and its kin, while it waits there
  uint32_t mask;   // of the operation
  void* argument;  // what it brings to the operation
  Site site;       // where it waits
  uint32_t mbarrier, parity;
  void* fake_stack;  // AddressSanitizer's, while it does not run
};

/// Facts of a launch, exact and the same in every run.
struct Counts {
  uint64_t blocks, switches, barriers, warp_operations, load_matrix, mma, wgmma;
  uint64_t matrix_multiply_adds;  // of mma and wgmma together
  uint64_t copy_async, copy_async_bytes, tma_loads, tma_bytes;
  uint32_t shared_bytes;  // of the block that used most
};

/// One object, so that the tracer can tell an access to it from one of the kernel.
struct State {
  Thread* current;
  uint3 block_index;
  dim3 block_size, grid_size;
  Counts counts;
  bool running;
  int thread_count;
  Thread threads[kMaxThreads];
};
extern State state;

/// Give the launch up with a LaunchError that says which thread of which block was at fault. Outside a launch
/// it throws at once.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace fastconv::emulator
