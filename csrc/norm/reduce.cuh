// reduce.cuh -- what the reductions of normalisation share: walks over memory and merges in a fixed order.
//
// A reduction has two stages: each of `splits` blocks sums its share and leaves a State in partial
// [splits, numbers, sums], and a second kernel merges these in a fixed order. With one split the block itself
// finishes.
#pragma once
#include "device/vector.h"
#include "device/warp.h"
#include "divisor.h"
#include "norm/shape.h"

namespace fastconv {

struct NormReduceTile {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocks =
      2;  // 128 registers a thread: left alone, the compiler saves some and spills
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kMomentUnits = 4;   // vectors that a thread has in flight when it reads one array
  static constexpr int kProductUnits = 2;  // and when it reads two or three
  static constexpr int kColumnUnits = 64;  // most vectors of channels that a block spans, channels last
  static constexpr int kJoinThreads =
      kWarp * kWarp;  // a warp reads neighbouring sums, then merges one of them
  static_assert(kThreads % kWarp == 0 && kColumnUnits <= kThreads, "whole warps, at least a pixel a pass");
};

constexpr int kSector = 32;  // bytes that memory is read in

__host__ __device__ __forceinline__ float square_root(float value) { return sqrtf(value); }
__host__ __device__ __forceinline__ double square_root(double value) { return sqrt(value); }

template <class A>
__device__ __forceinline__ A inverse_deviation(A variance, A eps) {
  return A(1) / square_root(variance + eps);
}

/// V neighbouring numbers, several at once where they are aligned.
template <class T, int V>
__device__ __forceinline__ void load_wide(const T* p, accumulator_t<T> (&value)[V]) {
  constexpr int kWidth = V < kVector<T> ? V : kVector<T>;
  if (reinterpret_cast<uintptr_t>(p) % (kWidth * sizeof(T)) == 0) {
#pragma unroll
    for (int first = 0; first < V; first += kWidth) {
      const Vector<T, kWidth> loaded = load_vector<kWidth>(p + first);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) value[first + v] = widen(loaded[v]);
    }
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) value[v] = widen(p[v]);
  }
}

/// w or b of V channels from `channel` on, or `absent` for each where there are none.
template <class T, int V>
__device__ __forceinline__ void load_channels(const T* channels,  // [C], or nullptr
                                              accumulator_t<T> absent, int64_t channel,
                                              accumulator_t<T> (&value)[V]) {
  if (channels) {
    load_wide(channels + channel, value);
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) value[v] = absent;
  }
}

/// Which statistic a channel of an image has: statistic(n, c) = n * image_step + c / members.
struct StatisticOf {
  int64_t image_step;
  int32_t members;

  __device__ __forceinline__ int64_t operator()(int64_t image, int64_t channel) const {
    return image * image_step + quotient(channel, members);
  }
  /// The first value of the first pixel of an image, for the statistics of V channels from `channel` on.
  template <class T, int V>
  __device__ __forceinline__ void load_first(const T* image,  // [rows, C]
                                             int64_t channel, accumulator_t<T> (&value)[V]) const {
    if (members == 1) {
      load_wide(image + channel, value);
      return;
    }
    const int64_t first = quotient(channel, members);
    value[0] = widen(image[first * members]);
#pragma unroll
    for (int v = 1; v < V; ++v) {
      const int64_t group = quotient(channel + v, members);
      value[v] = group == first ? value[0] : widen(image[group * members]);
    }
  }
  /// What an array of numbers of statistics holds for V channels from `channel` on.
  template <class A, int V>
  __device__ __forceinline__ void load(const A* numbers,  // [statistics]
                                       int64_t image, int64_t channel, A (&value)[V]) const {
    const A* first = numbers + (*this)(image, channel);
    if (members == 1) {
      load_wide(first, value);
      return;
    }
    value[0] = *first;
    const bool together = quotient(channel + V - 1, members) == quotient(channel, members);
#pragma unroll
    for (int v = 1; v < V; ++v) value[v] = together ? value[0] : numbers[(*this)(image, channel + v)];
  }
};

/// The gradient that passes a ReLU with output y: none where y is 0 or less, all where it is NaN.
template <class A>
__device__ __forceinline__ A masked(A dy, A y) {
  return y <= A(0) ? A(0) : dy;
}

/// What values are counted from, so that a mean that is large beside the deviation costs no digits.
template <class A>
__device__ __forceinline__ A origin_of(A first) {
  return first - first == A(0) ? first : A(0);  // not if it is infinite or NaN: that has to reach the mean
}

/// Count, sum and sum of squared differences from the mean of some values, all less their origin.
template <class A>
struct Moments {
  using Number = A;
  static constexpr int kNumbers = 3;
  A number[kNumbers] = {};

