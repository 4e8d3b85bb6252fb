// cuda_emu.cpp - runtime of the emulation: fibers, scheduler, barriers, warp collectives, tensor-core and async-copy semantics.
// Compiled WITHOUT the tracer's instrumentation (but with ASan in the ASan build).
#include "emulator.h"
#include <pthread.h>
#include <sys/mman.h>
#include <cstdarg>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <vector>
#if EMU_SWITCH == 1
#include <boost/context/detail/fcontext.hpp>
#elif EMU_SWITCH == 2
#include <ucontext.h>
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emu {
Options options;
State G;
uint8_t* arena;

// ---- fibers ------------------------------------------------------------------------------------------------------
// Save callee-saved registers, swap stacks, jump (not ret: a ret would always be mispredicted).
// EMU_SWITCH 1 (Boost.Context) and 2 (ucontext) exist for comparison and for other processors.
static void fiber_main();
#if EMU_SWITCH == 1
namespace bc = boost::context::detail;
static void emu_switch(void** save, void* load) { bc::transfer_t r = bc::jump_fcontext(load, save); *(void**)r.data = r.fctx; }
static void bc_entry(bc::transfer_t t) { *(void**)t.data = t.fctx; fiber_main(); }
static void* make_fiber(int, uint8_t* top, size_t size) { return bc::make_fcontext(top, size, bc_entry); }
#elif EMU_SWITCH == 2
static ucontext_t uctx[1024], uc_main, uc_trash;
static void emu_switch(void** save, void* load) { if (!*save) *save = &uc_trash; swapcontext((ucontext_t*)*save, (ucontext_t*)load); }
static void* make_fiber(int id, uint8_t* top, size_t size) { ucontext_t& u = uctx[id]; getcontext(&u); u.uc_stack = {top - size, 0, size}; u.uc_link = nullptr; makecontext(&u, fiber_main, 0); return &u; }
#else
extern "C" void emu_switch(void** save, void* load);
static void* make_fiber(int, uint8_t* top, size_t) {
  void** s = (void**)(uintptr_t(top) & ~uintptr_t(15)); *--s = nullptr; *--s = (void*)fiber_main; for (int k = 0; k < 6; k++) *--s = nullptr;
  return s;
}
asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
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
.size emu_switch,.-emu_switch
)");
#endif

#ifdef EMU_ASAN
static const size_t STACK = 252 * 1024;
#else
static const size_t STACK = 64 * 1024;
#endif
static const size_t STRIDE = STACK + 4096;     // one guard page each; 17 pages, so that tops spread over the cache sets
uint8_t* stacks; size_t stacks_size;
static void* main_sp;
#ifdef EMU_ASAN
static void* main_fake; static const void* main_bottom; static size_t main_size;
#endif
static bool abandoned;                         // a failure left fibers in the middle of their stacks
static void (*g_fn)(void*); static void* g_arg; static const char* g_name;
static std::string g_error;

static void after_switch(Thread* self) {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(self ? self->fake_stack : main_fake, nullptr, nullptr);
#else
  (void)self;
#endif
}
static void to_fiber(Thread* from, Thread* to, bool dying = false) {
  G.stats.switches++;
  G.cur = to;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(dying ? nullptr : from ? &from->fake_stack : &main_fake, stacks + size_t(to->id) * STRIDE + 4096, STACK);
#else
  (void)dying;
#endif
  emu_switch(from ? &from->sp : &main_sp, to->sp);
  after_switch(from);
}
[[noreturn]] static void to_main(bool dying) {
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(dying ? nullptr : &G.cur->fake_stack, main_bottom, main_size);
#else
  (void)dying;
#endif
  void* dummy = nullptr; emu_switch(&dummy, main_sp); __builtin_unreachable();
}

void fail(const char* fmt, ...) {
  char buf[4096]; int n = 0;
  if (G.running && G.cur)
    n = snprintf(buf, sizeof buf, "%s block(%u,%u,%u) thread(%u,%u,%u): ", g_name, G.block_idx.x, G.block_idx.y, G.block_idx.z, G.cur->tid.x, G.cur->tid.y, G.cur->tid.z);
  va_list ap; va_start(ap, fmt); vsnprintf(buf + n, sizeof buf - n, fmt, ap); va_end(ap);
  if (!G.running || !G.cur) throw Error(buf);
  g_error = buf; abandoned = true; to_main(false);
}

// ---- ready queue -------------------------------------------------------------------------------------------------
static int rq[2048]; static unsigned rh, rn; static uint32_t rng;
static uint32_t rnd() { rng ^= rng << 13; rng ^= rng >> 17; rng ^= rng << 5; return rng; }
static void push_front(int t) { rh = (rh - 1) & 2047; rq[rh] = t; rn++; }
static void push_back(int t) { rq[(rh + rn++) & 2047] = t; }
static int pop() {
  if (options.order == Order::Random && rn > 1) { unsigned k = rnd() % rn; std::swap(rq[rh], rq[(rh + k) & 2047]); }
  int t = rq[rh]; rh = (rh + 1) & 2047; rn--; return t;
}
static void release(const int* ids, int n) {
  for (int i = 0; i < n; i++) G.threads[ids[i]].wait = 0;
  switch (options.order) {
    case Order::Forward: for (int i = n - 1; i >= 0; i--) push_front(ids[i]); break;
    case Order::Reverse: for (int i = 0; i < n; i++) push_front(ids[i]); break;
    default: for (int i = 0; i < n; i++) push_back(ids[i]);
  }
}
static bool async_step();
static int done_count;
static const char* wait_name[] = {"ready", "barrier", "warp op", "warpgroup op", "mbarrier", "done"};
static const char* op_name[] = {"", "__syncwarp", "shfl", "vote", "match", "redux", "ldmatrix", "mma", "stmatrix", "wgmma", "wgmma.wait"};

