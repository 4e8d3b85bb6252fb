// tma.cpp -- see tma.h. Rules: CUDA driver API, cuTensorMapEncode*; PTX ISA, "Tensors" and
// cp.async.bulk.tensor.
#include "emulator/tma.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "emulator/mbarrier.h"
#include "emulator/scheduler.h"
#include "emulator/shared_memory.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr uint32_t kElementBytes[] = {2, 2, 4, 8};  // by Dtype

/// What the emulator keeps in the 128 bytes that are opaque to everybody else.
struct Map {
  uint64_t base;
  uint64_t stride[4];  // bytes
  uint32_t size[5];
  uint16_t box[5];  // of a tiled load
  uint16_t channels, pixels;
  int16_t lower[3], upper[3];
  uint8_t element_stride[3];
  uint8_t rank, element_bytes, swizzle, im2col;

  uint32_t bytes() const {
    uint32_t elements = im2col ? uint32_t{channels} * pixels : 1;
    for (int axis = 0; axis < rank && !im2col; ++axis) elements *= box[axis];
    return elements * element_bytes;
  }
  int first(int axis) const { return lower[axis]; }
  int last(int axis) const { return static_cast<int>(size[axis + 1]) - 1 + upper[axis]; }
};
static_assert(sizeof(Map) <= sizeof(TensorMap), "fits the opaque bytes");

Map opened(const TensorMap& map) {
  Map inside;
  memcpy(static_cast<void*>(&inside), &map, sizeof inside);
  return inside;
}

TensorMap closed(const Map& inside) {
  TensorMap map{};
  memcpy(static_cast<void*>(&map), &inside, sizeof inside);
  return map;
}

Map make_map(const MappedTensor& tensor, Swizzle swizzle) {
  Map map{};
  if (tensor.rank < 2 || tensor.rank > 5) fail("tensor map: rank %d, expected 2 to 5", tensor.rank);
  map.base = reinterpret_cast<uintptr_t>(tensor.base);
  map.rank = static_cast<uint8_t>(tensor.rank);
  map.element_bytes = static_cast<uint8_t>(kElementBytes[static_cast<int>(tensor.dtype)]);
  map.swizzle = static_cast<uint8_t>(swizzle);
  if (map.base % 16) fail("tensor map: MISALIGNED base, expected a multiple of 16 bytes");
  for (int axis = 0; axis < tensor.rank; ++axis) {
    const int64_t size = tensor.size[axis];
    if (size < 1 || size > int64_t{1} << 32)
      fail("tensor map: size %lld of axis %d", static_cast<long long>(size), axis);
    map.size[axis] = static_cast<uint32_t>(size);
  }
  for (int axis = 0; axis + 1 < tensor.rank; ++axis) {
    const int64_t stride = tensor.stride[axis];
    if (stride % 16 || stride < 0 || stride >= int64_t{1} << 40) {
      fail("tensor map: stride %lld of axis %d, expected a multiple of 16 bytes",
           static_cast<long long>(stride), axis + 1);
    }
    map.stride[axis] = static_cast<uint64_t>(stride);
  }
  return map;
}

void check_inner_box(uint32_t bytes, Swizzle swizzle) {
  constexpr uint32_t kSpans[] = {1u << 30, 32, 64, 128};
  const uint32_t span = kSpans[static_cast<int>(swizzle)];
  if (bytes % 16) fail("tensor map: an inner box of %u bytes, expected a multiple of 16", bytes);
  if (bytes > span)
    fail("tensor map: an inner box of %u bytes, expected at most the swizzle's %u", bytes, span);
}

struct Load {
  Map map;  // the kernel's is on the stack of the thread that issued the load
  uint32_t to, mbarrier;
  int corner[5], tap[3];
  int issuer;
};
std::deque<Load> loads;

/// Writes what a load brings, in the order of its elements.
class Writer {
 public:
  explicit Writer(const Load& load) : load_(load) {}