  /// Source: Chan, Golub & LeVeque, Algorithms for computing the sample variance, The American
  /// Statistician 37(3), 1983. It keeps sums, not means, so that an infinite value gives an infinite mean.
  __device__ __forceinline__ void merge(const Moments& other) {
    const A more = other.number[0], count = number[0], total = count + more;
    if (more == A(0)) return;
    if (count != A(0)) {
      const A apart = other.number[1] / more - number[1] / count;
      number[2] = multiply_add(apart * apart, count * (more / total), number[2]);
    }
    number[0] = total;
    number[1] += other.number[1];
    number[2] += other.number[2];
  }
};

/// Sum of dy, and of dy times normalised x.
template <class A>
struct Products {
  using Number = A;
  static constexpr int kNumbers = 2;
  A number[kNumbers] = {};

  __device__ __forceinline__ void merge(const Products& other) {
    number[0] += other.number[0];
    number[1] += other.number[1];
  }
};

/// Lane 0 gets what all lanes of the warp hold, merged as a tree.
template <class State>
__device__ __forceinline__ State warp_merged(State state) {
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    State other;
#pragma unroll
    for (int k = 0; k < State::kNumbers; ++k) {
      other.number[k] = __shfl_down_sync(kFullMask, state.number[k], apart);
    }
    state.merge(other);
  }
  return state;
}

/// Every thread gets what kThreads neighbours hold, merged: a warp, or a block of NormReduceTile::kThreads.
template <int kThreads, class State>
__device__ __forceinline__ State all_merged(State state) {
  static_assert(kThreads == kWarp || kThreads == NormReduceTile::kThreads, "a warp or the block");
  state = warp_merged(state);
  if constexpr (kThreads == kWarp) {
#pragma unroll
    for (int k = 0; k < State::kNumbers; ++k) {
      state.number[k] = __shfl_sync(kFullMask, state.number[k], 0);
    }
    return state;
  } else {
    using A = typename State::Number;
    FASTCONV_SHARED(A, of_warp, [NormReduceTile::kWarps][State::kNumbers]);
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int k = 0; k < State::kNumbers; ++k) of_warp[threadIdx.x / kWarp][k] = state.number[k];
    }
    __syncthreads();
    State total;
#pragma unroll
    for (int warp = 0; warp < NormReduceTile::kWarps; ++warp) {
      State other;
#pragma unroll
      for (int k = 0; k < State::kNumbers; ++k) other.number[k] = of_warp[warp][k];
      total.merge(other);
    }
    return total;
  }
}

/// The State of a split of V neighbouring sums, to partial [splits, kNumbers, sums].
template <class State, class A, int V>
__device__ __forceinline__ void store_parts(A* partial, int64_t split, int64_t sums, int64_t sum,
                                            const State (&state)[V]) {
  A* p = partial + split * State::kNumbers * sums + sum;
#pragma unroll
  for (int k = 0; k < State::kNumbers; ++k, p += sums) {
    constexpr int kWidth = V < kVector<A> ? V : kVector<A>;
    const bool whole = reinterpret_cast<uintptr_t>(p) % (kWidth * sizeof(A)) == 0;
#pragma unroll
    for (int first = 0; first < V; first += kWidth) {
      Vector<A, kWidth> numbers;
#pragma unroll
      for (int v = 0; v < kWidth; ++v) numbers[v] = state[first + v].number[k];
      if (whole) {
        store_vector(p + first, numbers);
      } else {
#pragma unroll
        for (int v = 0; v < kWidth; ++v) p[first + v] = numbers[v];
      }
    }
  }
}

/// Merge what partial [splits, kNumbers, sums] holds at `part` of the sums from `first` on into state: member
/// after member, split after split.
template <class State, class A>
__device__ __forceinline__ void merge_part(State& state, const A* partial, int64_t sums, int64_t first,
                                           int64_t members, int64_t part) {
  const int64_t split = quotient(part, members);
  const A* p = partial + split * State::kNumbers * sums + first + (part - split * members);
  State other;
#pragma unroll
  for (int k = 0; k < State::kNumbers; ++k) other.number[k] = p[k * sums];
  state.merge(other);
}

/// For a block of kJoinThreads: lane 0 of each warp gets the merged State of result blockIdx.x * kWarp + its
/// warp, which all splits of `members` neighbouring sums are parts of.
template <class State, class A>
__device__ __forceinline__ State parts_merged(const A* partial,  // [splits, kNumbers, sums]
                                              int64_t splits, int64_t sums, int64_t members) {
  FASTCONV_SHARED(A, held, [State::kNumbers][kWarp][kWarp + 1]);  // the last column keeps banks apart
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const bool side_by_side = members >= kSector / static_cast<int64_t>(sizeof(A));
  // Lanes read neighbours: parts of one result, or else parts of neighbouring results.
  const int64_t first = (int64_t{blockIdx.x} * kWarp + (side_by_side ? warp : lane)) * members;
  State state;
  if (first < sums) {
    for (int64_t part = side_by_side ? lane : warp; part < splits * members; part += kWarp) {
      merge_part(state, partial, sums, first, members, part);
    }
  }
  if (!side_by_side) {
#pragma unroll
    for (int k = 0; k < State::kNumbers; ++k) held[k][warp][lane] = state.number[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < State::kNumbers; ++k) state.number[k] = held[k][lane][warp];
  }
  return warp_merged(state);
}

