#include "worker/comm/reduce.h"

#include <algorithm>

namespace lockstep {
namespace {

// Plain loops over restrict pointers: the compiler vectorises them, and memory bounds them.
template <typename T>
void ReduceAs(std::byte* into_bytes, const std::byte* from_bytes, int64_t count, ReduceOp op) {
  T* __restrict into = reinterpret_cast<T*>(into_bytes);
  const T* __restrict from = reinterpret_cast<const T*>(from_bytes);
  // `x != x`: a NaN wins whichever side it is on.
  switch (op) {
    case ReduceOp::kSum:
      for (int64_t i = 0; i < count; ++i) into[i] += from[i];
      return;
    case ReduceOp::kMin:
      for (int64_t i = 0; i < count; ++i) into[i] = (into[i] < from[i] || into[i] != into[i]) ? into[i] : from[i];
      return;
    case ReduceOp::kMax:
      for (int64_t i = 0; i < count; ++i) into[i] = (into[i] > from[i] || into[i] != into[i]) ? into[i] : from[i];
      return;
  }
}

// Loops without restrict, since `into` may be one of the sources, at the same place: no iteration reads what another
// has written, which is what `ivdep` promises.
void AddTwo(const float* a, const float* b, int64_t count, float* into) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) into[i] = a[i] + b[i];
}

void AddFour(const float* a, const float* b, const float* c, const float* d, int64_t count, float* into) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) into[i] = a[i] + b[i] + c[i] + d[i];
}

}  // namespace

void AddUp(absl::Span<const float* const> sources, int64_t first, int64_t count, float* into) {
  // In strips that stay in the first-level cache, since more sources than four take more passes than one.
  constexpr int64_t kStrip = 2048;
  const size_t n = sources.size();
  for (int64_t at = 0; at < count; at += kStrip) {
    const int64_t strip = std::min(kStrip, count - at);
    const auto source = [&](size_t k) { return sources[k] + first + at; };
    float sum[kStrip];
    // A partial sum must not stand where a source is still to be read.
    float* const to = n == 2 || n == 4 ? into + at : sum;
    size_t done = 1;
    const float* so_far = source(0);
    for (; n - done >= 3; done += 3, so_far = to) {
      AddFour(so_far, source(done), source(done + 1), source(done + 2), strip, to);
    }
    for (; done < n; ++done, so_far = to) AddTwo(so_far, source(done), strip, to);
    if (so_far != into + at) std::copy(so_far, so_far + strip, into + at);
  }
}

void Reduce(std::byte* into, const std::byte* from, int64_t count, DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kF32:
      return ReduceAs<float>(into, from, count, op);
    case DType::kF64:
      return ReduceAs<double>(into, from, count, op);
    case DType::kI64:
      // Sums wrap without undefined behaviour only as unsigned; the bits are the same.
      if (op == ReduceOp::kSum) return ReduceAs<uint64_t>(into, from, count, op);
      return ReduceAs<int64_t>(into, from, count, op);
    case DType::kU64:
      return ReduceAs<uint64_t>(into, from, count, op);
    case DType::kU8:
      return ReduceAs<uint8_t>(into, from, count, op);
  }
}

}  // namespace lockstep
