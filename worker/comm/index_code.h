#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep {

// `count` ascending indices below `bound` in few bits, whose number depends on `count` and `bound` alone: the code of
// Elias (1974) and Fano (1971). The low bits of each index stand as they are; the high parts, which ascend, in unary, a
// 1 for each index after as many 0s as the parts have grown. At 1 of 100 that is 8.6 bits an index, where the least
// possible is 8.1. Bit i of a code is bit i % 8 of byte i / 8.
class IndexCode {
 public:
  // 0 <= count <= bound <= 2^32.
  IndexCode(int64_t count, int64_t bound);
  int64_t bytes() const { return low_bytes_ + high_bytes_; }
  void Encode(const uint32_t* indices, std::byte* to) const;
  // False: the bytes are no such code.
  bool Decode(const std::byte* from, uint32_t* indices) const;

 private:
  const int64_t count_, bound_;
  const int low_bits_;
  const int64_t low_bytes_, high_bytes_;
};

}  // namespace lockstep
