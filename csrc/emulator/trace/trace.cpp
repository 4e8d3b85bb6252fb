// trace.cpp -- the tracer: what the trace build checks at every access of a kernel.
//
//   bounds          it lies in a registered array, an object in shared memory, constants or the thread's
//   stack initialisation  what is read was written before races           what others wrote, or what is
//   overwritten that others read, is ordered by barriers; between
//                   the blocks of a launch nothing is
//   alignment       2, 4, 8 and 16 bytes at once lie at multiples of themselves
//
// Bounds and alignment end the launch at once, the others are gathered until the block is over.
#include "emulator/trace/trace.h"

#include <pthread.h>

#include <cstdio>
#include <set>

#include "device/error.h"
#include "emulator/fiber.h"
#include "emulator/shared_memory.h"
#include "emulator/symbols.h"
#include "emulator/trace/shadow.h"
#include "emulator/trace/traffic.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr size_t kMaxFindings = 20;

/// Something wrong that does not end the launch at once.
struct Finding {
  std::string text;  // %1 and %2 stand for the places below
  uint32_t code, other_code;
};

class ShadowTracer final : public Tracer {
 public:
  ShadowTracer() : module_begin_(module().begin), module_end_(module().end) {
    tracer = this;
    traffic_source = [] { return traffic::collect(instance().global_); };
  }
  static ShadowTracer& instance() {
    static ShadowTracer only;
    return only;
  }

  void launch_begin() override {
    Clocks::launch_begin();
    findings_.clear();
    seen_.clear();
    counting_ = counting();
    traffic::reset();
    for (const auto& region : global_.all()) region->loaded.clear(), region->stored.clear();
    find_launching_stack();
  }

  void launch_end() override { throw_findings(); }

  void block_begin() override { Clocks::block_begin(); }

  void block_end() override {
    if (counting_) traffic::end_block();
    throw_findings();
  }

  void access(const void* address, size_t bytes, Access kind, const void* code, bool request) override {
    locate(address, bytes, kind, code, request);
  }

  void invalidate(const void* address, size_t bytes) override {
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    Region* region = shared_.find(at, bytes);
    if (!region) return;
    const size_t offset = at - region->begin;
    region->refine(offset, bytes);
    for (size_t c = offset / region->granule; c < (offset + bytes) / region->granule; ++c) {
      region->cells[c].initialised = 0;
    }
  }

  void matrix_request(const void* const* rows, const void* code) override {
    if (counting_) traffic::add_matrix(rows, offset_of(code));
  }

  void bulk_read(const void* address, size_t bytes) override {
    const Region* region = locate(address, bytes, Access::kRead, nullptr, false);
    if (!counting_ || !region) return;
    traffic::add_bulk(reinterpret_cast<uintptr_t>(address) - region->begin, bytes);
  }

  void block_barrier() override { Clocks::block_barrier(); }
  void join(const int* ids, int count) override { Clocks::join(ids, count); }
  void release(uint32_t mbarrier, bool complete) override { Clocks::release(mbarrier, complete); }
  void acquire(uint32_t mbarrier) override { Clocks::acquire(mbarrier); }

  void shared_object(const void* address, size_t bytes, const char* name) override {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    Region* known =
        shared_.find(begin, bytes);  // of an earlier block; what its cells hold is then of no account
    if (!known || known->begin != begin || known->end != begin + bytes) {
      shared_.remove_overlapping(begin, begin + bytes);
      known = &shared_.add(begin, bytes, name, false);
    }
    known->name = name;
    known->block = Clocks::block_epoch();
  }

  void register_buffer(const void* address, size_t bytes, const char* name, bool initialised) override {
    global_.add(reinterpret_cast<uintptr_t>(address), bytes, name, initialised);
  }

  void forget_buffer(const void* address) override { global_.remove(reinterpret_cast<uintptr_t>(address)); }