static void report_deadlock() {
  struct Key { int wait, op; const char* f; int l; uint32_t mask; bool operator<(const Key& o) const { return std::tie(wait, op, l, mask) < std::tie(o.wait, o.op, o.l, o.mask); } };
  std::map<Key, std::vector<int>> groups; int done = 0;
  for (int i = 0; i < G.nthreads; i++) { Thread& t = G.threads[i]; if (t.wait == 9) done++; else groups[{t.wait, t.op, t.file, t.line, t.mask}].push_back(i); }
  std::string s = "DEADLOCK: no thread can run. ";
  char b[512]; snprintf(b, sizeof b, "%d of %d threads have exited;", done, G.nthreads); s += b;
  for (auto& [k, v] : groups) {
    snprintf(b, sizeof b, " %zu thread(s) [first %d, last %d] wait at %s %s (%s:%d);", v.size(), v.front(), v.back(), wait_name[k.wait], k.wait == 2 || k.wait == 3 ? op_name[k.op] : "", k.f, k.l); s += b;
  }
  fail("%s", s.c_str());
}
static void next(Thread* self, bool dying = false) {       // run something else
  for (;;) {
    if (rn) { Thread* t = &G.threads[pop()]; if (t != self) to_fiber(self, t, dying); return; }
    if (async_step()) continue;
    if (done_count == G.nthreads) to_main(dying);
    report_deadlock();
  }
}
static void block_self(int wait, int op, uint32_t mask, void* arg, const char* f, int l) {
  Thread* t = G.cur; t->wait = wait; t->op = op; t->mask = mask; t->arg = arg; t->file = f; t->line = l;
}

// ---- barriers and collectives ------------------------------------------------------------------------------------
struct Bar { int arrived, count; const char* f; int l; };
static Bar bars[16];
static uint32_t posted[32]; static int wg_posted[8];

void block_barrier(int id, int count, const char* f, int l) {
  Thread* self = G.cur; Bar& b = bars[id]; if (count < 0) count = G.nthreads;
  if (b.arrived == 0) { b.count = count; b.f = f; b.l = l; }
  else if (b.l != l || b.f != f) fail("DIVERGENT BARRIER: this thread is at %s:%d while another waits at %s:%d", f, l, b.f, b.l);
  if (b.count != count) fail("barrier %d used with counts %d and %d", id, b.count, count);
  block_self(1, id, 0, nullptr, f, l);
  if (++b.arrived == b.count) {
    int ids[1024], n = 0; for (int i = 0; i < G.nthreads; i++) if (G.threads[i].wait == 1 && G.threads[i].op == id) ids[n++] = i;
    b.arrived = 0; G.stats.barriers++;
    if (n == G.nthreads) { if (trace_block_barrier) trace_block_barrier(); } else if (trace_join) trace_join(ids, n);
    release(ids, n);
  }
  next(self);
}
void warp_collective(int op, uint32_t mask, void* arg, CollectiveFn fn, const char* f, int l) {
  Thread* self = G.cur; int w = self->warp, base = w * 32;
  if (!(mask >> self->lane & 1)) fail("%s: the calling lane %d is not in its own mask %08x (%s:%d)", op_name[op], self->lane, mask, f, l);
  block_self(2, op, mask, arg, f, l);
  posted[w] |= 1u << self->lane;
  if ((posted[w] & mask) == mask) {
    void* args[32]; int ids[32], n = 0;
    for (int i = 0; i < 32; i++) if (mask >> i & 1) {
      Thread& t = G.threads[base + i];
      if (base + i >= G.nthreads) fail("%s with mask %08x, but the warp has only %d lanes (%s:%d)", op_name[op], mask, G.nthreads - base, f, l);
      if (t.op != op || t.mask != mask) fail("DIVERGENT WARP: lane %d is in %s mask %08x (%s:%d), lane %d in %s mask %08x (%s:%d)", self->lane, op_name[op], mask, f, l, i, op_name[t.op], t.mask, t.file, t.line);
      if (t.line != l) fail("DIVERGENT WARP: lane %d at %s:%d, lane %d at %s:%d (both %s)", self->lane, f, l, i, t.file, t.line, op_name[op]);
      args[i] = t.arg; ids[n++] = base + i;
    } else args[i] = nullptr;
    posted[w] &= ~mask; G.stats.warp_ops++;
    if (fn) fn(args, mask);
    if (op == OP_SYNCWARP && trace_join) trace_join(ids, n);
    release(ids, n);
  }
  next(self);
}
void warpgroup_collective(int op, void* arg, void (*fn)(void* const*), const char* f, int l) {
  Thread* self = G.cur; int g = self->id / 128, base = g * 128;
  if (base + 128 > G.nthreads) fail("%s: this warpgroup is not full (%s:%d)", op_name[op], f, l);
  block_self(3, op, 0, arg, f, l);
  if (++wg_posted[g] == 128) {
    void* args[128]; int ids[128];
    for (int i = 0; i < 128; i++) { Thread& t = G.threads[base + i]; if (t.op != op || t.line != l) fail("DIVERGENT WARPGROUP at %s:%d / %s:%d", f, l, t.file, t.line); args[i] = t.arg; ids[i] = base + i; }
    wg_posted[g] = 0; fn(args); release(ids, 128);
  }
  next(self);
}
void shfl_exchange_impl(void* const* args, uint32_t mask) {
  for (int i = 0; i < 32; i++) if (mask >> i & 1) {
    ShflArg* a = (ShflArg*)args[i];
    if (!(mask >> (a->src & 31) & 1)) { a->out[0] = a->out[1] = 0xffffffffu; continue; }  // undefined on the GPU: poison
    ShflArg* s = (ShflArg*)args[a->src & 31]; a->out[0] = s->in[0]; a->out[1] = s->in[1];
  }
}
void shfl_exchange(void* const* args, uint32_t mask) { shfl_exchange_impl(args, mask); }
uint32_t ballot(uint32_t mask, int pred, const char* f, int l) {
  VoteArg a{uint32_t(pred != 0), 0};
  warp_collective(OP_VOTE, mask, &a, [](void* const* args, uint32_t m) {
    uint32_t r = 0; for (int i = 0; i < 32; i++) if (m >> i & 1) r |= ((VoteArg*)args[i])->pred << i;
    for (int i = 0; i < 32; i++) if (m >> i & 1) ((VoteArg*)args[i])->out = r;
  }, f, l);
  return a.out;
}