  /// `count` elements along axis 0 from coordinates c on; outside the tensor they are 0.
  void row(const int* c, int count) {
    const Map& map = load_.map;
    const uint32_t bytes = map.element_bytes;
    bool inside = true;
    const uint8_t* base = reinterpret_cast<const uint8_t*>(map.base);
    for (int axis = 1; axis < map.rank; ++axis) {
      inside = inside && c[axis] >= 0 && static_cast<uint32_t>(c[axis]) < map.size[axis];
      base += static_cast<int64_t>(c[axis]) * static_cast<int64_t>(map.stride[axis - 1]);
    }
    const int64_t begin = inside ? std::max(c[0], 0) : 0;
    const int64_t end = inside ? std::min<int64_t>(int64_t{c[0]} + count, map.size[0]) : 0;
    if (begin < end && tracer) tracer->bulk_read(base + begin * bytes, (end - begin) * bytes);
    for (int64_t x = c[0]; x < int64_t{c[0]} + count; ++x, position_ += bytes) {
      uint8_t* to = arena + swizzled(static_cast<Swizzle>(map.swizzle), load_.to + position_);
      if (x >= begin && x < end) {
        memcpy(to, base + x * bytes, bytes);
      } else {
        memset(to, 0, bytes);
      }
    }
  }

 private:
  const Load& load_;
  uint32_t position_ = 0;
};

void load_box(const Load& load) {
  const Map& map = load.map;
  Writer writer(load);
  int index[5] = {}, rows = 1;
  for (int axis = 1; axis < map.rank; ++axis) rows *= map.box[axis];
  for (int i = 0; i < rows; ++i) {
    int c[5];
    for (int axis = 0; axis < map.rank; ++axis) c[axis] = load.corner[axis] + index[axis];
    writer.row(c, map.box[0]);
    for (int axis = 1; axis < map.rank && ++index[axis] == map.box[axis]; ++axis) index[axis] = 0;
  }
}

/// Positions of the box of pixels in order, the innermost axis first and images last.
void load_pixels(const Load& load) {
  const Map& map = load.map;
  const int spatial = map.rank - 2;
  Writer writer(load);
  int at[5];
  memcpy(at, load.corner, sizeof at);
  for (int pixel = 0; pixel < map.pixels; ++pixel) {
    int c[5];
    memcpy(c, at, sizeof c);
    for (int axis = 0; axis < spatial; ++axis) c[axis + 1] += load.tap[axis];
    writer.row(c, map.channels);
    int axis = 0;
    for (; axis < spatial; ++axis) {
      at[axis + 1] += map.element_stride[axis];
      if (at[axis + 1] <= map.last(axis)) break;
      at[axis + 1] = map.first(axis);
    }
    if (axis == spatial) ++at[map.rank - 1];
  }
}

void make(const Load& load) {
  Thread* current = state.current;
  state.current = &state.threads[load.issuer];
  load.map.im2col ? load_pixels(load) : load_box(load);
  const uint32_t bytes = load.map.bytes();
  if (tracer) {
    tracer->access(arena + load.to, bytes, Access::kWrite, nullptr, false);
    tracer->release(load.mbarrier, false);
  }
  mbarrier_landed(load.mbarrier, bytes);
  state.current = current;
}

/// The rules for im2col loads: the first position lies in the box, and the tap is small.
void check_pixels(const Load& load) {
  const int limit = load.map.rank == 3 ? 65535 : load.map.rank == 4 ? 255 : 31;
  for (int axis = 0; axis < load.map.rank - 2; ++axis) {
    const int at = load.corner[axis + 1], first = load.map.first(axis), last = load.map.last(axis);
    if (at < first || at > last)
      fail("TMA im2col: coordinate %d is %d, outside its box, %d to %d", axis + 1, at, first, last);
    if (load.tap[axis] < 0 || load.tap[axis] > limit)
      fail("TMA im2col: tap %d, expected 0 to %d", load.tap[axis], limit);
  }
}

}  // namespace

