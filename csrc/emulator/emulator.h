// emulator.h - run CUDA kernel source on the CPU ("SIMT on fibers"), for tests only.
//
// Included by kernel headers when they are NOT compiled by nvcc (see fc_cuda.h). Every CUDA thread of a block is a
// fiber on one OS thread; blocks run one after another; every sync / warp-collective is a scheduling point. The
// scheduler is deterministic (order and seed are parameters of the launch).
#pragma once
#ifdef __CUDACC__
#error "emulator.h is for the host-only build; nvcc must use the real thing"
#endif
#include <cuda_runtime.h>   // the toolkit's own host headers: dim3, float4, uint3, cudaStream_t, cudaError_t ...
#include <cuda_fp16.h>      // __half with NVIDIA's own host conversions (bit-exact RN/RZ/RU/RD)
#include <cuda_bf16.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#define FC_EMU 1
#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#endif

// ---- qualifiers: crt/host_defines.h has already made __global__, __device__, __launch_bounds__ ... empty ---------
#undef __shared__
#define __shared__ EMU_ERROR_declare_shared_memory_with_FC_SHARED_or_FC_SHARED_DYN
#undef __forceinline__
#define __forceinline__ inline
#undef __noinline__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __constant__
#define __constant__ const

// where in the kernel a primitive was called: default arguments keep the call syntax of CUDA
#define EMU_LOC0 const char *emu_f = __builtin_FILE(), int emu_l = __builtin_LINE()
#define EMU_LOC , EMU_LOC0
#define EMU_PASS emu_f, emu_l