/// A thread's way through a share of the runs of a statistic, `width` elements at a time; neighbours in
/// `threads` take neighbouring units.
class Walk {
 public:
  __device__ Walk(const Runs& runs, int width, int64_t split, int64_t splits, int thread, int threads)
      : stride_(runs.stride), width_(width), per_run_(runs.length / width), threads_(threads) {
    const int64_t units = runs.runs * per_run_;
    at_ = units * split / splits + thread;
    end_ = units * (split + 1) / splits;
    run_ = at_ / per_run_;
    unit_ = at_ - run_ * per_run_;
    run_step_ = threads / per_run_;
    unit_step_ = threads - run_step_ * per_run_;
  }
  __device__ __forceinline__ bool inside() const { return at_ < end_; }
  __device__ __forceinline__ int64_t run() const { return run_; }
  __device__ __forceinline__ int64_t position() const { return unit_ * width_; }  // in the run
  __device__ __forceinline__ int64_t offset() const { return run_ * stride_ + position(); }
  __device__ __forceinline__ void next() {
    at_ += threads_;
    run_ += run_step_;
    unit_ += unit_step_;
    if (unit_ >= per_run_) {
      unit_ -= per_run_;
      ++run_;
    }
  }

 private:
  int64_t stride_, width_, per_run_, at_, end_, run_, unit_, run_step_, unit_step_;
  int threads_;
};

/// How blocks share [images, rows, C] with channels innermost: a block has some vectors of channels of some
/// rows of one image, a thread one of these vectors in every `pixels`-th row.
struct Columns {
  int64_t images, rows, channels;
  int32_t units;   // vectors of channels of a block
  int32_t chunks;  // blocks side by side over the channels
  int32_t pixels;  // rows that a block reads at once
  int64_t splits;  // blocks one below the other over the rows of an image
  int64_t blocks() const { return images * splits * chunks; }
};

inline Columns columns_of(int64_t images, int64_t rows, int64_t channels, int width, int64_t splits) {
  const int64_t all = channels / width;
  const int64_t chunks = (all + NormReduceTile::kColumnUnits - 1) / NormReduceTile::kColumnUnits;
  const int64_t units = (all + chunks - 1) / chunks;
  return {images,
          rows,
          channels,
          static_cast<int32_t>(units),
          static_cast<int32_t>(chunks),
          static_cast<int32_t>(NormReduceTile::kThreads / units),
          splits};
}

/// A thread's share of Columns.
struct ColumnShare {
  int64_t image, split, channel, row, end;
  int pixel;
  bool active;

  __device__ ColumnShare(const Columns& c, int width) {
    const int64_t above = blockIdx.x / c.chunks;
    image = above / c.splits;
    split = above % c.splits;
    pixel = threadIdx.x / c.units;
    channel = (int64_t{blockIdx.x % c.chunks} * c.units + threadIdx.x % c.units) * width;
    active = pixel < c.pixels && channel < c.channels;
    row = c.rows * split / c.splits + pixel;
    end = c.rows * (split + 1) / c.splits;
  }
};

/// Threads of pixel 0 get what all pixels of their channels hold, merged as a tree. Every thread of the block
/// has to call it; those that are not active hold nothing.
template <class State, int V>
__device__ __forceinline__ void merge_pixels(State (&state)[V], const Columns& c) {
  using A = typename State::Number;
  FASTCONV_SHARED(A, held, [V * State::kNumbers][NormReduceTile::kThreads]);
  const int thread = threadIdx.x, pixel = thread / c.units;
  for (int below = c.pixels; below > 1;) {
    const int kept = (below + 1) / 2;
    if (pixel >= kept && pixel < below) {
#pragma unroll
      for (int i = 0; i < V * State::kNumbers; ++i) {
        held[i][thread] = state[i / State::kNumbers].number[i % State::kNumbers];
      }
    }
    __syncthreads();
    if (pixel + kept < below) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        State other;
#pragma unroll
        for (int k = 0; k < State::kNumbers; ++k) {
          other.number[k] = held[v * State::kNumbers + k][thread + kept * c.units];
        }
        state[v].merge(other);
      }
    }
    below = kept;  // the next pass writes what lies above and reads what nobody reads now
  }
}

}  // namespace fastconv
