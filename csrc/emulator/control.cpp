// control.cpp -- see control.h.
#include "emulator/control.h"

#include <map>
#include <mutex>
#include <stdexcept>

#include "emulator/emulator.h"

namespace emu {
std::mutex& launch_mutex();
}

namespace fastconv::emulator {

void set_schedule(const std::string& order, const std::string& async_mode, uint32_t seed,
                  bool reverse_blocks) {
  static const std::map<std::string, emu::Order> orders = {{"forward", emu::Order::Forward},
                                                           {"reverse", emu::Order::Reverse},
                                                           {"random", emu::Order::Random},
                                                           {"lockstep", emu::Order::Lockstep}};
  static const std::map<std::string, emu::Async> modes = {{"late", emu::Async::Late},
                                                          {"early", emu::Async::Early}};
  if (!orders.count(order) || !modes.count(async_mode))
    throw std::invalid_argument(order + ", " + async_mode);
  emu::options.order = orders.at(order);
  emu::options.async = modes.at(async_mode);
  emu::options.seed = seed;
  emu::options.reverse_blocks = reverse_blocks;
}

void only_block(int64_t block) { emu::options.only_block = block; }

void register_buffer(uintptr_t address, uint64_t bytes, const std::string& name, bool initialised) {
  std::lock_guard<std::mutex> lock(emu::launch_mutex());
  if (emu::trace_buffer)
    emu::trace_buffer(reinterpret_cast<void*>(address), bytes, name.c_str(), initialised);
}

void forget_buffer(uintptr_t address) {
  std::lock_guard<std::mutex> lock(emu::launch_mutex());
  if (emu::trace_buffer_gone) emu::trace_buffer_gone(reinterpret_cast<void*>(address));
}

std::string build_kind() {
#ifdef __SANITIZE_ADDRESS__
  return "asan";
#else
  return emu::trace_buffer ? "trace" : "plain";
#endif
}

}  // namespace fastconv::emulator