namespace emu {

struct Error : std::runtime_error { using std::runtime_error::runtime_error; };

// ---- launch options (per process; a test sets them before a launch) ----------------------------------------------
enum class Order { Forward, Reverse, Random, Lockstep };  // Forward/Reverse: a released warp runs ahead as far as it can
enum class Async { Late, Early };                         // cp.async / TMA / wgmma take effect at the wait, or at issue
struct Options {
  Order order = Order::Forward;
  Async async = Async::Late;
  uint32_t seed = 1;
  bool reverse_blocks = false;
  int64_t only_block = -1;          // >= 0: run this linear block only (perf sampling)
  int max_smem = 232448;        // 227 KB: sm_90 opt-in limit
};
extern Options options;

struct Thread {                 // one CUDA thread
  void* sp;                     // saved stack pointer while it does not run
  uint3 tid;
  int id, lane, warp;
  int wait;                     // 0 ready/running, 1 barrier, 2 warp, 3 warpgroup, 4 mbarrier, 9 done
  int op;                       // which collective / barrier id
  uint32_t mask;
  void* arg;
  const char* file; int line;   // where it waits
  uint32_t mbar; uint32_t parity;
  void* fake_stack;             // ASan
};

struct Stats {                  // facts of the last launch, exact and reproducible
  uint64_t switches, barriers, warp_ops, mma, wgmma, ldmatrix, cp_async, cp_async_bytes, tma_bytes, blocks;
  uint32_t smem_bytes;
};

struct State {                  // everything the runtime knows; one object so that the tracer can skip its address range
  Thread* cur;
  uint3 block_idx; dim3 block_dim, grid_dim;
  Stats stats;
  bool running;
  int nthreads;
  Thread threads[1024];
};
extern State G;
extern uint8_t* arena;          // the block's shared memory: 1 KB aligned, addresses are offsets into it (below 256 KB)
constexpr uint32_t ARENA_SIZE = 256 * 1024, DYN_BASE = 1024, GUARD = 256;

[[noreturn]] void fail(const char* fmt, ...) __attribute__((format(printf, 1, 2)));
void* shared_static(const void* tag, size_t bytes, size_t align, const char* name);
void* shared_dynamic();
uint32_t shared_addr(const void* p);       // __cvta_generic_to_shared

// ---- scheduling points -------------------------------------------------------------------------------------------
using CollectiveFn = void (*)(void* const* args, uint32_t mask);  // run once, by the last lane to arrive
void warp_collective(int op, uint32_t mask, void* arg, CollectiveFn fn, const char* f, int l);
void warpgroup_collective(int op, void* arg, void (*fn)(void* const* args128), const char* f, int l);
void block_barrier(int id, int count, const char* f, int l);
enum Op { OP_SYNCWARP = 1, OP_SHFL, OP_VOTE, OP_MATCH, OP_REDUX, OP_LDMATRIX, OP_MMA, OP_STMATRIX, OP_WGMMA, OP_WGWAIT };

// ---- tracer interface (weak: present only in the trace build, emu_trace.cpp) --------------------------------------
enum AccessKind { AK_READ = 0, AK_WRITE = 1, AK_ATOMIC = 2, AK_QUIET = 4 /* no per-lane request accounting */ };
void trace_access(const void* p, size_t n, int kind, const void* pc) __attribute__((weak));
void trace_launch_begin() __attribute__((weak));
void trace_launch_end() __attribute__((weak));
void trace_block_begin() __attribute__((weak));
void trace_block_end() __attribute__((weak));
void trace_block_barrier() __attribute__((weak));
void trace_join(const int* ids, int n) __attribute__((weak));              // __syncwarp, named barriers
void trace_release(uint32_t mbar, bool complete) __attribute__((weak));    // mbarrier arrive
void trace_acquire(uint32_t mbar) __attribute__((weak));                   // mbarrier wait
void trace_shared_object(const void* p, size_t n, const char* name) __attribute__((weak));
void trace_matrix_request(const void* const* rows, int n, const void* pc) __attribute__((weak));
void trace_buffer(const void* p, size_t n, const char* name, bool initialised) __attribute__((weak));
void trace_buffer_gone(const void* p) __attribute__((weak));
void trace_buffer_written(const void* p, size_t n) __attribute__((weak));  // host wrote it

// ---- launch ------------------------------------------------------------------------------------------------------
void run_grid(dim3 grid, dim3 block, size_t smem, void (*fn)(void*), void* arg, const char* name);
template <class F> void run(dim3 grid, dim3 block, size_t smem, F&& body, const char* name = "kernel") {
  run_grid(grid, block, smem, [](void* a) { (*static_cast<std::remove_reference_t<F>*>(a))(); }, &body, name);
}

// ---- warp collectives: each lane leaves (in, out) and the last one does the exchange ------------------------------
struct ShflArg { uint32_t in[2]; uint32_t out[2]; int src; };
template <class T> inline T shfl_generic(uint32_t mask, T v, int src, const char* f, int l) {
  static_assert(sizeof(T) <= 8, "shfl takes 4 or 8 bytes");
  ShflArg a{}; memcpy(a.in, &v, sizeof(T)); a.src = src;
  extern void shfl_exchange(void* const*, uint32_t);
  warp_collective(OP_SHFL, mask, &a, shfl_exchange, f, l);
  T r; memcpy(&r, a.out, sizeof(T)); return r;
}
struct VoteArg { uint32_t pred, out; };
uint32_t ballot(uint32_t mask, int pred, const char* f, int l);
inline int shfl_src(int lane, int src, int width) { return (lane & ~(width - 1)) | (src & (width - 1)); }

// ---- PTX primitives (exact semantics; used by fc_prims.h) --------------------------------------------------------
void ldmatrix(uint32_t* r, int n, bool trans, uint32_t row_addr, const char* f, int l);
enum MmaType { MMA_F16, MMA_BF16, MMA_TF32 };
void mma(MmaType t, float* d, const uint32_t* a, const uint32_t* b, const float* c, const char* f, int l);
void cp_async(uint32_t dst, const void* src, int bytes, int src_bytes);
void cp_async_commit();
void cp_async_wait(int n);
void mbar_init(uint32_t bar, int count);
void mbar_arrive(uint32_t bar, int tx_bytes);                 // expect_tx (may be 0) + arrive
void mbar_wait(uint32_t bar, uint32_t parity, const char* f, int l);
void tma_load_tiled(uint32_t dst, const void* map, uint32_t bar, int rank, const int* coord);
void tma_load_im2col(uint32_t dst, const void* map, uint32_t bar, int rank, const int* coord, const int* offset);
void wgmma(MmaType t, int n, float* d, uint64_t desc_a, uint64_t desc_b, int scale_d, const char* f, int l);
void wgmma_commit();
void wgmma_wait(int n, const char* f, int l);

// host side of TMA: same arguments, same checks as cuTensorMapEncodeTiled / Im2col (2-byte and 4-byte elements)
struct TensorMap {              // fits the opaque 128-byte CUtensorMap
  uint64_t base; uint8_t rank, elem, swizzle, im2col; uint32_t dim[5]; uint64_t stride[4]; uint16_t box[5]; uint8_t estride[5];
  int8_t lower[3], upper[3]; uint16_t channels, pixels;
};
static_assert(sizeof(TensorMap) <= 128, "");
void encode_tiled(void* map, int elem, int rank, const void* base, const uint64_t* dims, const uint64_t* strides, const uint32_t* box, int swizzle);
void encode_im2col(void* map, int elem, int rank, const void* base, const uint64_t* dims, const uint64_t* strides, const int* lower,
                   const int* upper, int channels, int pixels, const uint32_t* estrides, int swizzle);

// ---- a device buffer for tests: exact-size heap block (ASan sees its edges), NaN-poisoned, registered with the tracer
template <class T> struct Buffer {
  T* p; size_t n; const char* name;
  explicit Buffer(size_t count, const char* nm = "buf") : n(count), name(nm) {
    if (posix_memalign((void**)&p, 256, std::max<size_t>(n * sizeof(T), 1))) throw std::bad_alloc();
    memset((void*)p, 0xFF, n * sizeof(T));                   // NaN in fp16, bf16, fp32 and fp64
    if (trace_buffer) trace_buffer(p, n * sizeof(T), name, false);
  }
  template <class V, class = decltype(std::declval<V>().size())> Buffer(const V& v, const char* nm) : Buffer(v.size(), nm) {
    for (size_t i = 0; i < n; i++) p[i] = v[i];
    if (trace_buffer_written) trace_buffer_written(p, n * sizeof(T));
  }
  void poison() { memset((void*)p, 0xFF, n * sizeof(T)); if (trace_buffer) { trace_buffer_gone(p); trace_buffer(p, n * sizeof(T), name, false); } }
  void zero() { memset((void*)p, 0, n * sizeof(T)); if (trace_buffer_written) trace_buffer_written(p, n * sizeof(T)); }
  ~Buffer() { if (trace_buffer_gone) trace_buffer_gone(p); free(p); }
  Buffer(const Buffer&) = delete;
  T* data() { return p; }
};
}  // namespace emu

