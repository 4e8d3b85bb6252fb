// shared_memory.cpp -- see shared_memory.h.
#include "emulator/shared_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "emulator/tracer.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace fastconv::emulator {

uint8_t* arena;

namespace {

constexpr int kMaxObjects = 64;
constexpr uint32_t kAlignment = 16;  // of guard zones
constexpr uint8_t kGuard = 0xA5, kNan = 0xFF;

struct Object {
  const void* tag;
  uint32_t begin, bytes;
  const char* name;
  uint32_t end() const { return begin + bytes; }
};
Object objects[kMaxObjects];  // the first is dynamic shared memory, without a tag
int object_count;
uint32_t top;

uint32_t rounded_up(uint32_t offset, uint32_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

void guard(uint32_t begin) {
  memset(arena + begin, kGuard, kGuardBytes);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(arena + begin, kGuardBytes);
#endif
}

void check_guard(uint32_t begin, const char* where, const char* name) {
#ifdef __SANITIZE_ADDRESS__
  static_cast<void>(begin), static_cast<void>(where),
      static_cast<void>(name);  // it would have ended the process
#else
  for (uint32_t i = 0; i < kGuardBytes; ++i) {
    if (arena[begin + i] != kGuard)
      fail("SHARED OUT OF BOUNDS: byte %u %s %s was overwritten", i, where, name);
  }
#endif
}

void* add_object(const void* tag, size_t bytes, size_t alignment, const char* name) {
  const uint32_t begin = rounded_up(top, static_cast<uint32_t>(alignment));
  if (object_count == kMaxObjects || bytes > kArenaBytes ||
      begin + bytes + kAlignment + kGuardBytes > kArenaBytes) {
    fail("%s: %zu bytes of shared memory are too many", name, bytes);
  }
  objects[object_count++] = {tag, begin, static_cast<uint32_t>(bytes), name};
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(arena + begin, bytes);
#endif
  memset(arena + begin, kNan, bytes);
  const uint32_t end = rounded_up(begin + static_cast<uint32_t>(bytes), kAlignment);
  guard(end);
  top = end + kGuardBytes;
  if (tracer) tracer->shared_object(arena + begin, bytes, name);
  return arena + begin;
}

}  // namespace

void begin_shared(size_t dynamic_bytes) {
  if (!arena) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 65536, kArenaBytes) != 0) throw std::bad_alloc();
    arena = static_cast<uint8_t*>(memory);
  }
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(arena, kArenaBytes);
#endif
  object_count = 0;
  top = kDynamicBegin;
  guard(kDynamicBegin - kGuardBytes);
  if (dynamic_bytes) {
    add_object(nullptr, dynamic_bytes, 1, "dynamic shared memory");
  } else {
    guard(top);
    top += kGuardBytes;
  }
}

void end_shared() {
  check_guard(kDynamicBegin - kGuardBytes, "of the guard before", "all objects");
  uint32_t used = 0;
  for (int i = 0; i < object_count; ++i) {
    check_guard(rounded_up(objects[i].end(), kAlignment), "past the end of", objects[i].name);
    used += objects[i].bytes;
  }
  if (used > options.max_shared_bytes) {
    fail("%u bytes of shared memory, expected at most %u", used, options.max_shared_bytes);
  }
  if (used > state.counts.shared_bytes) state.counts.shared_bytes = used;
}

void* static_shared(const void* tag, size_t bytes, size_t alignment, const char* name) {
  for (int i = 0; i < object_count; ++i) {
    if (objects[i].tag == tag) return arena + objects[i].begin;
  }
  return add_object(tag, bytes, alignment, name);
}

void* dynamic_shared() {
  if (object_count == 0 || objects[0].tag)
    fail("dynamic shared memory is used, but the launch asks for 0 bytes");
  return arena + kDynamicBegin;
}

uint32_t shared_address_of(const void* p) {
  const size_t offset = static_cast<const uint8_t*>(p) - arena;
  if (offset >= kArenaBytes) fail("an address that is not in shared memory is used as one that is");
  return static_cast<uint32_t>(offset);
}

void check_shared(uint32_t address, uint32_t bytes, uint32_t alignment, const char* instruction) {
  if (address % alignment)
    fail("%s: MISALIGNED shared address %u for %u bytes", instruction, address, alignment);
  for (int i = 0; i < object_count; ++i) {
    if (address >= objects[i].begin && address + bytes <= objects[i].end()) return;
  }
  fail("%s: SHARED OUT OF BOUNDS, bytes %u to %u", instruction, address, address + bytes);
}

}  // namespace fastconv::emulator
