// clocks.cpp -- see clocks.h.
#include "emulator/trace/clocks.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "emulator/state.h"

namespace fastconv::emulator {
namespace {

uint32_t epoch = 1, launch_epoch = 1, block_epoch_ = 1;

/// Row t is what thread t knows of the others; rows of an older epoch are made new when next used.
uint32_t known[kMaxThreads][kMaxThreads];
uint32_t known_epoch[kMaxThreads];

/// What arrivals at an mbarrier bring to those that wait: in the phase that runs, and in the last that ended.
struct Mbarrier {
  uint32_t epoch = 0, ended_epoch = 0;
  std::vector<uint32_t> arrived, ended;
};
std::map<uint32_t, Mbarrier> mbarriers;

uint32_t* row_of(int thread) {
  uint32_t* row = known[thread];
  if (known_epoch[thread] != epoch) {
    memset(row, 0, state.thread_count * sizeof(uint32_t));
    row[thread] = 1;
    known_epoch[thread] = epoch;
  }
  return row;
}

void take_maximum(uint32_t* into, const uint32_t* from) {
  for (int i = 0; i < state.thread_count; ++i) into[i] = std::max(into[i], from[i]);
}

}  // namespace

void Clocks::launch_begin() { launch_epoch = ++epoch; }

void Clocks::block_begin() {
  block_epoch_ = ++epoch;
  mbarriers.clear();
}

void Clocks::block_barrier() { ++epoch; }

uint32_t Clocks::block_epoch() { return block_epoch_; }

void Clocks::join(const int* ids, int count) {
  static uint32_t together[kMaxThreads];
  const size_t bytes = state.thread_count * sizeof(uint32_t);
  memset(together, 0, bytes);
  for (int i = 0; i < count; ++i) take_maximum(together, row_of(ids[i]));
  for (int i = 0; i < count; ++i) {
    uint32_t* row = known[ids[i]];
    memcpy(row, together, bytes);
    ++row[ids[i]];
  }
}

void Clocks::release(uint32_t mbarrier, bool complete) {
  Mbarrier& barrier = mbarriers[mbarrier];
  if (complete) {
    barrier.ended = barrier.arrived;
    barrier.ended_epoch = barrier.epoch;
    return;
  }
  if (barrier.epoch != epoch) {
    barrier.arrived.assign(state.thread_count, 0);
    barrier.epoch = epoch;
  }
  const int self = state.current->id;
  uint32_t* row = row_of(self);
  take_maximum(barrier.arrived.data(), row);
  ++row[self];
}

void Clocks::acquire(uint32_t mbarrier) {
  const Mbarrier& barrier = mbarriers[mbarrier];
  if (barrier.ended_epoch == epoch && !barrier.ended.empty()) {
    take_maximum(row_of(state.current->id), barrier.ended.data());
  }
}

Stamp Clocks::now(uint32_t code) {
  const int self = state.current->id;
  return {epoch, row_of(self)[self], code, static_cast<uint16_t>(self)};
}

Relation Clocks::relation(const Stamp& earlier, bool shared) {
  if (earlier.epoch < launch_epoch) return Relation::kOrdered;
  if (earlier.epoch < block_epoch_) return shared ? Relation::kOrdered : Relation::kOtherBlock;
  const int self = state.current->id;
  if (earlier.epoch < epoch || earlier.thread == self) return Relation::kOrdered;
  return row_of(self)[earlier.thread] >= earlier.clock ? Relation::kOrdered : Relation::kConcurrent;
}

}  // namespace fastconv::emulator