// ---- CUDA spelling -----------------------------------------------------------------------------------------------
#define threadIdx (::emu::G.cur->tid)
#define blockIdx (::emu::G.block_idx)
#define blockDim (::emu::G.block_dim)
#define gridDim (::emu::G.grid_dim)
static constexpr int warpSize = 32;

inline void __syncthreads(EMU_LOC0) { emu::block_barrier(0, -1, EMU_PASS); }
inline void __syncwarp(uint32_t mask = 0xffffffffu EMU_LOC) { emu::warp_collective(emu::OP_SYNCWARP, mask, nullptr, nullptr, EMU_PASS); }
template <class T> inline T __shfl_sync(uint32_t m, T v, int src, int width = 32 EMU_LOC) {
  return emu::shfl_generic(m, v, emu::shfl_src(emu::G.cur->lane, src, width), EMU_PASS);
}
template <class T> inline T __shfl_xor_sync(uint32_t m, T v, int x, int width = 32 EMU_LOC) {
  int lane = emu::G.cur->lane, s = lane ^ x; if ((s & ~(width - 1)) > (lane & ~(width - 1))) s = lane;
  return emu::shfl_generic(m, v, s, EMU_PASS);
}
template <class T> inline T __shfl_down_sync(uint32_t m, T v, unsigned d, int width = 32 EMU_LOC) {
  int lane = emu::G.cur->lane, s = lane + int(d); if (s >= (lane & ~(width - 1)) + width) s = lane;
  return emu::shfl_generic(m, v, s, EMU_PASS);
}
template <class T> inline T __shfl_up_sync(uint32_t m, T v, unsigned d, int width = 32 EMU_LOC) {
  int lane = emu::G.cur->lane, s = lane - int(d); if (s < (lane & ~(width - 1))) s = lane;
  return emu::shfl_generic(m, v, s, EMU_PASS);
}
inline unsigned __ballot_sync(uint32_t m, int p EMU_LOC) { return emu::ballot(m, p, EMU_PASS); }
inline int __any_sync(uint32_t m, int p EMU_LOC) { return emu::ballot(m, p, EMU_PASS) != 0; }
inline int __all_sync(uint32_t m, int p EMU_LOC) { return emu::ballot(m, p, EMU_PASS) == m; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __trap_() { emu::fail("trap"); }

// atomics: blocks and threads run one at a time, so plain read-modify-write; the tracer is told that it is atomic
namespace emu { template <class T, class F> __attribute__((noinline, no_sanitize("thread"))) T atomic_rmw(T* p, F f) {
  if (trace_access) trace_access(p, sizeof(T), AK_ATOMIC, __builtin_return_address(0));
  T old; memcpy(&old, p, sizeof(T)); T v = f(old); memcpy(p, &v, sizeof(T)); return old; } }
template <class T> inline T atomicAdd(T* p, T v) { return emu::atomic_rmw(p, [=](T o) { return T(o + v); }); }
template <class T> inline T atomicMax(T* p, T v) { return emu::atomic_rmw(p, [=](T o) { return o > v ? o : v; }); }
template <class T> inline T atomicMin(T* p, T v) { return emu::atomic_rmw(p, [=](T o) { return o < v ? o : v; }); }
template <class T> inline T atomicExch(T* p, T v) { return emu::atomic_rmw(p, [=](T) { return v; }); }
template <class T> inline T atomicCAS(T* p, T c, T v) { return emu::atomic_rmw(p, [=](T o) { return o == c ? v : o; }); }

// device math that <cmath> does not put in the global namespace, or that CUDA spells differently
using std::max; using std::min;
template <class T> inline T __ldg(const T* p) { return *p; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
inline int __float_as_int(float f) { int i; memcpy(&i, &f, 4); return i; }
inline unsigned __float_as_uint(float f) { unsigned i; memcpy(&i, &f, 4); return i; }
inline float __uint_as_float(unsigned i) { float f; memcpy(&f, &i, 4); return f; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
