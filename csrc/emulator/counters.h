// counters.h -- what launches did, for tests that hold kernels to numbers. Plain C++.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fastconv::emulator {

/// What one line of a kernel does to memory, in all blocks of a launch. A request is what the lanes of a warp
/// access together; 32-byte sectors are counted in global memory, wavefronts in shared memory, where a
/// minimum is what the same bytes would need without conflicts.
struct AccessSite {
  std::string where;   // file:line
  std::string memory;  // "global" or "shared"
  std::string access;  // "load" or "store"
  uint64_t bytes = 0;  // of one lane
  uint64_t requests = 0, lanes = 0;
  uint64_t sectors = 0, sectors_minimum = 0;
  uint64_t wavefronts = 0, wavefronts_minimum = 0;
  uint64_t words = 0;  // distinct 4-byte words a request, summed
};

/// One launch.
struct LaunchCounters {
  std::string kernel;  // with its template arguments
  std::array<uint32_t, 3> grid, block;
  std::map<std::string, uint64_t> counts;
  std::vector<AccessSite> sites;  // of the trace build
};

/// Count from now on, or no longer. Without a tracer the counts of memory traffic are missing.
void set_counting(bool on);
bool counting();

/// All launches that were counted since the last reset, in order.
std::vector<LaunchCounters> counters();
void reset_counters();

struct Launch;
/// After a launch, while the machine is still held.
void record_launch(const Launch& launch);

/// The tracer's part: adds to the counts of the launch that has just ended.
struct Traffic {
  std::map<std::string, uint64_t> counts;
  std::vector<AccessSite> sites;
};
using TrafficSource = Traffic (*)();
extern TrafficSource traffic_source;  // null in builds without tracer

}  // namespace fastconv::emulator
