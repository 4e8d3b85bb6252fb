// collectives.h -- what the lanes of a warp, or the threads of a warpgroup, do together: each leaves its
// argument, and the last to come executes for all.
#pragma once
#include <cstring>

#include "emulator/state.h"

namespace fastconv::emulator {

/// Wait for the lanes of mask; execute, where not null, gets their arguments, null for lanes outside.
void warp_collective(Operation operation, uint32_t mask, void* argument,
                     void (*execute)(void* const* arguments, uint32_t mask), Site site);

/// Wait for the 128 threads of the warpgroup.
void warpgroup_collective(Operation operation, void* argument, void (*execute)(void* const* arguments),
                          Site site);

/// Nobody waits yet.
void reset_collectives();

/// Two words from each lane to those that ask for them.
struct Shuffle {
  uint32_t sent[2], received[2];
  int source;  // lane
};
void shuffle(uint32_t mask, Shuffle& mine, Site site);

/// Bit i is whether lane i of mask has a true predicate.
uint32_t ballot(uint32_t mask, bool predicate, Site site);

/// value of lane `source`, for types of up to 8 bytes.
template <class T>
T shuffle_value(uint32_t mask, T value, int source, Site site) {
  static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
  Shuffle mine{};
  memcpy(mine.sent, &value, sizeof(T));
  mine.source = source;
  shuffle(mask, mine, site);
  memcpy(static_cast<void*>(&value), mine.received, sizeof(T));
  return value;
}

}  // namespace fastconv::emulator
