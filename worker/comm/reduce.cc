#include "worker/comm/reduce.h"

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

}  // namespace

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
