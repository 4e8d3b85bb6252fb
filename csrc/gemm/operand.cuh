// operand.cuh -- a thread's share of an operand on its way from global to shared memory.
#pragma once
#include "gemm/multiply.cuh"

namespace fastconv {

/// kLoad elements in registers, and which of them are outside.
template <class Tile>
struct GemmRegisters {
  using T = typename Tile::Element;
  using Sum = typename Tile::Sum;
  T value[Tile::kLoad];

  /// All of them by vectors from p, which is aligned for them.
  __device__ __forceinline__ void load(const T* p) {
#pragma unroll
    for (int i = 0; i < Tile::kLoad; i += kVector<T>) {
      const auto vector = load_vector<kVector<T>>(p + i);
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) value[i + j] = vector[j];
    }
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) value[i] = narrow<T>(0);
  }
  __device__ __forceinline__ void widened(Sum (&wide)[Tile::kLoad]) const {
#pragma unroll
    for (int i = 0; i < Tile::kLoad; ++i) wide[i] = widen(value[i]);
  }
};

/// Collects whether some element was an infinity or NaN.
template <class Sum>
struct FiniteCheck {
  Sum zero = 0;
  template <int kCount>
  __device__ __forceinline__ void add(const Sum (&value)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) zero = multiply_add(value[i], Sum(0), zero);
  }
  __device__ __forceinline__ bool failed() const { return !(zero == 0); }
};

/// An operand that is a plain matrix. Its rows are the rows of c, or its columns where it stands right.
/// kAlongDepth: whether its depth is known to be contiguous.
template <class Tile, bool kAlongDepth = false>
class MatrixOperand {
  using T = typename Tile::Element;

 public:
  /// Where a block's part of the matrix lies.
  struct Matrix {
    const T* p;        // [rows, depth] or [depth, rows]: its element (0, 0)
    int64_t pitch;     // elements from one row, or depth, to the next
    int64_t depth;     // its whole length
    int rows;          // how many are left from the first row of the tile on
    bool along_depth;  // whether depth is contiguous, and not the rows
    bool vectors;      // whether all of it is aligned for vectors of kLoad elements
  };

  __device__ MatrixOperand(const Matrix& m, int thread) : rows_(m.rows), vectors_(m.vectors) {
    if (kAlongDepth || m.along_depth) {
      share_ = m.vectors ? GemmShare::depth_vectors<Tile>(thread) : GemmShare::depth_elements<Tile>(thread);
      p_ = m.p + share_.row * m.pitch + share_.depth;
      stride_ = share_.step * m.pitch;
      advance_ = Tile::kDepth;
    } else {
      share_ = m.vectors ? GemmShare::row_vectors<Tile>(thread) : GemmShare::row_elements<Tile>(thread);
      p_ = m.p + share_.depth * m.pitch + share_.row;
      stride_ = share_.step;
      advance_ = Tile::kDepth * m.pitch;
    }
    left_ = static_cast<decltype(left_)>(m.depth - share_.depth);
  }

  __device__ __forceinline__ void fetch() {
    if (vectors_) {
      if (left_ > 0 && share_.row < rows_) {
        registers_.load(p_);
      } else {
        registers_.clear();
      }
    } else {
#pragma unroll
      for (int i = 0; i < Tile::kLoad; ++i) {
        const bool inside = left_ > 0 && share_.row + i * share_.step < rows_;
        registers_.value[i] = inside ? p_[i * stride_] : narrow<T>(0);
      }
    }
    p_ += kAlongDepth ? Tile::kDepth : advance_;
    left_ -= Tile::kDepth;
  }

  __device__ __forceinline__ void stash(typename Tile::Sum* panel) {
    typename Tile::Sum wide[Tile::kLoad];
    registers_.widened(wide);
    check_.add(wide);
    fastconv::stash<Tile>(panel, share_, wide);
  }
  __device__ __forceinline__ bool not_finite() const { return check_.failed(); }

 private:
  GemmRegisters<Tile> registers_;
  FiniteCheck<typename Tile::Sum> check_;
  GemmShare share_;
  const T* p_;
  int64_t stride_, advance_;
  std::conditional_t<kAlongDepth, int32_t, int64_t>
      left_;  // depths from here on; a gather counts fewer than 2^31
  int rows_;
  bool vectors_;
};

}  // namespace fastconv
