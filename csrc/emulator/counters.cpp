// counters.cpp -- see counters.h.
#include "emulator/counters.h"

#include "emulator/launch.h"
#include "emulator/symbols.h"

namespace fastconv::emulator {

TrafficSource traffic_source;

namespace {

struct Record {
  LaunchCounters counters;
  const void* kernel;
};
bool on;
std::vector<Record> records;

}  // namespace

bool counting() { return on; }

void set_counting(bool value) {
  const std::lock_guard<std::mutex> lock(machine());
  on = value;
}

void reset_counters() {
  const std::lock_guard<std::mutex> lock(machine());
  records.clear();
}

void record_launch(const Launch& launch) {
  if (!on) return;
  const Counts& c = state.counts;
  LaunchCounters counters{launch.name,
                          {launch.grid.x, launch.grid.y, launch.grid.z},
                          {launch.block.x, launch.block.y, launch.block.z},
                          {{"blocks", c.blocks},
                           {"switches", c.switches},
                           {"barriers", c.barriers},
                           {"warp_operations", c.warp_operations},
                           {"load_matrix", c.load_matrix},
                           {"mma", c.mma},
                           {"wgmma", c.wgmma},
                           {"matrix_multiply_adds", c.matrix_multiply_adds},
                           {"copy_async", c.copy_async},
                           {"copy_async_bytes", c.copy_async_bytes},
                           {"tma_loads", c.tma_loads},
                           {"tma_bytes", c.tma_bytes},
                           {"shared_bytes", c.shared_bytes}},
                          {}};
  if (traffic_source) {
    Traffic traffic = traffic_source();
    counters.counts.insert(traffic.counts.begin(), traffic.counts.end());
    counters.sites = std::move(traffic.sites);
  }
  records.push_back({std::move(counters), launch.kernel});
}

std::vector<LaunchCounters> counters() {
  const std::lock_guard<std::mutex> lock(machine());
  std::vector<LaunchCounters> all;
  for (Record& record : records) {
    record.counters.kernel = function_name(record.kernel);
    all.push_back(record.counters);
  }
  return all;
}

}  // namespace fastconv::emulator
