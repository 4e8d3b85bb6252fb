// wgmma.cpp -- see wgmma.h. Descriptors and fragments: PTX ISA, "Asynchronous Warpgroup Level Matrix".
#include "emulator/wgmma.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "emulator/collectives.h"
#include "emulator/shared_memory.h"
#include "emulator/tma.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr int kM = 64, kK = 16, kMaxN = 256;
constexpr int kGroups = kMaxThreads / kGroupThreads;

/// What one thread brings.
struct Request {
  float* d;
  uint64_t a, b;
  bool accumulate;
  Element element;
  int n;
};

/// One product, with where each thread keeps its part of d.
struct Product {
  Request request;
  float* d[kGroupThreads];
};

struct Warpgroup {
  std::vector<Product> open;
  std::deque<std::vector<Product>> committed;
  std::map<float*, std::vector<float>> values;  // what belongs where NaN stands
  int commits = 0;                              // threads that have committed the open group
};
Warpgroup warpgroups[kGroups];

/// Shared address of a row's byte, K innermost, by a descriptor.
uint32_t operand_address(uint64_t descriptor, int row, int byte) {
  constexpr uint64_t kSwizzle128 = 1;
  constexpr uint32_t kUnit = 16, kRowBytes = 128;
  const auto field = [&](int shift) { return static_cast<uint32_t>(descriptor >> shift & 0x3fff) * kUnit; };
  if (descriptor >> 62 != kSwizzle128) fail("wgmma: only descriptors of the 128-byte swizzle are emulated");
  if (descriptor >> 49 & 7) fail("wgmma: a descriptor's base offset, expected 0");
  const uint32_t address = field(0) + row / 8 * field(32) + row % 8 * kRowBytes + byte;
  return swizzled(Swizzle::k128Bytes, address);
}

/// Row `row` of an operand, read on behalf of a thread.
void read_row(const Request& request, uint64_t descriptor, int row, int thread, float* values) {
  constexpr int kChunk = 8;  // elements in 16 bytes, which stay together under the swizzle
  for (int k = 0; k < kK; k += kChunk) {
    const uint32_t address = operand_address(descriptor, row, k * 2);
    check_shared(address, 16, 16, "wgmma operand");
    trace_as(thread, arena + address, 16, Access::kRead);
    uint16_t bits[kChunk];
    memcpy(bits, arena + address, sizeof bits);
    for (int i = 0; i < kChunk; ++i) values[k + i] = half_to_float(request.element, bits[i]);
  }
}

/// Row and column of element i of a thread's part of d.
int row_of(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8; }
int column_of(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

void compute(const Product& product, int group) {
  static float a[kM][kK], b[kMaxN][kK], b_columns[kK][kMaxN];
  static double d[kM][kMaxN];
  const Request& request = product.request;
  const int first = group * kGroupThreads, own = request.n / 2;
  for (int i = 0; i < kM; ++i) read_row(request, request.a, i, first + i / 16 * kLanes, a[i]);
  for (int j = 0; j < request.n; ++j) {
    read_row(request, request.b, j, first, b[j]);
    for (int k = 0; k < kK; ++k) b_columns[k][j] = b[j][k];
  }
  for (int t = 0; t < kGroupThreads; ++t) {
    for (int i = 0; i < own; ++i)
      d[row_of(t, i)][column_of(t, i)] = request.accumulate ? product.d[t][i] : 0.0;
  }
  for (int i = 0; i < kM; ++i) {
    for (int k = 0; k < kK; ++k) {
      const double factor = a[i][k];
      for (int j = 0; j < request.n; ++j) d[i][j] += factor * static_cast<double>(b_columns[k][j]);
    }
  }
  for (int t = 0; t < kGroupThreads; ++t) {
    for (int i = 0; i < own; ++i) product.d[t][i] = static_cast<float>(d[row_of(t, i)][column_of(t, i)]);
  }
}

void execute_wgmma(void* const* arguments) {
  const Request& first = *static_cast<Request*>(arguments[0]);
  const int group = state.current->id / kGroupThreads;
  Warpgroup& warpgroup = warpgroups[group];
  Product product{first, {}};
  ++state.counts.wgmma;
  state.counts.matrix_multiply_adds += uint64_t{kM} * kK * first.n;
  for (int i = 0; i < kGroupThreads; ++i) {
    const Request& mine = *static_cast<Request*>(arguments[i]);
    if (mine.a != first.a || mine.b != first.b || mine.accumulate != first.accumulate) {
      fail("wgmma: descriptors differ between the threads of the warpgroup");
    }
    product.d[i] = mine.d;
  }
  if (options.async == Async::kEarly) return compute(product, group);
  constexpr int kNan = 0xFF;
  for (float* d : product.d) {
    std::vector<float>& value = warpgroup.values[d];
    if (value.empty()) value.assign(d, d + first.n / 2);
    memset(d, kNan, first.n / 2 * sizeof(float));
  }
  warpgroup.open.push_back(product);
}

void execute_wait(void* const* arguments) {
  const int group = state.current->id / kGroupThreads;
  const size_t pending = *static_cast<int*>(arguments[0]);
  Warpgroup& warpgroup = warpgroups[group];
  if (warpgroup.commits) fail("wgmma wait before every thread of the warpgroup has committed");
  for (; warpgroup.committed.size() > pending; warpgroup.committed.pop_front()) {
    for (Product product : warpgroup.committed.front()) {
      for (float*& d : product.d) d = warpgroup.values.at(d).data();
      compute(product, group);
    }
  }
  std::vector<float*> busy;
  const auto note = [&](const std::vector<Product>& products) {
    for (const Product& product : products) busy.insert(busy.end(), product.d, product.d + kGroupThreads);
  };
  note(warpgroup.open);
  for (const auto& products : warpgroup.committed) note(products);
  std::sort(busy.begin(), busy.end());
  for (auto it = warpgroup.values.begin(); it != warpgroup.values.end();) {
    if (std::binary_search(busy.begin(), busy.end(), it->first)) {
      ++it;
      continue;
    }
    memcpy(it->first, it->second.data(), it->second.size() * sizeof(float));
    it = warpgroup.values.erase(it);
  }
}

}  // namespace

void wgmma(Element element, int n, float* d, uint64_t a, uint64_t b, bool accumulate, Site site) {
  Request mine{d, a, b, accumulate, element, n};
  warpgroup_collective(Operation::kWgmma, &mine, execute_wgmma, site);
}

void wgmma_commit() {
  Warpgroup& warpgroup = warpgroups[state.current->id / kGroupThreads];
  if (++warpgroup.commits < kGroupThreads) return;
  warpgroup.commits = 0;
  warpgroup.committed.push_back(std::move(warpgroup.open));
  warpgroup.open.clear();
}

void wgmma_wait(int pending, Site site) {
  warpgroup_collective(Operation::kWgmmaWait, &pending, execute_wait, site);
}

void reset_wgmma() {
  for (Warpgroup& warpgroup : warpgroups) warpgroup = Warpgroup{};
}

}  // namespace fastconv::emulator
