// tensor_core.cpp -- see tensor_core.h. Which lane holds what: PTX ISA, "Matrix fragments".
#include "emulator/tensor_core.h"

#include <cstring>

#include "emulator/collectives.h"
#include "emulator/shared_memory.h"
#include "emulator/tracer.h"

namespace fastconv::emulator {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;

float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// The hardware ignores the 13 bits that tf32 lacks.
float tf32_to_float(uint32_t bits) { return as_float(bits & 0xffffe000u); }

struct LoadMatrix {
  uint32_t* r;
  uint32_t row;
  bool transposed;
  const void* code;
};

void execute_load_matrix(void* const* arguments, uint32_t) {
  constexpr int kMatrices = 4, kRows = 8, kRowBytes = 16;
  const auto lane = [&](int i) -> LoadMatrix& { return *static_cast<LoadMatrix*>(arguments[i]); };
  const int first_thread = state.current->warp * kLanes;
  const bool transposed = lane(0).transposed;
  ++state.counts.load_matrix;
  for (int j = 0; j < kMatrices; ++j) {
    uint16_t matrix[kRows][8];
    const void* rows[kRows];
    for (int i = 0; i < kRows; ++i) {
      const int source = j * kRows + i;
      check_shared(lane(source).row, kRowBytes, kRowBytes, "ldmatrix");
      rows[i] = arena + lane(source).row;
      trace_as(first_thread + source, rows[i], kRowBytes, Access::kRead, lane(source).code);
      memcpy(matrix[i], rows[i], kRowBytes);
    }
    if (tracer) tracer->matrix_request(rows, lane(0).code);
    for (int i = 0; i < kLanes; ++i) {
      const int g = i / 4, t = i % 4 * 2;
      const uint32_t low = transposed ? matrix[t][g] : matrix[g][t];
      const uint32_t high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
      lane(i).r[j] = low | high << 16;
    }
  }
}

struct Mma {
  Element element;
  float* d;
  const uint32_t *a, *b;
};

/// Element h of the two that a register holds.
uint16_t half_of(uint32_t bits, int h) { return static_cast<uint16_t>(bits >> (16 * h)); }

void execute_mma(void* const* arguments, uint32_t) {
  constexpr int kM = 16, kN = 8, kMaxK = 16;
  const auto lane = [&](int i) -> const Mma& { return *static_cast<const Mma*>(arguments[i]); };
  const Element element = lane(0).element;
  const int k_size = element == Element::kTf32 ? 8 : 16;
  ++state.counts.mma;
  state.counts.matrix_multiply_adds += kM * kN * k_size;
  float a[kM][kMaxK], b[kMaxK][kN];
  double d[kM][kN];
  for (int i = 0; i < kLanes; ++i) {
    const Mma& m = lane(i);
    const int g = i / 4, t = i % 4;
    if (element == Element::kTf32) {
      for (int r = 0; r < 4; ++r) a[g + r % 2 * 8][t + r / 2 * 4] = tf32_to_float(m.a[r]);
      for (int r = 0; r < 2; ++r) b[t + r * 4][g] = tf32_to_float(m.b[r]);
    } else {
      for (int h = 0; h < 2; ++h) {
        for (int r = 0; r < 4; ++r) {
          a[g + r % 2 * 8][t * 2 + h + r / 2 * 8] = half_to_float(element, half_of(m.a[r], h));
        }
        for (int r = 0; r < 2; ++r) b[t * 2 + h + r * 8][g] = half_to_float(element, half_of(m.b[r], h));
      }
    }
    for (int r = 0; r < 4; ++r) d[g + r / 2 * 8][t * 2 + r % 2] = m.d[r];
  }
  for (int i = 0; i < kM; ++i) {
    for (int k = 0; k < k_size; ++k) {
      const double factor = a[i][k];
      for (int j = 0; j < kN; ++j) d[i][j] += factor * static_cast<double>(b[k][j]);
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    const int g = i / 4, t = i % 4;
    for (int r = 0; r < 4; ++r) lane(i).d[r] = static_cast<float>(d[g + r / 2 * 8][t * 2 + r % 2]);
  }
}

}  // namespace

float half_to_float(Element element, uint16_t bits) {
  if (element == Element::kBfloat16) return as_float(uint32_t{bits} << 16);
  // The exponent moves from bias 15 to bias 127 by a multiplication, which is right for subnormals too.
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const float magnitude = as_float(uint32_t{bits & 0x7fffu} << 13) * 0x1p112f;
  uint32_t result;
  memcpy(&result, &magnitude, sizeof result);
  if ((bits & 0x7c00) == 0x7c00) result |= 0x7f800000u;  // infinity and NaN
  return as_float(result | sign);
}

__attribute__((noinline)) void load_matrix(uint32_t* r, bool transposed, uint32_t row, Site site) {
  LoadMatrix mine{r, row, transposed, __builtin_return_address(0)};
  warp_collective(Operation::kLoadMatrix, kAllLanes, &mine, execute_load_matrix, site);
}

void mma(Element element, float* d, const uint32_t* a, const uint32_t* b, Site site) {
  Mma mine{element, d, a, b};
  warp_collective(Operation::kMma, kAllLanes, &mine, execute_mma, site);
}

}  // namespace fastconv::emulator
