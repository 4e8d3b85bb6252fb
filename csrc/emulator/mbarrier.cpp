// mbarrier.cpp -- see mbarrier.h.
#include "emulator/mbarrier.h"

#include <map>

#include "emulator/scheduler.h"
#include "emulator/shared_memory.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr int kBytes = 8;  // of an mbarrier; what lies there is not used

struct Mbarrier {
  int arrivals, missing;  // of a phase, and still
  int64_t bytes;          // announced and not yet landed; below 0 where they land first
  uint32_t parity;        // of the phase that runs
};
std::map<uint32_t, Mbarrier> mbarriers;

Mbarrier& find(uint32_t barrier, const char* instruction) {
  const auto found = mbarriers.find(barrier);
  if (found == mbarriers.end()) {
    fail("%s: no mbarrier was initialised at shared address %u", instruction, barrier);
  }
  return found->second;
}

void end_phase_if_complete(uint32_t barrier, Mbarrier& b) {
  if (b.missing != 0 || b.bytes != 0) return;
  b.parity ^= 1;
  b.missing = b.arrivals;
  if (tracer) tracer->release(barrier, true);
  int ids[kMaxThreads], n = 0;
  for (int i = 0; i < state.thread_count; ++i) {
    const Thread& thread = state.threads[i];
    const bool waits = thread.wait == Wait::kMbarrier && thread.mbarrier == barrier;
    if (waits && thread.parity != b.parity) ids[n++] = i;
  }
  make_ready(ids, n);
}

}  // namespace

void mbarrier_init(uint32_t barrier, int arrivals) {
  check_shared(barrier, kBytes, kBytes, "mbarrier.init");
  mbarriers[barrier] = {arrivals, arrivals, 0, 0};
}

void mbarrier_arrive(uint32_t barrier, int bytes) {
  Mbarrier& b = find(barrier, "mbarrier.arrive");
  if (b.missing == 0) fail("mbarrier: more arrivals than the %d of a phase", b.arrivals);
  b.bytes += bytes;
  --b.missing;
  if (tracer) tracer->release(barrier, false);
  end_phase_if_complete(barrier, b);
  maybe_yield();
}

void mbarrier_wait(uint32_t barrier, uint32_t parity, Site site) {
  const Mbarrier& b = find(barrier, "mbarrier.wait");
  if (b.parity == parity) {
    begin_wait(Wait::kMbarrier, site);
    state.current->mbarrier = barrier;
    state.current->parity = parity;
    run_next();
  }
  if (tracer) tracer->acquire(barrier);
}

void check_mbarrier(uint32_t barrier, const char* instruction) { find(barrier, instruction); }

void mbarrier_landed(uint32_t barrier, int64_t bytes) {
  Mbarrier& b = find(barrier, "complete_tx");
  b.bytes -= bytes;
  end_phase_if_complete(barrier, b);
}

void reset_mbarriers() { mbarriers.clear(); }

}  // namespace fastconv::emulator