// ---- shared memory: [DYN_BASE, +dyn) dynamic, then static objects, each followed by a guard zone -------------------
struct Obj { const void* tag; uint32_t off, size; const char* name; };
static Obj objs[32]; static int nobjs; static uint32_t dyn_size, arena_top;
static void guard(uint32_t off, uint32_t n) {
  memset(arena + off, 0xA5, n);
#ifdef EMU_ASAN
  __asan_poison_memory_region(arena + off, n);
#endif
}
static void unguard(uint32_t off, uint32_t n) {
#ifdef EMU_ASAN
  __asan_unpoison_memory_region(arena + off, n);
#endif
  memset(arena + off, 0xFF, n);                                 // NaN poison
}
static void check_guard(uint32_t off, uint32_t n, const char* after) {
#ifdef EMU_ASAN
  (void)off; (void)n; (void)after;
#else
  for (uint32_t i = 0; i < n; i++) if (arena[off + i] != 0xA5) fail("SHARED OUT OF BOUNDS: byte %u past the end of %s was overwritten", i, after);
#endif
}
static void shared_begin(size_t dyn) {
#ifdef EMU_ASAN
  __asan_unpoison_memory_region(arena, ARENA_SIZE);
#endif
  dyn_size = uint32_t(dyn); nobjs = 0;
  guard(DYN_BASE - GUARD, GUARD);
  if (dyn) unguard(DYN_BASE, dyn_size);
  arena_top = (DYN_BASE + dyn_size + 15) & ~15u;
  if (arena_top + GUARD > ARENA_SIZE) fail("launch: %zu bytes of dynamic shared memory", dyn);
  guard(arena_top, GUARD);
  arena_top += GUARD;
  if (dyn && trace_shared_object) trace_shared_object(arena + DYN_BASE, dyn_size, "dynamic shared memory");
}
static void shared_end() {
  check_guard(DYN_BASE - GUARD, GUARD, "(before) dynamic shared memory");
  check_guard((DYN_BASE + dyn_size + 15) & ~15u, GUARD, "dynamic shared memory");
  uint32_t used = dyn_size;
  for (int i = 0; i < nobjs; i++) { check_guard((objs[i].off + objs[i].size + 15) & ~15u, GUARD, objs[i].name); used += objs[i].size; }
  if (int(used) > options.max_smem) fail("shared memory: %u bytes used, limit %d", used, options.max_smem);
  G.stats.smem_bytes = used;
}
void* shared_static(const void* tag, size_t bytes, size_t align, const char* name) {
  for (int i = 0; i < nobjs; i++) if (objs[i].tag == tag) return arena + objs[i].off;
  uint32_t off = uint32_t((arena_top + align - 1) & ~(align - 1)), end = uint32_t((off + bytes + 15) & ~15u);
  if (nobjs == 32 || end + GUARD > ARENA_SIZE) fail("static shared memory: too much (%s)", name);
  unguard(off, uint32_t(bytes)); guard(end, GUARD); arena_top = end + GUARD;
  objs[nobjs++] = {tag, off, uint32_t(bytes), name};
  if (trace_shared_object) trace_shared_object(arena + off, bytes, name);
  return arena + off;
}
void* shared_dynamic() { if (!dyn_size) fail("dynamic shared memory used, but launched with 0 bytes"); return arena + DYN_BASE; }
uint32_t shared_addr(const void* p) {
  size_t o = size_t((const uint8_t*)p - arena);
  if (o >= ARENA_SIZE) fail("address is not in shared memory");
  return uint32_t(o);
}
static void check_shared(uint32_t a, uint32_t n, uint32_t align, const char* what) {
  if (a % align) fail("%s: shared address %u is not %u-byte aligned", what, a, align);
  if (a >= DYN_BASE && a + n <= DYN_BASE + dyn_size) return;
  for (int i = 0; i < nobjs; i++) if (a >= objs[i].off && a + n <= objs[i].off + objs[i].size) return;
  fail("%s: SHARED OUT OF BOUNDS [%u, %u)", what, a, a + n);
}
static void trace_as(int thread, const void* p, size_t n, int kind, const void* pc) {
  if (!trace_access) return;
  Thread* c = G.cur; G.cur = &G.threads[thread]; trace_access(p, n, kind, pc); G.cur = c;
}

