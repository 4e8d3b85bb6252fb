// fiber.cpp -- see fiber.h.
#include "emulator/fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <new>

#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fastconv::emulator {

uint8_t* stacks;

namespace {

void* launcher_stack_pointer;
bool abandoned[kMaxThreads];  // left in the middle of its stack

uint8_t* stack_bottom(int id) { return stacks + id * kStackStride + kPageBytes; }

/// Tops of stacks at different distances from their pages, or all of them would share the sets of the cache.
size_t colour(int id) { return 64 + id * size_t{448} % kPageBytes; }

#ifdef __x86_64__

// Saves the registers that a callee must keep, changes stacks and jumps. Not `ret`: the processor would
// predict the return address of the other stack and always be wrong.
extern "C" void fastconv_emulator_switch(void** save, void* load);
asm(R"(
.text
.hidden fastconv_emulator_switch
.globl fastconv_emulator_switch
.type fastconv_emulator_switch,@function
fastconv_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size fastconv_emulator_switch,.-fastconv_emulator_switch
)");

void change_stack(void** save, void* load) { fastconv_emulator_switch(save, load); }

void* first_frame(int id, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  const uintptr_t top = reinterpret_cast<uintptr_t>(stack_bottom(id) + kStackBytes - colour(id));
  void** frame = reinterpret_cast<void**>(top & ~uintptr_t{15});
  *--frame = nullptr;  // where entry() would return to
  *--frame = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--frame = nullptr;
  return frame;
}

#else

// The portable alternative, some thirty times slower: swapcontext() asks the kernel to save the signal mask.
ucontext_t contexts[kMaxThreads], launcher_context, discarded_context;

void change_stack(void** save, void* load) {
  if (save == &launcher_stack_pointer) *save = &launcher_context;
  auto* from = *save ? static_cast<ucontext_t*>(*save) : &discarded_context;
  swapcontext(from, static_cast<ucontext_t*>(load));
}

void* first_frame(int id, void (*entry)()) {
  ucontext_t& context = contexts[id];
  getcontext(&context);
  context.uc_stack = {stack_bottom(id), 0, kStackBytes - colour(id)};
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  return &context;
}

#endif

// AddressSanitizer keeps a shadow of the stack and must hear of every change.
#ifdef __SANITIZE_ADDRESS__
void* launcher_fake_stack;
const void* launcher_bottom;
size_t launcher_bytes;

void announce(void** fake_stack, const void* bottom, size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
}
#else
void announce(void**, const void*, size_t) {}
#endif

}  // namespace

void prepare_stacks() {
  if (stacks) return;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, kMaxThreads * kStackStride, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stacks = static_cast<uint8_t*>(memory);
  for (int i = 0; i < kMaxThreads; ++i) mprotect(stacks + i * kStackStride, kPageBytes, PROT_NONE);
}

void make_fiber(Thread& thread, void (*entry)()) {
  thread.stack_pointer = first_frame(thread.id, entry);
#ifdef __SANITIZE_ADDRESS__
  // Frames that never returned have left their red zones; a finished fiber used little.
  const size_t used = abandoned[thread.id] ? kStackBytes : size_t{16} * 1024;
  __asan_unpoison_memory_region(stack_bottom(thread.id) + kStackBytes - used, used);
#endif
  abandoned[thread.id] = false;
}

void arrive_on_fiber() {
#ifdef __SANITIZE_ADDRESS__
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (!launcher_bottom) launcher_bottom = bottom, launcher_bytes = bytes;
#endif
}

void switch_to(Thread* from, Thread* to, bool leaving) {
  state.counts.switches++;
  state.current = to;
#ifdef __SANITIZE_ADDRESS__
  if (!from) launcher_bottom = nullptr;  // the fiber that arrives next finds out whose stack it left
  void** fake_stack = leaving ? nullptr : from ? &from->fake_stack : &launcher_fake_stack;
#else
  void** fake_stack = nullptr;
#endif
  announce(fake_stack, stack_bottom(to->id), kStackBytes);
  void* never = nullptr;
  change_stack(leaving ? &never : from ? &from->stack_pointer : &launcher_stack_pointer, to->stack_pointer);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from ? from->fake_stack : launcher_fake_stack, nullptr, nullptr);
#endif
}

void switch_to_launcher(bool leaving) {
#ifdef __SANITIZE_ADDRESS__
  announce(leaving ? nullptr : &state.current->fake_stack, launcher_bottom, launcher_bytes);
#else
  announce(nullptr, nullptr, 0);
  static_cast<void>(leaving);
#endif
  void* never = nullptr;
  change_stack(&never, launcher_stack_pointer);
  __builtin_unreachable();
}

void abandon_fibers() { std::fill(std::begin(abandoned), std::end(abandoned), true); }

}  // namespace fastconv::emulator
