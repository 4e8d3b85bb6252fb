// scheduler.cpp -- see scheduler.h.
#include "emulator/scheduler.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "emulator/fiber.h"
#include "emulator/tma.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr unsigned kQueue = 2 * kMaxThreads;  // a power of two
constexpr int kBarriers = 16;                 // of a block

int queue[kQueue];
unsigned queue_head, queue_length;
uint32_t random_state;
int exited;

struct Barrier {
  int arrived, count;
  Site site;
};
Barrier barriers[kBarriers];

void push_front(int id) {
  queue_head = (queue_head - 1) % kQueue;
  queue[queue_head] = id;
  ++queue_length;
}

void push_back(int id) { queue[(queue_head + queue_length++) % kQueue] = id; }

const char* wait_name(const Thread& thread) {
  static const char* const kWaits[] = {"nothing", "a barrier", "", "", "an mbarrier", "nothing"};
  static const char* const kOperations[] = {"",         "__syncwarp", "a shuffle", "a vote",
                                            "ldmatrix", "mma",        "wgmma",     "the wait for wgmma"};
  const bool together = thread.wait == Wait::kWarp || thread.wait == Wait::kWarpgroup;
  return together ? kOperations[static_cast<int>(thread.operation)] : kWaits[static_cast<int>(thread.wait)];
}

[[noreturn]] void report_deadlock() {
  using Place = std::tuple<std::string, std::string, int, uint32_t>;
  std::map<Place, std::vector<int>> waiting;
  for (int i = 0; i < state.thread_count; ++i) {
    const Thread& thread = state.threads[i];
    if (thread.wait == Wait::kExited) continue;
    waiting[{wait_name(thread), thread.site.file, thread.site.line, thread.mask}].push_back(i);
  }
  std::string text;
  for (const auto& [place, ids] : waiting) {
    text += "; " + std::to_string(ids.size()) + " threads, " + std::to_string(ids.front()) + " to " +
            std::to_string(ids.back()) + ", wait for " + std::get<0>(place) + " at " + std::get<1>(place) +
            ":" + std::to_string(std::get<2>(place));
  }
  fail("DEADLOCK: no thread can run, %d of %d have exited%s", exited, state.thread_count, text.c_str());
}

}  // namespace

void seed_random_numbers(uint32_t seed) { random_state = seed * 2654435761u | 1u; }

uint32_t random_number() {  // xorshift
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

void reset_scheduler() {
  queue_head = queue_length = 0;
  exited = 0;
  memset(barriers, 0, sizeof barriers);
  int ids[kMaxThreads];
  for (int i = 0; i < state.thread_count; ++i) ids[i] = i;
  make_ready(ids, state.thread_count);
}

void make_ready(const int* ids, int count) {
  for (int i = 0; i < count; ++i) state.threads[ids[i]].wait = Wait::kNothing;
  switch (options.order) {
    case Order::kForward:
      for (int i = count - 1; i >= 0; --i) push_front(ids[i]);
      return;
    case Order::kReverse:
      for (int i = 0; i < count; ++i) push_front(ids[i]);
      return;
    case Order::kRandom:
    case Order::kLockstep:
      for (int i = 0; i < count; ++i) push_back(ids[i]);
      return;
  }
}

Thread* next_ready() {
  if (options.order == Order::kRandom && queue_length > 1) {
    std::swap(queue[queue_head], queue[(queue_head + random_number() % queue_length) % kQueue]);
  }
  const int id = queue[queue_head];
  queue_head = (queue_head + 1) % kQueue;
  --queue_length;
  return &state.threads[id];
}

void run_next(bool leaving) {
  Thread* self = state.current;
  for (;;) {
    if (queue_length > 0) {
      Thread* next = next_ready();
      if (next != self) switch_to(self, next, leaving);
      return;
    }
    if (complete_one_load()) continue;
    if (exited == state.thread_count) switch_to_launcher(leaving);
    report_deadlock();
  }
}

void leave() {
  state.current->wait = Wait::kExited;
  ++exited;
  run_next(true);
}

void maybe_yield() {
  if (options.order != Order::kRandom || random_number() % 4 != 0) return;
  push_back(state.current->id);
  run_next();
}

void block_barrier(int id, int count, Site site) {
  Thread& self = *state.current;
  Barrier& barrier = barriers[id];
  if (count == 0) count = state.thread_count;
  if (barrier.arrived == 0) {
    barrier.count = count;
    barrier.site = site;
  } else if (barrier.site.line != site.line || strcmp(barrier.site.file, site.file) != 0) {
    fail("DIVERGENT BARRIER: this thread is at %s:%d while another waits at %s:%d", site.file, site.line,
         barrier.site.file, barrier.site.line);
  }
  if (barrier.count != count) fail("barrier %d is used with counts %d and %d", id, barrier.count, count);
  begin_wait(Wait::kBarrier, site);
  self.barrier = id;
  if (++barrier.arrived == barrier.count) {
    int ids[kMaxThreads], n = 0;
    for (int i = 0; i < state.thread_count; ++i) {
      const Thread& thread = state.threads[i];
      if (thread.wait == Wait::kBarrier && thread.barrier == id) ids[n++] = i;
    }
    barrier.arrived = 0;
    ++state.counts.barriers;
    if (tracer && n == state.thread_count) tracer->block_barrier();
    if (tracer && n != state.thread_count) tracer->join(ids, n);
    make_ready(ids, n);
  }
  run_next();
}

}  // namespace fastconv::emulator