// ---- tensor cores: products exact, sum in double, one rounding at the end ------------------------------------------
static inline float h2f(uint16_t h) {
  uint32_t t = uint32_t(h & 0x7fff) << 13, s = uint32_t(h & 0x8000) << 16; float f; memcpy(&f, &t, 4); f *= 0x1p112f; memcpy(&t, &f, 4);
  if ((h & 0x7c00) == 0x7c00) t |= 0x7f800000u;
  t |= s; memcpy(&f, &t, 4); return f;
}
static inline float b2f(uint16_t h) { uint32_t t = uint32_t(h) << 16; float f; memcpy(&f, &t, 4); return f; }
static inline float t2f(uint32_t u) { u &= 0xffffe000u; float f; memcpy(&f, &u, 4); return f; }   // tf32: the hardware ignores 13 bits
static inline float cvt16(MmaType t, uint16_t h) { return t == MMA_F16 ? h2f(h) : b2f(h); }

struct LdmArg { uint32_t* r; uint32_t addr; int n; bool trans; const void* pc; };
void ldmatrix(uint32_t* r, int n, bool trans, uint32_t addr, const char* f, int l) {
  LdmArg a{r, addr, n, trans, __builtin_return_address(0)};
  warp_collective(OP_LDMATRIX, 0xffffffffu, &a, [](void* const* args, uint32_t) {
    LdmArg* a0 = (LdmArg*)args[0]; int base = G.cur->warp * 32; G.stats.ldmatrix++;
    for (int j = 0; j < a0->n; j++) {
      uint16_t m[8][8]; const void* rows[8];
      for (int i = 0; i < 8; i++) {
        uint32_t ra = ((LdmArg*)args[j * 8 + i])->addr; check_shared(ra, 16, 16, "ldmatrix"); rows[i] = arena + ra;
        trace_as(base + j * 8 + i, rows[i], 16, AK_READ | AK_QUIET, a0->pc); memcpy(m[i], rows[i], 16);
      }
      if (trace_matrix_request) trace_matrix_request(rows, 8, a0->pc);
      for (int q = 0; q < 32; q++) {
        int row = q / 4, c = q % 4 * 2; uint32_t lo = a0->trans ? m[c][row] : m[row][c], hi = a0->trans ? m[c + 1][row] : m[row][c + 1];
        ((LdmArg*)args[q])->r[j] = lo | hi << 16;
      }
    }
  }, f, l);
}
struct MmaArg { MmaType t; float* d; const uint32_t *a, *b; const float* c; };
static void mma_exec(void* const* args, uint32_t) {
  MmaType ty = ((MmaArg*)args[0])->t; const int K = ty == MMA_TF32 ? 8 : 16; G.stats.mma++;
  float A[16][16], B[16][8]; double C[16][8];
  for (int q = 0; q < 32; q++) {
    const MmaArg& m = *(MmaArg*)args[q]; int g = q / 4, t = q % 4;
    if (ty == MMA_TF32) {
      A[g][t] = t2f(m.a[0]); A[g + 8][t] = t2f(m.a[1]); A[g][t + 4] = t2f(m.a[2]); A[g + 8][t + 4] = t2f(m.a[3]);
      B[t][g] = t2f(m.b[0]); B[t + 4][g] = t2f(m.b[1]);
    } else {
      for (int r = 0; r < 4; r++) for (int h = 0; h < 2; h++) A[g + (r & 1) * 8][t * 2 + h + (r >> 1) * 8] = cvt16(ty, uint16_t(m.a[r] >> (16 * h)));
      for (int r = 0; r < 2; r++) for (int h = 0; h < 2; h++) B[t * 2 + h + r * 8][g] = cvt16(ty, uint16_t(m.b[r] >> (16 * h)));
    }
    for (int i = 0; i < 4; i++) C[g + (i >> 1) * 8][t * 2 + (i & 1)] = m.c[i];
  }
  for (int i = 0; i < 16; i++) {
    double acc[8]; for (int j = 0; j < 8; j++) acc[j] = C[i][j];
    for (int k = 0; k < K; k++) { double a = A[i][k]; for (int j = 0; j < 8; j++) acc[j] += a * double(B[k][j]); }
    for (int j = 0; j < 8; j++) C[i][j] = acc[j];
  }
  for (int q = 0; q < 32; q++) { const MmaArg& m = *(MmaArg*)args[q]; int g = q / 4, t = q % 4; for (int i = 0; i < 4; i++) m.d[i] = float(C[g + (i >> 1) * 8][t * 2 + (i & 1)]); }
}
void mma(MmaType t, float* d, const uint32_t* a, const uint32_t* b, const float* c, const char* f, int l) {
  MmaArg m{t, d, a, b, c}; warp_collective(OP_MMA, 0xffffffffu, &m, mma_exec, f, l);
}

