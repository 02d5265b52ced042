#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace lockstep {

// Where flat arrays of one shape lie relative to each other: parameters, then the optimizer's states, FlatStride apart
// from a page's beginning. Arrays that are passed over together are not a multiple of 4 KiB apart, since a load whose
// address has the same low 12 bits as that of a store under way waits for it: a quarter of a page between neighbours
// keeps four apart, parameters, two states, and the block of gradients that is applied to them.
constexpr int64_t kPageElements = 1024;
constexpr int64_t kArrayShift = kPageElements / 4;

// Elements from one array to the next, for arrays of `elements`.
constexpr int64_t FlatStride(int64_t elements) {
  return (elements + kPageElements - 1) / kPageElements * kPageElements + kArrayShift;
}

// Zeros from a page's beginning on, on huge pages where the kernel gives them. Throws std::bad_alloc.
class FlatMemory {
 public:
  explicit FlatMemory(int64_t elements);
  ~FlatMemory();
  FlatMemory(const FlatMemory&) = delete;
  FlatMemory& operator=(const FlatMemory&) = delete;
  absl::Span<float> values() const { return values_; }

 private:
  absl::Span<float> values_;
};

}  // namespace lockstep
