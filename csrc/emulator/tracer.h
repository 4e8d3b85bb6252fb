// tracer.h -- what the emulator tells the tracer, which the trace build alone has.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

/// An access to memory that a kernel makes.
enum class Access { kRead, kWrite };

class Tracer {
 public:
  virtual ~Tracer() = default;

  virtual void launch_begin() = 0;
  virtual void launch_end() = 0;  // throws LaunchError for what was found
  virtual void block_begin() = 0;
  virtual void block_end() = 0;  // likewise

  /// The current thread reads or writes memory at a place in the code. A request is what lanes of a warp do
  /// together and what memory traffic is counted by; the emulator's own accesses are none.
  virtual void access(const void* address, size_t bytes, Access kind, const void* code, bool request) = 0;

  /// Shared memory that an asynchronous copy is about to fill holds nothing that may be read.
  virtual void invalidate(const void* address, size_t bytes) = 0;

  /// Rows that ldmatrix reads at once, eight of 16 bytes.
  virtual void matrix_request(const void* const* rows, const void* code) = 0;

  /// A row that TMA reads for the current thread.
  virtual void bulk_read(const void* address, size_t bytes) = 0;

  // Who knows what others did before: a barrier of the block, a barrier of some threads, an arrival at an
  // mbarrier or the end of its phase, and the wait for that.
  virtual void block_barrier() = 0;
  virtual void join(const int* ids, int count) = 0;
  virtual void release(uint32_t mbarrier, bool complete) = 0;
  virtual void acquire(uint32_t mbarrier) = 0;

  /// An object in shared memory begins its life, unwritten.
  virtual void shared_object(const void* address, size_t bytes, const char* name) = 0;

  /// Global memory that kernels may touch. Where registrations overlap, the largest counts.
  virtual void register_buffer(const void* address, size_t bytes, const char* name, bool initialised) = 0;
  virtual void forget_buffer(const void* address) = 0;
};

extern Tracer* tracer;  // null in other builds

/// Tell the tracer of an access on behalf of a thread of the block.
inline void trace_as(int thread, const void* address, size_t bytes, Access kind, const void* code = nullptr) {
  if (!tracer) return;
  Thread* current = state.current;
  state.current = &state.threads[thread];
  tracer->access(address, bytes, kind, code, false);
  state.current = current;
}

}  // namespace fastconv::emulator