// ---- cp.async ------------------------------------------------------------------------------------------------------
struct Copy { uint32_t dst; const void* src; int bytes, src_bytes; };
struct CpQueue { std::vector<Copy> copies; std::vector<size_t> ends; size_t done = 0, group = 0; };
static CpQueue cpq[1024];
static void copy_now(const Copy& c) {
  if (c.src_bytes) memcpy(arena + c.dst, c.src, c.src_bytes);
  if (c.src_bytes < c.bytes) memset(arena + c.dst + c.src_bytes, 0, c.bytes - c.src_bytes);
  if (trace_access) trace_access(arena + c.dst, c.bytes, AK_WRITE | AK_QUIET, nullptr);
}
void cp_async(uint32_t dst, const void* src, int bytes, int src_bytes) {
  const void* pc = __builtin_return_address(0);
  check_shared(dst, bytes, bytes, "cp.async");
  if (src_bytes && uintptr_t(src) % bytes) fail("cp.async: MISALIGNED source %p for %d bytes", src, bytes);
  G.stats.cp_async++; G.stats.cp_async_bytes += src_bytes;
  if (trace_access) { if (src_bytes) trace_access(src, src_bytes, AK_READ, pc); trace_access(arena + dst, bytes, AK_WRITE, (const char*)pc + 1); trace_access(arena + dst, bytes, 8 /*invalidate*/, pc); }
  Copy c{dst, src, bytes, src_bytes};
  if (options.async == Async::Early) { copy_now(c); return; }
  memset(arena + dst, 0xFF, bytes);                             // whoever reads before the wait gets NaN
  cpq[G.cur->id].copies.push_back(c);
}
void cp_async_commit() { CpQueue& q = cpq[G.cur->id]; if (options.async == Async::Late) q.ends.push_back(q.copies.size()); }
void cp_async_wait(int n) {                                     // n < 0: wait_all
  CpQueue& q = cpq[G.cur->id];
  if (n < 0) { cp_async_commit(); n = 0; }
  while (q.ends.size() - q.group > size_t(n)) { for (; q.done < q.ends[q.group]; q.done++) copy_now(q.copies[q.done]); q.group++; }
  if (q.group == q.ends.size() && q.done == q.copies.size()) { q.copies.clear(); q.ends.clear(); q.done = q.group = 0; }
}

