#include "worker/comm/low_rank.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lockstep {
namespace {

// What a column's square shrinks to, at least, if all that is left of it is rounding: float32 has 2^-24 = 6e-8, its
// square grows with the rows.
constexpr double kNothingNew = 1e-10;

// Columns whose parts of Q stay in the first-level cache while rows go by.
constexpr int64_t kBlockColumns = 512;

// Independent sums of a dot product, so that additions overlap. The number is part of the result: the same whatever the
// processor's vectors are.
constexpr int64_t kLanes = 16;

using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));

template <typename V>
[[gnu::always_inline]] inline void Load(const float* from, V* to) {
  std::memcpy(to, from, sizeof(V));
}

template <typename V>
[[gnu::always_inline]] inline void Store(const V& from, float* to) {
  std::memcpy(to, &from, sizeof(V));
}

// sums[k · stride] = row · q[k], for kCount factors.
template <typename V, int kCount>
[[gnu::always_inline]] inline void Dots(const float* row, int64_t columns, const float* q, float* sums,
                                        int64_t stride) {
  constexpr int kSize = sizeof(V) / sizeof(float), kParts = kLanes / kSize;
  V sum[kCount][kParts] = {};
  int64_t j = 0;
  for (; j + kLanes <= columns; j += kLanes) {
    V values[kParts], factor;
    for (int part = 0; part < kParts; ++part) Load(row + j + part * kSize, &values[part]);
    for (int k = 0; k < kCount; ++k) {
      for (int part = 0; part < kParts; ++part) {
        Load(q + k * columns + j + part * kSize, &factor);
        sum[k][part] += values[part] * factor;
      }
    }
  }
  for (int k = 0; k < kCount; ++k) {
    float lanes[kLanes];
    std::memcpy(lanes, sum[k], sizeof(lanes));
    for (int64_t t = j; t < columns; ++t) lanes[t - j] += row[t] * q[k * columns + t];
    for (int64_t width = kLanes / 2; width > 0; width /= 2) {
      for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    sums[k * stride] = lanes[0];
  }
}

template <typename V>
[[gnu::always_inline]] inline void AddAndProjectBy(const float* gradients, int64_t rows, int64_t columns,
                                                   const float* q, int rank, float* m, float* p, int64_t p_rows) {
  constexpr int kAtOnce = sizeof(V) / 8;  // as many sums as there are registers for
  for (int64_t i = 0; i < rows; ++i) {
    float* __restrict const row = m + i * columns;
    const float* __restrict const added = gradients + i * columns;
    for (int64_t j = 0; j < columns; ++j) row[j] += added[j];
    int k = 0;
    for (; k + kAtOnce <= rank; k += kAtOnce) {
      Dots<V, kAtOnce>(row, columns, q + k * columns, p + k * p_rows + i, p_rows);
    }
    for (; k < rank; ++k) Dots<V, 1>(row, columns, q + k * columns, p + k * p_rows + i, p_rows);
  }
}

// q[j] += m[0][j] a[0] + m[1][j] a[1] + …, of kRows rows.
template <typename V, int kRows>
[[gnu::always_inline]] inline void AddRows(const float* m, int64_t columns, int64_t begin, int64_t end,
                                           const float* factors, float* q) {
  constexpr int64_t kSize = sizeof(V) / sizeof(float);
  int64_t j = begin;
  for (; j + kSize <= end; j += kSize) {
    V sum, values;
    Load(q + j, &sum);
    for (int row = 0; row < kRows; ++row) {
      Load(m + row * columns + j, &values);
      sum += values * factors[row];
    }
    Store(sum, q + j);
  }
  for (; j < end; ++j) {
    for (int row = 0; row < kRows; ++row) q[j] += m[row * columns + j] * factors[row];
  }
}

template <typename V>
[[gnu::always_inline]] inline void ProjectBackBy(const float* m, int64_t rows, int64_t columns, const float* p,
                                                 int64_t p_rows, int rank, float* q) {
  constexpr int kAtOnce = 4;
  for (int64_t begin = 0; begin < columns; begin += kBlockColumns) {
    const int64_t end = std::min(columns, begin + kBlockColumns);
    int64_t i = 0;
    for (; i + kAtOnce <= rows; i += kAtOnce) {
      for (int k = 0; k < rank; ++k) {
        AddRows<V, kAtOnce>(m + i * columns, columns, begin, end, p + k * p_rows + i, q + k * columns);
      }
    }
    for (; i < rows; ++i) {
      for (int k = 0; k < rank; ++k) {
        AddRows<V, 1>(m + i * columns, columns, begin, end, p + k * p_rows + i, q + k * columns);
      }
    }
  }
}

// One row, from column `begin` to `end`.
template <typename V>
[[gnu::always_inline]] inline void RebuildRow(const float* p, int64_t p_rows, int64_t columns, int64_t begin,
                                              int64_t end, const float* q, const float* own_q, int rank,
                                              float* gradients, float* m) {
  constexpr int64_t kSize = sizeof(V) / sizeof(float);
  int64_t j = begin;
  for (; j + kSize <= end; j += kSize) {
    V rest, sum = {}, all, own;
    Load(m + j, &rest);
    for (int k = 0; k < rank; ++k) {
      Load(q + k * columns + j, &all);
      Load(own_q + k * columns + j, &own);
      sum += all * p[k * p_rows];
      rest -= own * p[k * p_rows];
    }
    Store(sum, gradients + j);
    Store(rest, m + j);
  }
  for (; j < end; ++j) {
    float sum = 0;
    for (int k = 0; k < rank; ++k) {
      sum += q[k * columns + j] * p[k * p_rows];
      m[j] -= own_q[k * columns + j] * p[k * p_rows];
    }
    gradients[j] = sum;
  }
}

template <typename V>
[[gnu::always_inline]] inline void RebuildBy(const float* p, int64_t p_rows, int64_t rows, int64_t columns,
                                             const float* q, const float* own_q, int rank, float* gradients, float* m) {
  for (int64_t begin = 0; begin < columns; begin += kBlockColumns) {
    const int64_t end = std::min(columns, begin + kBlockColumns);
    for (int64_t i = 0; i < rows; ++i) {
      RebuildRow<V>(p + i, p_rows, columns, begin, end, q, own_q, rank, gradients + i * columns, m + i * columns);
    }
  }
}

#if defined(__x86_64__)
#define LOCKSTEP_AVX2 [[gnu::target("avx2")]]

LOCKSTEP_AVX2 void AddAndProjectAvx2(const float* gradients, int64_t rows, int64_t columns, const float* q, int rank,
                                     float* m, float* p, int64_t p_rows) {
  AddAndProjectBy<Float8>(gradients, rows, columns, q, rank, m, p, p_rows);
}
LOCKSTEP_AVX2 void ProjectBackAvx2(const float* m, int64_t rows, int64_t columns, const float* p, int64_t p_rows,
                                   int rank, float* q) {
  ProjectBackBy<Float8>(m, rows, columns, p, p_rows, rank, q);
}
LOCKSTEP_AVX2 void RebuildAvx2(const float* p, int64_t p_rows, int64_t rows, int64_t columns, const float* q,
                               const float* own_q, int rank, float* gradients, float* m) {
  RebuildBy<Float8>(p, p_rows, rows, columns, q, own_q, rank, gradients, m);
}

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}
#endif

