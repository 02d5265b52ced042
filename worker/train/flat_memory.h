#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace lockstep {

// Where flat arrays of one shape lie relative to each other: parameters, then the optimizer's states, kFlatStride apart
// from a page's beginning. A pass over several arrays at once must not have them a multiple of 4 KiB apart, or nearly:
// a load whose address has the same low 12 bits as that of a store still under way waits for it. (Measured on 2 ranks
// of the mlp: the same update took 0.7 or 3.5 ms, by where the stack happened to be.) A quarter of a page between
// neighbours keeps four arrays apart: parameters, two states, and the block of gradients that is applied to them.
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
