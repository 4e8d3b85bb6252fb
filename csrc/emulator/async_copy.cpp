// async_copy.cpp -- see async_copy.h.
#include "emulator/async_copy.h"

#include <cstring>
#include <vector>

#include "emulator/shared_memory.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

struct Copy {
  uint32_t to;
  const void* from;
  int bytes, valid;
};

/// One thread's copies in order; groups_end holds where its groups end.
struct Copies {
  std::vector<Copy> copies;
  std::vector<size_t> groups_end;
  size_t copies_made = 0, groups_made = 0;
};
Copies copies_of[kMaxThreads];

void make(const Copy& copy) {
  uint8_t* to = arena + copy.to;
  memcpy(to, copy.from, copy.valid);
  memset(to + copy.valid, 0, copy.bytes - copy.valid);
  if (tracer) tracer->access(to, copy.bytes, Access::kWrite, nullptr, false);
}

}  // namespace

__attribute__((noinline)) void copy_async(uint32_t to, const void* from, int bytes, int valid) {
  const char* code = static_cast<const char*>(__builtin_return_address(0));
  check_shared(to, bytes, bytes, "cp.async");
  if (valid < 0 || valid > bytes) fail("cp.async of %d bytes, %d of them valid", bytes, valid);
  if (reinterpret_cast<uintptr_t>(from) % bytes)
    fail("cp.async: MISALIGNED source %p for %d bytes", from, bytes);
  ++state.counts.copy_async;
  state.counts.copy_async_bytes += valid;
  if (tracer) {
    if (valid) tracer->access(from, valid, Access::kRead, code, true);
    tracer->access(arena + to, bytes, Access::kWrite, code + 1, true);  // a request apart from the read's
    tracer->invalidate(arena + to, bytes);
  }
  const Copy copy{to, from, bytes, valid};
  if (options.async == Async::kEarly) return make(copy);
  constexpr int kNan = 0xFF;
  memset(arena + to, kNan, bytes);
  copies_of[state.current->id].copies.push_back(copy);
}

void copy_async_commit() {
  Copies& mine = copies_of[state.current->id];
  if (options.async == Async::kLate) mine.groups_end.push_back(mine.copies.size());
}

void copy_async_wait(int pending) {
  Copies& mine = copies_of[state.current->id];
  while (mine.groups_end.size() - mine.groups_made > static_cast<size_t>(pending)) {
    const size_t end = mine.groups_end[mine.groups_made++];
    while (mine.copies_made < end) make(mine.copies[mine.copies_made++]);
  }
  const bool idle = mine.groups_made == mine.groups_end.size() && mine.copies_made == mine.copies.size();
  if (idle) reset_copies(state.current->id);
}

void reset_copies(int thread) {
  Copies& mine = copies_of[thread];
  mine.copies.clear();
  mine.groups_end.clear();
  mine.copies_made = mine.groups_made = 0;
}

void check_copies_done() {
  const Copies& mine = copies_of[state.current->id];
  const size_t left = mine.copies.size() - mine.copies_made;
  if (left) fail("exits with %zu cp.async copies that it never waited for", left);
}

}  // namespace fastconv::emulator