// In double, which the squares of tiny gradients need.
double Dot(const float* a, const float* b, int64_t count) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int64_t lane = 0; lane < kSums; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) sums[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

}  // namespace

void AddAndProject(const float* gradients, int64_t rows, int64_t columns, const float* q, int rank, float* m, float* p,
                   int64_t p_rows) {
#if defined(__x86_64__)
  if (HasAvx2()) return AddAndProjectAvx2(gradients, rows, columns, q, rank, m, p, p_rows);
#endif
  AddAndProjectBy<Float4>(gradients, rows, columns, q, rank, m, p, p_rows);
}

void ProjectBack(const float* m, int64_t rows, int64_t columns, const float* p, int64_t p_rows, int rank, float* q) {
#if defined(__x86_64__)
  if (HasAvx2()) return ProjectBackAvx2(m, rows, columns, p, p_rows, rank, q);
#endif
  ProjectBackBy<Float4>(m, rows, columns, p, p_rows, rank, q);
}

void Rebuild(const float* p, int64_t p_rows, int64_t rows, int64_t columns, const float* q, const float* own_q,
             int rank, float* gradients, float* m) {
#if defined(__x86_64__)
  if (HasAvx2()) return RebuildAvx2(p, p_rows, rows, columns, q, own_q, rank, gradients, m);
#endif
  RebuildBy<Float4>(p, p_rows, rows, columns, q, own_q, rank, gradients, m);
}

void Orthonormalise(int64_t rows, int rank, float* p) {
  for (int k = 0; k < rank; ++k) {
    float* const column = p + k * rows;
    const double before = Dot(column, column, rows);
    for (int pass = 0; pass < 2; ++pass) {
      for (int earlier = 0; earlier < k; ++earlier) {
        const float* const other = p + earlier * rows;
        const auto along = static_cast<float>(Dot(column, other, rows));
        for (int64_t i = 0; i < rows; ++i) column[i] -= along * other[i];
      }
    }
    const double after = Dot(column, column, rows);
    const bool nothing_new = after <= before * kNothingNew;  // false for NaN, which goes on into the result
    const double scale = nothing_new ? 0 : 1 / std::sqrt(after);
    for (int64_t i = 0; i < rows; ++i) column[i] = static_cast<float>(column[i] * scale);
  }
}

}  // namespace lockstep
