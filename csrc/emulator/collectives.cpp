// collectives.cpp -- see collectives.h.
#include "emulator/collectives.h"

#include "emulator/scheduler.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

uint32_t posted[kMaxThreads / kLanes];          // lanes that wait, by warp
int group_posted[kMaxThreads / kGroupThreads];  // threads that wait, by warpgroup

const char* name_of(Operation operation) {
  static const char* const kNames[] = {"",         "__syncwarp", "shuffle", "vote",
                                       "ldmatrix", "mma",        "wgmma",   "wgmma wait"};
  return kNames[static_cast<int>(operation)];
}

/// Another lane of the collective must do the same at the same place.
void check_same(const Thread& self, const Thread& other) {
  const bool same =
      other.operation == self.operation && other.mask == self.mask && other.site.line == self.site.line;
  if (same) return;
  fail("DIVERGENT WARP: thread %d is in %s, mask %08x, at %s:%d and thread %d in %s, mask %08x, at %s:%d",
       self.id, name_of(self.operation), self.mask, self.site.file, self.site.line, other.id,
       name_of(other.operation), other.mask, other.site.file, other.site.line);
}

void exchange(void* const* arguments, uint32_t mask) {
  constexpr uint32_t kPoison = 0xffffffffu;  // a lane outside the mask gives nothing defined
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Shuffle& mine = *static_cast<Shuffle*>(arguments[lane]);
    const int source = mine.source % kLanes;
    const bool inside = mask >> source & 1;
    for (int i = 0; i < 2; ++i) {
      mine.received[i] = inside ? static_cast<Shuffle*>(arguments[source])->sent[i] : kPoison;
    }
  }
}

struct Vote {
  bool predicate;
  uint32_t result;
};

void count_votes(void* const* arguments, uint32_t mask) {
  uint32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) result |= uint32_t{static_cast<Vote*>(arguments[lane])->predicate} << lane;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) static_cast<Vote*>(arguments[lane])->result = result;
  }
}

}  // namespace

void reset_collectives() {
  memset(posted, 0, sizeof posted);
  memset(group_posted, 0, sizeof group_posted);
}

void warp_collective(Operation operation, uint32_t mask, void* argument,
                     void (*execute)(void* const* arguments, uint32_t mask), Site site) {
  Thread& self = *state.current;
  const int first = self.warp * kLanes;
  uint32_t& waiting = posted[self.warp];
  if (!(mask >> self.lane & 1)) {
    fail("%s: lane %d is not in its own mask %08x (%s:%d)", name_of(operation), self.lane, mask, site.file,
         site.line);
  }
  begin_wait(Wait::kWarp, site, operation, mask, argument);
  waiting |= 1u << self.lane;
  if ((waiting & mask) == mask) {
    void* arguments[kLanes] = {};
    int ids[kLanes], n = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!(mask >> lane & 1)) continue;
      const Thread& other = state.threads[first + lane];
      check_same(self, other);
      arguments[lane] = other.argument;
      ids[n++] = first + lane;
    }
    waiting &= ~mask;
    ++state.counts.warp_operations;
    if (execute) execute(arguments, mask);
    if (operation == Operation::kSyncWarp && tracer) tracer->join(ids, n);
    make_ready(ids, n);
  }
  run_next();
}

void warpgroup_collective(Operation operation, void* argument, void (*execute)(void* const* arguments),
                          Site site) {
  Thread& self = *state.current;
  const int group = self.id / kGroupThreads, first = group * kGroupThreads;
  if (first + kGroupThreads > state.thread_count) {
    fail("%s: this warpgroup has fewer than %d threads (%s:%d)", name_of(operation), kGroupThreads, site.file,
         site.line);
  }
  begin_wait(Wait::kWarpgroup, site, operation, 0, argument);
  if (++group_posted[group] == kGroupThreads) {
    void* arguments[kGroupThreads];
    int ids[kGroupThreads];
    for (int i = 0; i < kGroupThreads; ++i) {
      const Thread& other = state.threads[first + i];
      check_same(self, other);
      arguments[i] = other.argument;
      ids[i] = first + i;
    }
    group_posted[group] = 0;
    execute(arguments);
    make_ready(ids, kGroupThreads);
  }
  run_next();
}

void shuffle(uint32_t mask, Shuffle& mine, Site site) {
  warp_collective(Operation::kShuffle, mask, &mine, exchange, site);
}

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  Vote vote{predicate, 0};
  warp_collective(Operation::kVote, mask, &vote, count_votes, site);
  return vote.result;
}

}  // namespace fastconv::emulator
