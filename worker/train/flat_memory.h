#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace lockstep {

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
