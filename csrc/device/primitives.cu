// primitives.cu -- see primitives.h. One block each; tests/test_device.py knows the results.
#include <functional>
#include <map>

#include "device/async_copy.h"
#include "device/matrix.h"
#include "device/primitives.h"
#include "device/tma.h"
#include "device/vector.h"
#include "device/warp.h"
#include "device/wgmma.h"

namespace fastconv {
namespace {

constexpr int kThreads = 128;

/// One access of each width a thread: widths 1 to 16 bytes.
__global__ void vector_kernel(const uint8_t* x,  // [31 * kThreads]
                              uint8_t* y) {      // as x
  const int t = threadIdx.x;
  int begin = 0;
  const auto move = [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    store_vector(y + begin + t * kWidth, load_vector<kWidth>(x + begin + t * kWidth));
    begin += kWidth * kThreads;
  };
  move(std::integral_constant<int, 16>{});
  move(std::integral_constant<int, 8>{});
  move(std::integral_constant<int, 4>{});
  move(std::integral_constant<int, 2>{});
  move(std::integral_constant<int, 1>{});
}

template <class T>
__global__ void reduce_kernel(const T* x,  // [kThreads]
                              T* y) {      // [7, kThreads]
  const int t = threadIdx.x;
  const T results[] = {warp_sum(x[t]),
                       warp_max(x[t]),
                       warp_min(x[t]),
                       warp_sum<8>(x[t]),
                       block_sum<kThreads>(x[t]),
                       block_max<kThreads>(x[t]),
                       block_min<kThreads>(x[t])};
#pragma unroll
  for (int i = 0; i < 7; ++i) y[i * kThreads + t] = results[i];
}

/// Both ways to bring b to the tensor cores.
template <class T>
__global__ void mma_kernel(const T* a,             // [16, 16]
                           const T* b,             // [8, 16], columns of the factor
                           const T* b_transposed,  // [16, 8]
                           float* d) {             // [2, 16, 8]
  FASTCONV_SHARED(T, a_tile, [16][16]);
  FASTCONV_SHARED(T, b_tile, [8][16]);
  FASTCONV_SHARED(T, b_transposed_tile, [16][8]);
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += kWarp) a_tile[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += kWarp) b_tile[i / 16][i % 16] = b[i];
  for (int i = lane; i < 128; i += kWarp) b_transposed_tile[i / 8][i % 8] = b_transposed[i];
  __syncthreads();
  uint32_t a_part[4], b_part[2][4];
  load_matrix_x4(a_part, shared_address(&a_tile[lane % 16][lane / 16 * 8]));
  load_matrix_x4(b_part[0], shared_address(&b_tile[lane % 8][lane / 8 % 2 * 8]));
  load_matrix_x4_transposed(b_part[1], shared_address(&b_transposed_tile[lane % 16][0]));
#pragma unroll
  for (int way = 0; way < 2; ++way) {
    const uint32_t b_used[2] = {b_part[way][0], b_part[way][1]};
    float sum[4] = {};
    mma_m16n8k16<T>(sum, a_part, b_used);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[way * 128 + (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

__global__ void mma_tf32_kernel(const float* a,  // [16, 8]
                                const float* b,  // [8, 8]
                                float* d) {      // [2, 16, 8]: the product, and a as rounded
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  uint32_t a_part[4], b_part[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int at = (g + i % 2 * 8) * 8 + t + i / 2 * 4;
    a_part[i] = round_tf32(a[at]);
    d[128 + at] = __uint_as_float(a_part[i]);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) b_part[i] = round_tf32(b[(t + i * 4) * 8 + g]);
  float sum[4] = {};
  mma_m16n8k8_tf32(sum, a_part, b_part);
#pragma unroll
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = sum[i];
}

/// Thread t copies t % (Bytes + 1) bytes of each Bytes, in two groups.
template <int Bytes>
__global__ void copy_async_kernel(const uint8_t* x,  // [2, kThreads, Bytes]
                                  uint8_t* y) {      // as x, the rest of each Bytes 0
  FASTCONV_SHARED(uint8_t, tile, [2][kThreads * Bytes]);
  const int t = threadIdx.x;
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    copy_async<Bytes>(shared_address(&tile[group][t * Bytes]), x + (group * kThreads + t) * Bytes,
                      t % (Bytes + 1));
    copy_async_commit();
  }
  copy_async_wait<1>();
  __syncthreads();
  const int other = (t + 1) % kThreads;
  store_vector(y + other * Bytes, load_vector<Bytes>(&tile[0][other * Bytes]));
  copy_async_wait<0>();
  __syncthreads();
  store_vector(y + (kThreads + other) * Bytes, load_vector<Bytes>(&tile[1][other * Bytes]));
}

/// A warp hands rows to three others through a ring of two stages.
__global__ void barrier_kernel(const float* x,  // [6, 32]
                               float* y) {      // [6, 3, 32]: rows times 1, 2 and 3
#ifdef FASTCONV_HOPPER
  constexpr int kRows = 6, kStages = 2, kConsumers = 3 * kWarp;
  FASTCONV_SHARED(uint64_t, full, [kStages]);
  FASTCONV_SHARED(uint64_t, empty, [kStages]);
  FASTCONV_SHARED(float, tile, [kStages][kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(shared_address(&full[s]), kWarp);
      barrier_init(shared_address(&empty[s]), kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  for (int row = 0; row < kRows; ++row) {
    const int s = row % kStages, parity = row / kStages % 2;
    if (warp == 0) {
      barrier_wait(shared_address(&empty[s]), parity ^ 1);
      tile[s][lane] = x[row * kWarp + lane];
      barrier_arrive(shared_address(&full[s]));
    } else {
      barrier_wait(shared_address(&full[s]), parity);
      y[(row * 3 + warp - 1) * kWarp + lane] = tile[s][kWarp - 1 - lane] * static_cast<float>(warp);
      barrier_arrive(shared_address(&empty[s]));
    }
  }
#endif
}

#ifdef FASTCONV_HOPPER
/// Thread 0 issues loads of `bytes` to the dynamic shared memory, which goes to y when they have landed.
template <class Issue>
__device__ void show_loads(uint8_t* y, int bytes, Issue issue) {
  FASTCONV_DYNAMIC_SHARED(uint8_t, tile);
  FASTCONV_SHARED(uint64_t, landed, [1]);
  const uint32_t barrier = shared_address(landed);
  if (threadIdx.x == 0) {
    barrier_init(barrier, 1);
    barrier_init_fence();
    barrier_arrive_expect(barrier, bytes);
    issue(shared_address(tile), barrier);
  }
  __syncthreads();
  barrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < bytes / 4; i += kThreads)
    store_vector(y + 4 * i, load_vector<4>(tile + 4 * i));
}
#endif

template <int Rank>
__global__ void tma_kernel(const __grid_constant__ TensorMap map, const BoxCorner<Rank> corner, int bytes,
                           uint8_t* y) {  // [bytes], as it lies in shared memory
#ifdef FASTCONV_HOPPER
  show_loads(y, bytes, [&](uint32_t to, uint32_t barrier) { tma_load<Rank>(to, map, barrier, corner); });
#endif
}

/// One load a tap of a kernel of 3 x 3 (x 3), each of 32 pixels of 16 bytes.
template <int Rank>
__global__ void tma_im2col_kernel(const __grid_constant__ TensorMap map, const BoxCorner<Rank> corner,
                                  int dilation,
                                  uint8_t* y) {  // [9 or 27 taps, 32, 16]
#ifdef FASTCONV_HOPPER
  constexpr int kTaps = Rank == 4 ? 9 : 27, kTapBytes = 32 * 16;
  show_loads(y, kTaps * kTapBytes, [&](uint32_t to, uint32_t barrier) {
    for (int tap = 0; tap < kTaps; ++tap) {
      int offset[Rank - 2];
      for (int axis = 0, rest = tap; axis < Rank - 2; ++axis, rest /= 3) offset[axis] = rest % 3 * dilation;
      tma_load_im2col<Rank>(to + tap * kTapBytes, map, barrier, corner, offset);
    }
  });
#endif
}

template <class T, int N>
__global__ void wgmma_kernel(const __grid_constant__ TensorMap a,  // [64, 64]
                             const __grid_constant__ TensorMap b,  // [N, 64]
                             float* d) {                           // [64, N]
#ifdef FASTCONV_WGMMA
  constexpr int kK = 64, kRowBytes = kK * 2, kBytes = (64 + N) * kRowBytes;
  FASTCONV_DYNAMIC_SHARED(unsigned char, tiles);
  FASTCONV_SHARED(uint64_t, landed, [1]);
  const int t = threadIdx.x;
  const uint32_t a_tile = shared_address(tiles), b_tile = a_tile + 64 * kRowBytes,
                 barrier = shared_address(landed);
  if (t == 0) {
    barrier_init(barrier, 1);
    barrier_init_fence();
    barrier_arrive_expect(barrier, kBytes);
    tma_load<2>(a_tile, a, barrier, {{0, 0}});
    tma_load<2>(b_tile, b, barrier, {{0, 0}});
  }
  __syncthreads();
  barrier_wait(barrier, 0);
  float sum[N / 2];
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kK / 16; ++k) {
    wgmma_m64k16<T>(sum, wgmma_descriptor(a_tile + k * 32), wgmma_descriptor(b_tile + k * 32), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
    d[row * N + column] = sum[i];
  }
#endif
}

struct Arguments {
  const std::vector<Address>& inputs;
  Address output;
  cudaStream_t stream;
  template <class T>
  const T* in(size_t i) const {
    if (i >= inputs.size()) throw DispatchError("a primitive misses an input");
    return pointer<const T>(inputs[i]);
  }
  template <class T>
  T* out() const {
    return pointer<T>(output);
  }
};
using Launcher = std::function<void(const Arguments&)>;

template <class T>
void launch_reduce(const Arguments& use) {
  FASTCONV_LAUNCH((reduce_kernel<T>), 1, kThreads, 0, use.stream, use.in<T>(0), use.out<T>());
}

template <class T>
void launch_mma(const Arguments& use) {
  FASTCONV_LAUNCH((mma_kernel<T>), 1, kWarp, 0, use.stream, use.in<T>(0), use.in<T>(1), use.in<T>(2),
                  use.out<float>());
}

template <int Bytes>
void launch_copy_async(const Arguments& use) {
  FASTCONV_LAUNCH((copy_async_kernel<Bytes>), 1, kThreads, 0, use.stream, use.in<uint8_t>(0),
                  use.out<uint8_t>());
}

/// A box of 8 x 4 x 3 x 2 x 2 floats that sticks out of [2, 3, 4, 5, 16], or its innermost axes.
template <int Rank>
void launch_tma(const Arguments& use) {
  MappedTensor x{Dtype::kFloat32, Rank, use.in<float>(0), {16, 5, 4, 3, 2}, {}};
  const int box[5] = {8, 4, 3, 2, 2};
  int64_t stride = 4;
  int bytes = 4;
  for (int axis = 0; axis < Rank; ++axis) {
    if (axis > 0) x.stride[axis - 1] = stride;
    stride *= x.size[axis];
    bytes *= box[axis];
  }
  BoxCorner<Rank> corner;
  const int at[5] = {12, -1, 2, 2, -1};
  for (int axis = 0; axis < Rank; ++axis) corner.at[axis] = at[axis];
  FASTCONV_LAUNCH((tma_kernel<Rank>), 1, kThreads, bytes, use.stream, encode_tiled(x, box, Swizzle::kNone),
                  corner, bytes, use.out<uint8_t>());
}

/// All of [16, 32] floats under a swizzle, `columns` of them a row.
void launch_tma_swizzled(const Arguments& use, Swizzle swizzle, int columns) {
  const MappedTensor x{Dtype::kFloat32, 2, use.in<float>(0), {32, 16}, {128}};
  const int box[5] = {columns, 16}, bytes = columns * 16 * 4;
  FASTCONV_LAUNCH((tma_kernel<2>), 1, kThreads, bytes, use.stream, encode_tiled(x, box, swizzle),
                  BoxCorner<2>{{0, 0}}, bytes, use.out<uint8_t>());
}

/// Taps of a kernel of size 3, stride 2, padding 2 and dilation 2 over [2, (4,) 5, 6, 8] halves, from the
/// second position of the first image on.
template <int Rank>
void launch_tma_im2col(const Arguments& use) {
  constexpr int kPadding = 2, kDilation = 2, kStride = 2, kTaps = Rank == 4 ? 9 : 27;
  MappedTensor x{Dtype::kFloat16, Rank, use.in<__half>(0), {8, 6, 5, 4, 2}, {}};
  x.size[Rank - 1] = 2;
  PixelBox box{{}, {}, {}, 8, 32};
  BoxCorner<Rank> corner{};
  int64_t stride = 2;
  for (int axis = 0; axis < Rank; ++axis) {
    if (axis > 0) x.stride[axis - 1] = stride;
    stride *= x.size[axis];
  }
  for (int axis = 0; axis < Rank - 2; ++axis) {
    box.lower[axis] = -kPadding;
    box.upper[axis] = kPadding - 2 * kDilation;
    box.element_stride[axis] = kStride;
    corner.at[axis + 1] = axis == 0 ? kStride - kPadding : -kPadding;
  }
  FASTCONV_LAUNCH((tma_im2col_kernel<Rank>), 1, kThreads, kTaps * 32 * 16, use.stream,
                  encode_im2col(x, box, Swizzle::kNone), corner, kDilation, use.out<uint8_t>());
}

template <class T, int N>
void launch_wgmma(const Arguments& use, Dtype dtype) {
  const int box_a[5] = {64, 64}, box_b[5] = {64, N};
  const TensorMap a = encode_tiled({dtype, 2, use.in<T>(0), {64, 64}, {128}}, box_a, Swizzle::k128Bytes);
  const TensorMap b = encode_tiled({dtype, 2, use.in<T>(1), {64, N}, {128}}, box_b, Swizzle::k128Bytes);
  FASTCONV_LAUNCH((wgmma_kernel<T, N>), 1, kThreads, (64 + N) * 128, use.stream, a, b, use.out<float>());
}

const std::map<std::string, Launcher>& launchers() {
  static const std::map<std::string, Launcher> all = {
      {"vector",
       [](const Arguments& use) {
         FASTCONV_LAUNCH((vector_kernel), 1, kThreads, 0, use.stream, use.in<uint8_t>(0), use.out<uint8_t>());
       }},
      {"reduce_float32", launch_reduce<float>},
      {"reduce_float64", launch_reduce<double>},
      {"mma_float16", launch_mma<__half>},
      {"mma_bfloat16", launch_mma<__nv_bfloat16>},
      {"mma_tf32",
       [](const Arguments& use) {
         FASTCONV_LAUNCH((mma_tf32_kernel), 1, kWarp, 0, use.stream, use.in<float>(0), use.in<float>(1),
                         use.out<float>());
       }},
      {"copy_async_4", launch_copy_async<4>},
      {"copy_async_8", launch_copy_async<8>},
      {"copy_async_16", launch_copy_async<16>},
      {"barrier",
       [](const Arguments& use) {
         FASTCONV_LAUNCH((barrier_kernel), 1, kThreads, 0, use.stream, use.in<float>(0), use.out<float>());
       }},
      {"tma_2", launch_tma<2>},
      {"tma_3", launch_tma<3>},
      {"tma_4", launch_tma<4>},
      {"tma_5", launch_tma<5>},
      {"tma_swizzle_32", [](const Arguments& use) { launch_tma_swizzled(use, Swizzle::k32Bytes, 8); }},
      {"tma_swizzle_64", [](const Arguments& use) { launch_tma_swizzled(use, Swizzle::k64Bytes, 16); }},
      {"tma_swizzle_128", [](const Arguments& use) { launch_tma_swizzled(use, Swizzle::k128Bytes, 32); }},
      {"tma_im2col_4", launch_tma_im2col<4>},
      {"tma_im2col_5", launch_tma_im2col<5>},
      {"wgmma_64_float16", [](const Arguments& use) { launch_wgmma<__half, 64>(use, Dtype::kFloat16); }},
      {"wgmma_128_float16", [](const Arguments& use) { launch_wgmma<__half, 128>(use, Dtype::kFloat16); }},
      {"wgmma_256_float16", [](const Arguments& use) { launch_wgmma<__half, 256>(use, Dtype::kFloat16); }},
      {"wgmma_64_bfloat16",
       [](const Arguments& use) { launch_wgmma<__nv_bfloat16, 64>(use, Dtype::kBfloat16); }},
      {"wgmma_256_bfloat16",
       [](const Arguments& use) { launch_wgmma<__nv_bfloat16, 256>(use, Dtype::kBfloat16); }},
  };
  return all;
}

}  // namespace

void run_primitive(const std::string& name, const std::vector<Address>& inputs, Address output,
                   Address stream) {
  const auto found = launchers().find(name);
  if (found == launchers().end()) throw DispatchError("there is no primitive " + name);
  found->second({inputs, output, pointer<CUstream_st>(stream)});
}

std::vector<std::string> primitives() {
  std::vector<std::string> names;
  for (const auto& [name, launcher] : launchers()) names.push_back(name);
  return names;
}

}  // namespace fastconv