// ---- mbarrier, TMA ---------------------------------------------------------------------------------------------------
struct Mbar { int expected, pending; int64_t tx; uint32_t phase; };
static std::map<uint32_t, Mbar> mbars;
static void mbar_check(uint32_t bar, Mbar& b) {
  if (b.pending != 0 || b.tx != 0) return;
  b.phase ^= 1; b.pending = b.expected;
  if (trace_release) trace_release(bar, true);
  int ids[1024], n = 0;
  for (int i = 0; i < G.nthreads; i++) { Thread& t = G.threads[i]; if (t.wait == 4 && t.mbar == bar && b.phase != t.parity) ids[n++] = i; }
  release(ids, n);
}
static Mbar& mbar_get(uint32_t bar, const char* what) { auto it = mbars.find(bar); if (it == mbars.end()) fail("%s: no mbarrier was initialised at shared address %u", what, bar); return it->second; }
void mbar_init(uint32_t bar, int count) { check_shared(bar, 8, 8, "mbarrier.init"); mbars[bar] = {count, count, 0, 0}; }
void mbar_arrive(uint32_t bar, int tx) {
  Mbar& b = mbar_get(bar, "mbarrier.arrive"); if (b.pending == 0) fail("mbarrier: more arrivals than the %d expected", b.expected);
  b.tx += tx; b.pending--; if (trace_release) trace_release(bar, false); mbar_check(bar, b);
  if (options.order == Order::Random && rnd() % 4 == 0) { Thread* self = G.cur; push_back(self->id); next(self); }   // let others overtake here
}
void mbar_wait(uint32_t bar, uint32_t parity, const char* f, int l) {   // test_wait.parity: true once the phase with this parity is over
  Mbar& b = mbar_get(bar, "mbarrier.wait"); Thread* self = G.cur;
  if (b.phase == parity) { block_self(4, 0, 0, nullptr, f, l); self->mbar = bar; self->parity = parity; next(self); }
  if (trace_acquire) trace_acquire(bar);
}
struct AsyncOp { uint32_t dst, bar; TensorMap map; int coord[5], off[3]; int issuer; };   // a copy: the kernel parameter lives on the issuer's stack
static std::deque<AsyncOp> async_q;
static uint32_t swz(int mode, uint32_t a) { return mode == 3 ? a ^ ((a >> 3) & 0x70) : mode == 2 ? a ^ ((a >> 3) & 0x30) : mode == 1 ? a ^ ((a >> 3) & 0x10) : a; }
static void tma_put(const AsyncOp& o, uint32_t byte, const uint8_t* src, uint32_t n) {       // n <= 16, inside one 16-byte chunk
  uint32_t a = swz(o.map.swizzle, o.dst + byte);
  if (src) memcpy(arena + a, src, n); else memset(arena + a, 0, n);
}
static uint32_t tma_bytes(const TensorMap& m) { if (m.im2col) return uint32_t(m.channels) * m.pixels * m.elem; uint32_t b = m.elem; for (int i = 0; i < m.rank; i++) b *= m.box[i]; return b; }
static void tma_exec(const AsyncOp& o) {
  const TensorMap& m = o.map; uint32_t total = tma_bytes(m), pos = 0;
  auto row = [&](const int* c, int nelem) {       // nelem elements along dim 0 from coordinate c
    bool in = true; uint64_t off = 0; for (int d = 1; d < m.rank; d++) { in = in && c[d] >= 0 && uint32_t(c[d]) < m.dim[d]; off += uint64_t(int64_t(c[d]) * int64_t(m.stride[d - 1])); }
    int chunk = 16 / m.elem;
    for (int e = 0; e < nelem; e += chunk) for (int i = 0; i < chunk && e + i < nelem; i++) {
      int x = c[0] + e + i; bool ok = in && x >= 0 && uint32_t(x) < m.dim[0]; const uint8_t* s = ok ? (const uint8_t*)m.base + off + size_t(x) * m.elem : nullptr;
      if (ok) trace_as(o.issuer, s, m.elem, AK_READ | AK_QUIET, nullptr);
      tma_put(o, pos, s, m.elem); pos += m.elem;
    }
  };
  if (m.im2col) {                                  // walk `pixels` base positions through the bounding box (W fastest, then H, then N)
    int nsp = m.rank - 2, c[5]; memcpy(c, o.coord, sizeof c); int lo[3], hi[3];
    for (int s = 0; s < nsp; s++) { lo[s] = m.lower[s]; hi[s] = int(m.dim[s + 1]) - 1 + m.upper[s]; }
    for (int p = 0; p < m.pixels; p++) {
      int e[5]; memcpy(e, c, sizeof e); for (int s = 0; s < nsp; s++) e[s + 1] += o.off[s];
      row(e, m.channels);
      int s = 0; for (; s < nsp; s++) { c[s + 1] += m.estride[s + 1]; if (c[s + 1] <= hi[s]) break; c[s + 1] = lo[s]; }
      if (s == nsp) c[m.rank - 1]++;
    }
  } else {
    int idx[5] = {0}; int rows = 1; for (int d = 1; d < m.rank; d++) rows *= m.box[d];
    for (int r = 0; r < rows; r++) {
      int c[5]; for (int d = 0; d < m.rank; d++) c[d] = o.coord[d] + idx[d]; row(c, m.box[0]);
      for (int d = 1; d < m.rank; d++) { if (++idx[d] < m.box[d]) break; idx[d] = 0; }
    }
  }
  trace_as(o.issuer, arena + o.dst, total, AK_WRITE | AK_QUIET, nullptr);
  if (trace_release) { Thread* c = G.cur; G.cur = &G.threads[o.issuer]; trace_release(o.bar, false); G.cur = c; }
  Mbar& b = mbar_get(o.bar, "TMA complete_tx"); b.tx -= total; mbar_check(o.bar, b);
}
static bool async_step() {
  if (async_q.empty()) return false;
  size_t k = options.order == Order::Random ? rnd() % async_q.size() : options.order == Order::Reverse ? async_q.size() - 1 : 0;
  AsyncOp o = async_q[k]; async_q.erase(async_q.begin() + k);
  Thread* c = G.cur; tma_exec(o); G.cur = c; return true;
}
static void tma_issue(uint32_t dst, const void* map, uint32_t bar, int rank, const int* coord, const int* off, bool im2col) {
  const TensorMap* m = (const TensorMap*)map;
  if (m->rank != rank || bool(m->im2col) != im2col) fail("TMA: instruction and tensor map disagree on rank or mode");
  check_shared(dst, tma_bytes(*m), m->swizzle == 3 ? 1024 : m->swizzle == 2 ? 512 : m->swizzle == 1 ? 256 : 128, "TMA destination");
  AsyncOp o{}; o.dst = dst; o.bar = bar; o.map = *m; o.issuer = G.cur->id; memcpy(o.coord, coord, rank * sizeof(int)); if (off) memcpy(o.off, off, (rank - 2) * sizeof(int));
  if (im2col) for (int i = 0; i < rank - 2; i++) {              // the rules of the PTX manual for base and offsets
    int lo = m->lower[i], hi = int(m->dim[i + 1]) - 1 + m->upper[i], lim = rank == 4 ? 255 : rank == 5 ? 31 : 65535;
    if (coord[i + 1] < lo || coord[i + 1] > hi) fail("TMA im2col: base coordinate %d = %d is outside the bounding box [%d, %d]", i + 1, coord[i + 1], lo, hi);
    if (off[i] < 0 || off[i] > lim) fail("TMA im2col: offset %d", off[i]);
  }
  mbar_get(bar, "TMA"); G.stats.tma_bytes += tma_bytes(*m);
  if (options.async == Async::Early) { tma_exec(o); return; }
  if (trace_access) trace_access(arena + dst, tma_bytes(*m), 8, nullptr);
  memset(arena + dst, 0xFF, tma_bytes(*m)); async_q.push_back(o);
}
void tma_load_tiled(uint32_t dst, const void* map, uint32_t bar, int rank, const int* c) { tma_issue(dst, map, bar, rank, c, nullptr, false); }
void tma_load_im2col(uint32_t dst, const void* map, uint32_t bar, int rank, const int* c, const int* off) { tma_issue(dst, map, bar, rank, c, off, true); }
static TensorMap& encode_common(void* map, int elem, int rank, const void* base, const uint64_t* dims, const uint64_t* strides, int swizzle) {
  if (uintptr_t(map) % 64) fail("tensor map must be 64-byte aligned");
  if (uintptr_t(base) % 16) fail("tensor map: global address must be 16-byte aligned");
  TensorMap& m = *(TensorMap*)map; m = {}; m.base = uint64_t(base); m.rank = uint8_t(rank); m.elem = uint8_t(elem); m.swizzle = uint8_t(swizzle);
  for (int d = 0; d < rank; d++) m.dim[d] = uint32_t(dims[d]);
  for (int d = 0; d + 1 < rank; d++) { if (strides[d] % 16) fail("tensor map: stride %d is %llu bytes, not a multiple of 16", d, (unsigned long long)strides[d]); m.stride[d] = strides[d]; }
  return m;
}
static void check_inner(int bytes, int swizzle) {
  static const int span[] = {1 << 30, 32, 64, 128};
  if (bytes % 16) fail("tensor map: inner box is %d bytes, not a multiple of 16", bytes);
  if (bytes > span[swizzle]) fail("tensor map: inner box of %d bytes exceeds the swizzle span %d", bytes, span[swizzle]);
}
void encode_tiled(void* map, int elem, int rank, const void* base, const uint64_t* dims, const uint64_t* strides, const uint32_t* box, int swizzle) {
  TensorMap& m = encode_common(map, elem, rank, base, dims, strides, swizzle);
  for (int d = 0; d < rank; d++) { if (box[d] < 1 || box[d] > 256) fail("tensor map: box[%d] = %u", d, box[d]); m.box[d] = uint16_t(box[d]); m.estride[d] = 1; }
  check_inner(int(box[0]) * elem, swizzle);
}
void encode_im2col(void* map, int elem, int rank, const void* base, const uint64_t* dims, const uint64_t* strides, const int* lower, const int* upper,
                   int channels, int pixels, const uint32_t* estrides, int swizzle) {
  TensorMap& m = encode_common(map, elem, rank, base, dims, strides, swizzle); m.im2col = 1; m.channels = uint16_t(channels); m.pixels = uint16_t(pixels);
  if (channels < 1 || channels > 256 || pixels < 1 || pixels > 1024) fail("tensor map: channels %d, pixels %d", channels, pixels);
  for (int s = 0; s < rank - 2; s++) { int lim = rank == 4 ? 128 : rank == 5 ? 16 : 32768; if (lower[s] < -lim || lower[s] >= lim || upper[s] < -lim || upper[s] >= lim) fail("tensor map: corner out of range"); m.lower[s] = int8_t(lower[s]); m.upper[s] = int8_t(upper[s]); }
  for (int d = 0; d < rank; d++) { if (estrides[d] < 1 || estrides[d] > 8) fail("tensor map: element stride"); m.estride[d] = uint8_t(estrides[d]); }
  check_inner(channels * elem, swizzle);
}

