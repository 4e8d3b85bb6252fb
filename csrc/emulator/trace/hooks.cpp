// hooks.cpp -- the functions that g++ -fsanitize=thread calls before every access to memory. They are ours:
// libtsan is not linked.
#include "emulator/fiber.h"
#include "emulator/trace/trace.h"

namespace {

using fastconv::emulator::Access;
using fastconv::emulator::trace_access;

/// Launchers meet atomics, in the guards of their static variables; kernels have none.
void refuse_in_kernels() {
  if (fastconv::emulator::on_fiber()) fastconv::emulator::fail("an atomic operation in a kernel");
}

}  // namespace

#define FASTCONV_HOOK(name, bytes, kind) \
  void name(void* address) { trace_access(address, bytes, Access::kind, __builtin_return_address(0)); }
#define FASTCONV_HOOKS(bytes)                                 \
  FASTCONV_HOOK(__tsan_read##bytes, bytes, kRead)             \
  FASTCONV_HOOK(__tsan_write##bytes, bytes, kWrite)           \
  FASTCONV_HOOK(__tsan_unaligned_read##bytes, bytes, kRead)   \
  FASTCONV_HOOK(__tsan_unaligned_write##bytes, bytes, kWrite) \
  FASTCONV_HOOK(__tsan_volatile_read##bytes, bytes, kRead)    \
  FASTCONV_HOOK(__tsan_volatile_write##bytes, bytes, kWrite)

#define FASTCONV_ATOMIC_HOOKS(bits, Type)                                         \
  Type __tsan_atomic##bits##_load(const volatile Type* address, int) {            \
    refuse_in_kernels();                                                          \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                            \
  }                                                                               \
  void __tsan_atomic##bits##_store(volatile Type* address, Type value, int) {     \
    refuse_in_kernels();                                                          \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                           \
  }                                                                               \
  Type __tsan_atomic##bits##_fetch_add(volatile Type* address, Type value, int) { \
    refuse_in_kernels();                                                          \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                  \
  }                                                                               \
  Type __tsan_atomic##bits##_fetch_sub(volatile Type* address, Type value, int) { \
    refuse_in_kernels();                                                          \
    return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);                  \
  }

extern "C" {
FASTCONV_HOOKS(1)
FASTCONV_HOOKS(2)
FASTCONV_HOOKS(4)
FASTCONV_HOOKS(8)
FASTCONV_HOOKS(16)
FASTCONV_ATOMIC_HOOKS(8, uint8_t)
FASTCONV_ATOMIC_HOOKS(32, uint32_t)
FASTCONV_ATOMIC_HOOKS(64, uint64_t)

void __tsan_read_range(void* address, size_t bytes) {
  trace_access(address, bytes, Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  trace_access(address, bytes, Access::kWrite, __builtin_return_address(0));
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
}
