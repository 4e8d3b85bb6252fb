// sum_splits.cuh -- second stage of a reduction that was split among blocks.
#pragma once
#include "device/dispatch.h"
#include "device/vector.h"

namespace fastconv {

struct SumSplitsTile {
  static constexpr int kThreads = 256;  // some neighbouring elements each
};

/// result[i] = sum over s, in order, of partial[s, i].
template <class T, int kElements>
__global__ void __launch_bounds__(SumSplitsTile::kThreads)
    sum_splits_kernel(const accumulator_t<T>* __restrict__ partial,  // [splits, elements]
                      T* __restrict__ result,                        // [elements], all written
                      int splits, int64_t elements) {
  const int64_t first = (int64_t{blockIdx.x} * SumSplitsTile::kThreads + threadIdx.x) * kElements;
  if (first >= elements) return;
  Vector<accumulator_t<T>, kElements> sum = load_vector<kElements>(partial + first);
  for (int split = 1; split < splits; ++split) {
    const auto more = load_vector<kElements>(partial + split * elements + first);
#pragma unroll
    for (int i = 0; i < kElements; ++i) sum[i] += more[i];
  }
  Vector<T, kElements> rounded;
#pragma unroll
  for (int i = 0; i < kElements; ++i) rounded[i] = narrow<T>(sum[i]);
  store_vector(result + first, rounded);
}

/// Enqueue the second stage; both arrays are aligned for vectors.
template <class T>
void launch_sum_splits(const accumulator_t<T>* partial, T* result, int splits, int64_t elements,
                       Address stream) {
  constexpr int kElements = 16 / sizeof(accumulator_t<T>);
  if (elements % kElements == 0) {
    FASTCONV_LAUNCH((sum_splits_kernel<T, kElements>),
                    blocks_for(elements, SumSplitsTile::kThreads * kElements), SumSplitsTile::kThreads, 0,
                    pointer<CUstream_st>(stream), partial, result, splits, elements);
  } else {
    FASTCONV_LAUNCH((sum_splits_kernel<T, 1>), blocks_for(elements, SumSplitsTile::kThreads),
                    SumSplitsTile::kThreads, 0, pointer<CUstream_st>(stream), partial, result, splits,
                    elements);
  }
}

}  // namespace fastconv