// ---- wgmma: D[64][n] += A[64][16] * B[n][16]^T, both K-major in shared memory through descriptors --------------------
struct WgArg { float* d; uint64_t da, db; int scale; MmaType t; int n; };
struct WgOp { uint64_t da, db; int scale; MmaType t; int n; float* d[128]; };
struct WgGroup { std::vector<WgOp> open; std::deque<std::vector<WgOp>> committed; std::map<float*, std::vector<float>> saved; int commits_seen = 0; };
static WgGroup wgs[8];
static uint32_t desc_addr(uint64_t d, int row, int kbyte) {
  uint32_t start = uint32_t(d & 0x3fff) << 4, sbo = uint32_t(d >> 32 & 0x3fff) << 4; int mode = int(d >> 62);
  if (mode != 1) fail("wgmma descriptor: only 128-byte swizzle, K-major is emulated (mode %d)", mode);
  if (d >> 49 & 7) fail("wgmma descriptor: base offset must be 0");
  return swz(3, start + uint32_t(row / 8) * sbo + uint32_t(row % 8) * 128 + uint32_t(kbyte));
}
static void wg_compute(const WgOp& o, int g) {
  static float A[64][16], B[16][256]; static double C[64][256];
  for (int i = 0; i < 64; i++) for (int k = 0; k < 16; k++) { uint32_t a = desc_addr(o.da, i, k * 2); uint16_t h; memcpy(&h, arena + a, 2); A[i][k] = cvt16(o.t, h); if (k % 8 == 0) trace_as(g * 128 + i / 16 * 32, arena + a, 16, AK_READ | AK_QUIET, nullptr); }
  for (int j = 0; j < o.n; j++) for (int k = 0; k < 16; k++) { uint32_t a = desc_addr(o.db, j, k * 2); uint16_t h; memcpy(&h, arena + a, 2); B[k][j] = cvt16(o.t, h); if (k % 8 == 0) trace_as(g * 128, arena + a, 16, AK_READ | AK_QUIET, nullptr); }
  auto at = [&](int t, int i, int& r, int& c) { r = t / 32 * 16 + t % 32 / 4 + (i >> 1 & 1) * 8; c = (i >> 2) * 8 + t % 4 * 2 + (i & 1); };
  for (int t = 0; t < 128; t++) for (int i = 0; i < o.n / 2; i++) { int r, c; at(t, i, r, c); C[r][c] = o.scale ? o.d[t][i] : 0.0f; }
  for (int i = 0; i < 64; i++) for (int k = 0; k < 16; k++) { double a = A[i][k]; for (int j = 0; j < o.n; j++) C[i][j] += a * double(B[k][j]); }
  for (int t = 0; t < 128; t++) for (int i = 0; i < o.n / 2; i++) { int r, c; at(t, i, r, c); o.d[t][i] = float(C[r][c]); }
}
void wgmma(MmaType t, int n, float* d, uint64_t da, uint64_t db, int scale, const char* f, int l) {
  WgArg a{d, da, db, scale, t, n};
  warpgroup_collective(OP_WGMMA, &a, [](void* const* args) {
    int g = G.cur->id / 128; const WgArg& a0 = *(WgArg*)args[0]; WgOp o{a0.da, a0.db, a0.scale, a0.t, a0.n, {}}; G.stats.wgmma++;
    for (int i = 0; i < 128; i++) { const WgArg& x = *(WgArg*)args[i]; o.d[i] = x.d; if (x.da != a0.da || x.db != a0.db || x.scale != a0.scale) fail("wgmma: descriptors or scale_d differ between the threads of the warpgroup"); }
    if (options.async == Async::Early) { wg_compute(o, g); return; }
    for (int i = 0; i < 128; i++) { auto& s = wgs[g].saved[o.d[i]]; if (s.empty()) s.assign(o.d[i], o.d[i] + o.n / 2); for (int k = 0; k < o.n / 2; k++) memset(&o.d[i][k], 0xFF, 4); }   // reading D before the wait gives NaN
    wgs[g].open.push_back(o);
  }, f, l);
}
void wgmma_commit() {
  WgGroup& w = wgs[G.cur->id / 128];
  if (++w.commits_seen == 128) { w.commits_seen = 0; w.committed.push_back(std::move(w.open)); w.open.clear(); }
}
void wgmma_wait(int n, const char* f, int l) {
  warpgroup_collective(OP_WGWAIT, &n, [](void* const* args) {
    int g = G.cur->id / 128; WgGroup& w = wgs[g]; int n = *(int*)args[0];
    if (w.commits_seen) fail("wgmma.wait_group before every thread of the warpgroup has committed");
    while (int(w.committed.size()) > n) {
      for (WgOp& o : w.committed.front()) { WgOp q = o; for (int i = 0; i < 128; i++) q.d[i] = w.saved[o.d[i]].data(); wg_compute(q, g); }
      w.committed.pop_front();
    }
    auto in_flight = [&](float* p) { for (auto& o : w.open) for (float* q : o.d) if (q == p) return true; for (auto& c : w.committed) for (auto& o : c) for (float* q : o.d) if (q == p) return true; return false; };
    for (auto it = w.saved.begin(); it != w.saved.end();) if (in_flight(it->first)) ++it; else { memcpy(it->first, it->second.data(), it->second.size() * 4); it = w.saved.erase(it); }
  }, f, l);
}

