// launch.cpp -- see launch.h.
#include "emulator/launch.h"

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <string>

#include "device/error.h"
#include "emulator/async_copy.h"
#include "emulator/collectives.h"
#include "emulator/counters.h"
#include "emulator/fiber.h"
#include "emulator/mbarrier.h"
#include "emulator/scheduler.h"
#include "emulator/shared_memory.h"
#include "emulator/tma.h"
#include "emulator/tracer.h"
#include "emulator/wgmma.h"

namespace fastconv::emulator {

Options options;
State state;
Tracer* tracer;

namespace {

void (*thread_body)(void*);
void* thread_argument;
const char* kernel_name;
std::string error;  // why the launch was given up

void run_thread() {
  arrive_on_fiber();
  try {
    thread_body(thread_argument);
  } catch (const std::exception& thrown) {
    fail("%s", thrown.what());
  }
  check_copies_done();
  leave();
}

void run_block(size_t shared_bytes) {
  const dim3 size = state.block_size;
  ++state.counts.blocks;
  reset_collectives();
  reset_mbarriers();
  reset_loads();
  reset_wgmma();
  for (int i = 0; i < state.thread_count; ++i) {
    Thread& thread = state.threads[i] = Thread{};
    const unsigned id = static_cast<unsigned>(i);
    thread.id = i;
    thread.lane = i % kLanes;
    thread.warp = i / kLanes;
    thread.index = {id % size.x, id / size.x % size.y, id / (size.x * size.y)};
    make_fiber(thread, run_thread);
    reset_copies(i);
  }
  reset_scheduler();
  if (tracer) tracer->block_begin();
  begin_shared(shared_bytes);
  error.clear();
  state.running = true;
  switch_to(nullptr, next_ready());
  state.running = false;
  state.current = nullptr;
  if (!error.empty()) throw LaunchError(error);
  if (tracer) tracer->block_end();
  end_shared();
}

void check(const Launch& launch) {
  constexpr unsigned kMaxZ = 64, kMaxGridYz = 65535, kMaxGridX = 0x7fffffff;
  const dim3 block = launch.block, grid = launch.grid;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > kMaxThreads || block.z > kMaxZ) {
    fail("%s: a block of (%u, %u, %u) threads", launch.name, block.x, block.y, block.z);
  }
  if (!grid.x || !grid.y || !grid.z || grid.x > kMaxGridX || grid.y > kMaxGridYz || grid.z > kMaxGridYz) {
    fail("%s: a grid of (%u, %u, %u) blocks", launch.name, grid.x, grid.y, grid.z);
  }
  state.thread_count = static_cast<int>(threads);
}

}  // namespace

std::mutex& machine() {
  static std::mutex mutex;
  return mutex;
}

void fail(const char* format, ...) {
  char text[4096];
  int length = 0;
  const bool in_thread = state.running && state.current;
  if (in_thread) {
    const uint3 block = state.block_index, thread = state.current->index;
    length = snprintf(text, sizeof text, "%s block(%u,%u,%u) thread(%u,%u,%u): ", kernel_name, block.x,
                      block.y, block.z, thread.x, thread.y, thread.z);
  }
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + length, sizeof text - length, format, arguments);
  va_end(arguments);
  if (!in_thread) throw LaunchError(text);
  error = text;
  abandon_fibers();
  switch_to_launcher(false);
}

void run_grid(const Launch& launch, void (*body)(void*), void* argument) {
  const std::lock_guard<std::mutex> one_launch_at_a_time(machine());
  check(launch);
  prepare_stacks();
  thread_body = body;
  thread_argument = argument;
  kernel_name = launch.name;
  state.grid_size = launch.grid;
  state.block_size = launch.block;
  state.counts = Counts{};
  seed_random_numbers(options.seed);
  if (tracer) tracer->launch_begin();
  const uint64_t width = launch.grid.x, height = launch.grid.y;
  const uint64_t total = width * height * launch.grid.z;
  const bool all = options.only_block == kAllBlocks, last = options.only_block == kLastBlock;
  const uint64_t first = all ? 0 : last ? total - 1 : static_cast<uint64_t>(options.only_block);
  const uint64_t end = all ? total : first + 1;
  if (end > total) fail("%s: block %llu of %llu", launch.name, 1ull * first, 1ull * total);
  for (uint64_t i = first; i < end; ++i) {
    const uint64_t k = options.reverse_blocks && all ? total - 1 - i : i;
    state.block_index = {static_cast<unsigned>(k % width), static_cast<unsigned>(k / width % height),
                         static_cast<unsigned>(k / width / height)};
    run_block(launch.shared_bytes);
  }
  if (tracer) tracer->launch_end();
  record_launch(launch);
}

}  // namespace fastconv::emulator