TensorMap encode_tiled_map(const MappedTensor& tensor, const int (&box)[5], Swizzle swizzle) {
  Map map = make_map(tensor, swizzle);
  for (int axis = 0; axis < tensor.rank; ++axis) {
    if (box[axis] < 1 || box[axis] > 256)
      fail("tensor map: box of %d on axis %d, expected 1 to 256", box[axis], axis);
    map.box[axis] = static_cast<uint16_t>(box[axis]);
  }
  check_inner_box(map.box[0] * map.element_bytes, swizzle);
  return closed(map);
}

TensorMap encode_im2col_map(const MappedTensor& tensor, const PixelBox& box, Swizzle swizzle) {
  Map map = make_map(tensor, swizzle);
  map.im2col = 1;
  if (tensor.rank < 3) fail("tensor map: im2col of rank %d, expected 3 to 5", tensor.rank);
  if (box.channels < 1 || box.channels > 256)
    fail("tensor map: %d channels, expected 1 to 256", box.channels);
  if (box.pixels < 1 || box.pixels > 1024) fail("tensor map: %d pixels, expected 1 to 1024", box.pixels);
  map.channels = static_cast<uint16_t>(box.channels);
  map.pixels = static_cast<uint16_t>(box.pixels);
  const int limit = tensor.rank == 3 ? 32768 : tensor.rank == 4 ? 128 : 16;
  for (int axis = 0; axis < tensor.rank - 2; ++axis) {
    for (const int corner : {box.lower[axis], box.upper[axis]}) {
      if (corner < -limit || corner >= limit)
        fail("tensor map: corner %d, expected %d to %d", corner, -limit, limit - 1);
    }
    const int stride = box.element_stride[axis];
    if (stride < 1 || stride > 8) fail("tensor map: element stride %d, expected 1 to 8", stride);
    map.lower[axis] = static_cast<int16_t>(box.lower[axis]);
    map.upper[axis] = static_cast<int16_t>(box.upper[axis]);
    map.element_stride[axis] = static_cast<uint8_t>(stride);
  }
  check_inner_box(uint32_t{map.channels} * map.element_bytes, swizzle);
  return closed(map);
}

void tma_load(uint32_t to, const TensorMap& tensor_map, uint32_t mbarrier, int rank, const int* corner,
              const int* tap) {
  Load load{opened(tensor_map), to, mbarrier, {}, {}, state.current->id};
  const Map& map = load.map;
  if (map.rank != rank || (map.im2col != 0) != (tap != nullptr)) {
    fail("TMA: the instruction and the tensor map disagree on rank or mode");
  }
  constexpr uint32_t kAlignments[] = {128, 256, 512, 1024};
  const uint32_t bytes = map.bytes();
  check_shared(to, bytes, kAlignments[map.swizzle], "TMA");
  check_mbarrier(mbarrier, "TMA");
  std::copy(corner, corner + rank, load.corner);
  if (tap) {
    std::copy(tap, tap + rank - 2, load.tap);
    check_pixels(load);
  }
  ++state.counts.tma_loads;
  state.counts.tma_bytes += bytes;
  if (options.async == Async::kEarly) return make(load);
  constexpr int kNan = 0xFF;
  if (tracer) tracer->invalidate(arena + to, bytes);
  memset(arena + to, kNan, bytes);
  loads.push_back(load);
}

bool complete_one_load() {
  if (loads.empty()) return false;
  size_t k = 0;
  if (options.order == Order::kRandom) k = random_number() % loads.size();
  if (options.order == Order::kReverse) k = loads.size() - 1;
  const Load load = loads[k];
  loads.erase(loads.begin() + static_cast<std::ptrdiff_t>(k));
  make(load);
  return true;
}

void reset_loads() { loads.clear(); }

uint32_t swizzled(Swizzle swizzle, uint32_t address) {
  constexpr uint32_t kChunkBits[] = {0, 0x10, 0x30, 0x70};
  return address ^ (address >> 3 & kChunkBits[static_cast<int>(swizzle)]);
}

}  // namespace fastconv::emulator