// ---- launch ------------------------------------------------------------------------------------------------------
static void fiber_main() {
  after_switch(G.cur);
  g_fn(g_arg);
  Thread* t = G.cur;
  CpQueue& q = cpq[t->id];
  if (q.done < q.copies.size()) fail("exits with %zu cp.async copies that were never waited for", q.copies.size() - q.done);
  t->wait = 9; done_count++;
  next(t, true);
  __builtin_trap();
}
static void init_once() {
  if (stacks) return;
#if EMU_SWITCH == 2
  main_sp = &uc_main;
#endif
  stacks_size = STRIDE * 1024;
  stacks = (uint8_t*)mmap(nullptr, stacks_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int i = 0; i < 1024; i++) mprotect(stacks + i * STRIDE, 4096, PROT_NONE);
  if (posix_memalign((void**)&arena, 65536, ARENA_SIZE)) abort();
}
static void run_block() {
  dim3 bd = G.block_dim; int n = G.nthreads; G.stats.blocks++;
  rh = rn = 0; done_count = 0; memset(bars, 0, sizeof bars); memset(posted, 0, sizeof posted); memset(wg_posted, 0, sizeof wg_posted);
  mbars.clear(); async_q.clear(); for (auto& w : wgs) { w.open.clear(); w.committed.clear(); w.saved.clear(); w.commits_seen = 0; }
  for (int i = 0; i < n; i++) {
    Thread& t = G.threads[i]; t = Thread{}; t.id = i; t.lane = i & 31; t.warp = i >> 5;
    t.tid = {unsigned(i % bd.x), unsigned(i / bd.x % bd.y), unsigned(i / (bd.x * bd.y))};
    size_t colour = 64 + (size_t(i) * 448) % 4096;                      // different cache sets for different stacks
    t.sp = make_fiber(i, stacks + i * STRIDE + STRIDE - colour, STACK - colour);
#ifdef EMU_ASAN
    size_t live = abandoned ? STACK : 16384;                            // frames of fibers that never returned
    __asan_unpoison_memory_region(stacks + i * STRIDE + 4096 + STACK - live, live);
#endif
    cpq[i].copies.clear(); cpq[i].ends.clear(); cpq[i].done = cpq[i].group = 0;
  }
  abandoned = false;
  int ids[1024]; for (int i = 0; i < n; i++) ids[i] = i;
  release(ids, n);
  if (trace_block_begin) trace_block_begin();
  g_error.clear();
  Thread* first = &G.threads[pop()];
  G.running = true; to_fiber(nullptr, first);
  G.running = false; G.cur = nullptr;
  if (!g_error.empty()) throw Error(g_error);
  if (trace_block_end) trace_block_end();
  shared_end();
}
std::mutex& launch_mutex() { static std::mutex m; return m; }
void run_grid(dim3 grid, dim3 block, size_t smem, void (*fn)(void*), void* arg, const char* name) {
  std::lock_guard<std::mutex> one_launch_at_a_time(launch_mutex());
  init_once();
  g_fn = fn; g_arg = arg; g_name = name; G.grid_dim = grid; G.block_dim = block; G.stats = Stats{}; rng = options.seed * 2654435761u | 1u;
  uint64_t n = uint64_t(block.x) * block.y * block.z;
  if (n < 1 || n > 1024 || block.z > 64) fail("launch %s: bad block (%u,%u,%u)", name, block.x, block.y, block.z);
  if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535) fail("launch %s: bad grid (%u,%u,%u)", name, grid.x, grid.y, grid.z);
  G.nthreads = int(n);
#ifdef EMU_ASAN
  thread_local const void* stack_bottom; thread_local size_t stack_size;   // of whichever thread launches
  if (!stack_bottom) { pthread_attr_t at; void* b; pthread_getattr_np(pthread_self(), &at); pthread_attr_getstack(&at, &b, &stack_size); stack_bottom = b; pthread_attr_destroy(&at); }
  main_bottom = stack_bottom; main_size = stack_size;
#endif
  if (trace_launch_begin) trace_launch_begin();
  uint64_t total = uint64_t(grid.x) * grid.y * grid.z;
  for (uint64_t b = 0; b < total; b++) {
    uint64_t k = options.reverse_blocks ? total - 1 - b : b;
    if (options.only_block >= 0 && k != uint64_t(options.only_block)) continue;
    G.block_idx = {unsigned(k % grid.x), unsigned(k / grid.x % grid.y), unsigned(k / grid.x / grid.y)};
    shared_begin(smem);
    run_block();
  }
  if (trace_launch_end) trace_launch_end();
}
}  // namespace emu
