// control.cpp -- see control.h.
#include "emulator/control.h"

#include <map>
#include <mutex>
#include <stdexcept>

#include "emulator/launch.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

template <class Value>
Value named(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  if (found != values.end()) return found->second;
  std::string text = "got '" + name + "', expected one of";
  for (const auto& [known, value] : values) text += " " + known;
  throw std::invalid_argument(text);
}

}  // namespace

void set_schedule(const std::string& order, const std::string& async_mode, uint32_t seed,
                  bool reverse_blocks) {
  const std::lock_guard<std::mutex> lock(machine());
  options.order = named<Order>({{"forward", Order::kForward},
                                {"reverse", Order::kReverse},
                                {"random", Order::kRandom},
                                {"lockstep", Order::kLockstep}},
                               order);
  options.async = named<Async>({{"late", Async::kLate}, {"early", Async::kEarly}}, async_mode);
  options.seed = seed;
  options.reverse_blocks = reverse_blocks;
}

void only_block(int64_t block) {
  const std::lock_guard<std::mutex> lock(machine());
  options.only_block = block;
}

void register_buffer(uintptr_t address, uint64_t bytes, const std::string& name, bool initialised) {
  const std::lock_guard<std::mutex> lock(machine());
  if (tracer) tracer->register_buffer(reinterpret_cast<void*>(address), bytes, name.c_str(), initialised);
}

void forget_buffer(uintptr_t address) {
  const std::lock_guard<std::mutex> lock(machine());
  if (tracer) tracer->forget_buffer(reinterpret_cast<void*>(address));
}

std::string build_kind() {
#ifdef __SANITIZE_ADDRESS__
  return "asan";
#else
  return tracer ? "trace" : "plain";
#endif
}

}  // namespace fastconv::emulator
