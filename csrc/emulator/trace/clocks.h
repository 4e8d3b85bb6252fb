// clocks.h -- who knows what others did before: happens-before by vector clocks.
//
// A barrier of the whole block begins a new epoch, before which everything is known to everybody. Within an
// epoch each thread has a clock for every other one, which __syncwarp(), barriers of some threads and
// mbarriers bring forward.
#pragma once
#include <cstdint>

namespace fastconv::emulator {

/// When, by whom and where in the code an access was made. All 0 for none.
struct Stamp {
  uint32_t epoch, clock;
  uint32_t code;  // offset in the module
  uint16_t thread;
};

enum class Relation { kOrdered, kConcurrent, kOtherBlock };

class Clocks {
 public:
  static void launch_begin();
  static void block_begin();
  static void block_barrier();
  static void join(const int* ids, int count);
  static void release(uint32_t mbarrier, bool complete);
  static void acquire(uint32_t mbarrier);

  /// A stamp of the current thread.
  static Stamp now(uint32_t code);

  /// How an earlier access relates to one of the current thread. Shared memory is each block's own.
  static Relation relation(const Stamp& earlier, bool shared);

  /// Epoch in which the current block began.
  static uint32_t block_epoch();
};

}  // namespace fastconv::emulator
