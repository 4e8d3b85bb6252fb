// scheduler.h -- which thread runs next, and what happens when none can.
//
// Threads run one at a time, from one point of waiting to the next; the order of options.order and its seed
// decide, so that every run can be repeated.
#pragma once
#include "emulator/state.h"

namespace fastconv::emulator {

/// Begin a block: all threads are ready, none has exited.
void reset_scheduler();

/// Let these threads go on.
void make_ready(const int* ids, int count);

/// Note what the current thread waits for; then, once whatever that needs is done, run_next().
inline void begin_wait(Wait wait, Site site, Operation operation = Operation::kNone, uint32_t mask = 0,
                       void* argument = nullptr) {
  Thread& self = *state.current;
  self.wait = wait;
  self.site = site;
  self.operation = operation;
  self.mask = mask;
  self.argument = argument;
}

/// Run other threads until the current one, unless it is leaving, is ready again.
void run_next(bool leaving = false);

/// The current thread is at its end; does not return.
void leave();

/// Take the first ready thread from the queue.
Thread* next_ready();

/// Let others overtake the current thread, in a random order, here and there.
void maybe_yield();

/// The next of the random numbers of this launch.
uint32_t random_number();
void seed_random_numbers(uint32_t seed);

/// bar.sync: wait for `count` threads at barrier `id`; a count of 0 means the block.
void block_barrier(int id, int count, Site site);

}  // namespace fastconv::emulator