 private:
  /// Check and count an access; the region that it lies in, or null for what everybody may read.
  Region* locate(const void* address, size_t bytes, Access kind, const void* code, bool request) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    const bool shared = at - reinterpret_cast<uintptr_t>(arena) < kArenaBytes;
    Region* region = (shared ? shared_ : global_).find(at, bytes);
    if (region && shared && region->block != Clocks::block_epoch()) region = nullptr;
    if (!region) {
      if (kind == Access::kRead && readable_by_all(at)) return nullptr;
      report_out_of_bounds(at, bytes, kind, code, shared);
    }
    const size_t offset = at - region->begin;
    if (bytes <= 16 && (bytes & (bytes - 1)) == 0 && at % bytes) {
      fail("MISALIGNED access of %zu bytes at %s, byte %zu of %s", bytes, place(code).c_str(), offset,
           region->name.c_str());
    }
    check(*region, offset, bytes, kind, shared, offset_of(code));
    if (!counting_) return region;
    if (request) {
      traffic::add(state.current->id, offset_of(code), shared ? at : region->place + offset, bytes, kind,
                   shared);
    }
    if (!shared) (kind == Access::kWrite ? region->stored : region->loaded).add(offset, bytes);
    return region;
  }

  /// Constants of the module, and arguments of the kernel on the stack of whoever launches.
  bool readable_by_all(uintptr_t at) const {
    return (at >= module_begin_ && at < module_end_) || (at >= stack_begin_ && at < stack_end_);
  }

  void find_launching_stack() {
    thread_local uintptr_t begin = 0, end = 0;
    if (!end) {
      pthread_attr_t attributes;
      void* address;
      size_t bytes;
      pthread_getattr_np(pthread_self(), &attributes);
      pthread_attr_getstack(&attributes, &address, &bytes);
      pthread_attr_destroy(&attributes);
      begin = reinterpret_cast<uintptr_t>(address);
      end = begin + bytes;
    }
    stack_begin_ = begin;
    stack_end_ = end;
  }

  uint32_t offset_of(const void* code) const {
    return code ? static_cast<uint32_t>(reinterpret_cast<uintptr_t>(code) - module_begin_) : 0;
  }
  std::string place(const void* code) const { return call_sites({code})[0]; }
  std::string place(uint32_t offset) const {
    return place(offset ? reinterpret_cast<const void*>(module_begin_ + offset) : nullptr);
  }

  [[noreturn]] void report_out_of_bounds(uintptr_t at, size_t bytes, Access kind, const void* code,
                                         bool shared) {
    fail("%s OUT OF BOUNDS: %s of %zu bytes at %s, %s", shared ? "SHARED" : "GLOBAL",
         kind == Access::kWrite ? "write" : "read", bytes, place(code).c_str(),
         (shared ? shared_ : global_).describe(at).c_str());
  }

  void check(Region& region, size_t offset, size_t bytes, Access kind, bool shared, uint32_t code) {
    region.refine(offset, bytes);
    const Stamp now = Clocks::now(code);
    const uint32_t oldest = shared ? Clocks::block_epoch() : 1;
    for (size_t c = offset / region.granule; c < (offset + bytes) / region.granule; ++c) {
      Cell& cell = region.cells[c];
      check_order(region, offset, cell.written, now, shared,
                  kind == Access::kWrite ? "write after write" : "read after write");
      if (kind == Access::kWrite) {
        check_order(region, offset, cell.read, now, shared, "write after read");
        check_order(region, offset, cell.read_before, now, shared, "write after read");
        cell.written = now;
        cell.initialised = now.epoch;
        continue;
      }
      if (!region.initialised && cell.initialised < oldest) {
        report_uninitialised(region, c * region.granule, now);
        cell.initialised = now.epoch;
      }
      if (cell.read.thread != now.thread || cell.read.epoch < Clocks::block_epoch())
        cell.read_before = cell.read;
      cell.read = now;
    }
  }

  void check_order(const Region& region, size_t offset, const Stamp& earlier, const Stamp& now, bool shared,
                   const char* kind) {
    const Relation relation = Clocks::relation(earlier, shared);
    if (relation == Relation::kOrdered) return;
    if (!is_new(kind, region, now.code, earlier.code)) return;
    char text[512];
    snprintf(text, sizeof text,
             "RACE, %s, byte %zu of %s: thread %d at %%1 and %sthread %d at %%2, not ordered by a barrier",
             kind, offset, region.name.c_str(), now.thread,
             relation == Relation::kOtherBlock ? "another block's " : "", earlier.thread);
    findings_.push_back({text, now.code, earlier.code});
  }

  void report_uninitialised(const Region& region, size_t offset, const Stamp& now) {
    if (!is_new("uninitialised", region, now.code, 0)) return;
    char text[512];
    snprintf(text, sizeof text, "UNINITIALISED READ of byte %zu of %s by thread %d at %%1", offset,
             region.name.c_str(), now.thread);
    findings_.push_back({text, now.code, 0});
  }

  bool is_new(const char* kind, const Region& region, uint32_t code, uint32_t other) {
    if (findings_.size() >= kMaxFindings) return false;
    return seen_.insert(kind + region.name + "/" + std::to_string(code) + "/" + std::to_string(other)).second;
  }

  void throw_findings() {
    constexpr size_t kShown = 6;
    if (findings_.empty()) return;
    std::string text;
    for (size_t i = 0; i < findings_.size() && i < kShown; ++i) {
      std::string one = findings_[i].text;
      for (const auto& [sign, code] :
           {std::make_pair("%1", findings_[i].code), std::make_pair("%2", findings_[i].other_code)}) {
        if (const size_t at = one.find(sign); at != one.npos) one.replace(at, 2, place(code));
      }
      text += (i ? "\n      " : "") + one;
    }
    if (findings_.size() > kShown)
      text += "\n      and " + std::to_string(findings_.size() - kShown) + " more";
    findings_.clear();
    throw LaunchError(text);
  }

  const uintptr_t module_begin_, module_end_;
  uintptr_t stack_begin_ = 0, stack_end_ = 0;
  bool counting_ = false;
  Regions global_, shared_;
  std::vector<Finding> findings_;
  std::set<std::string> seen_;
};

ShadowTracer& installed = ShadowTracer::instance();

}  // namespace

void trace_access(const void* address, size_t bytes, Access kind, const void* code) {
  if (!on_fiber()) return;  // launchers are instrumented too, and other threads run them meanwhile
  if (on_fiber(address)) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at - reinterpret_cast<uintptr_t>(&state) < sizeof state) return;
  installed.access(address, bytes, kind, code, true);
}

}  // namespace fastconv::emulator
