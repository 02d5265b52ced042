#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "absl/strings/string_view.h"

namespace lockstep {

// Randomness without state: numbers are a function of a key and a counter, the same on every machine and compiler, and
// number 10^12 costs what number 1 costs. Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
// (SC 2011); checked against the authors' known answers.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A well-mixed 64-bit key out of several numbers: Mix({seed, kAugment, epoch, sample}).
// What the key is for stands in the first numbers, so that no two uses share a stream.
uint64_t Mix(std::initializer_list<uint64_t> parts);

// The numbers of one key, in order. Cheap to make; not thread-safe.
class StableRandom {
 public:
  explicit StableRandom(uint64_t key) : key_(key) {}
  uint32_t Next32();
  uint64_t Next64();
  // Uniform in [0, 1), 53 bits.
  double Uniform();
  // Uniform in [0, bound), exactly; bound > 0.
  uint64_t Below(uint64_t bound);
  // Standard normal (Box and Muller 1958). The last bit follows the system's libm:
  // where bytes must agree everywhere, use integers.
  double Normal();

 private:
  const uint64_t key_;
  uint64_t block_ = 0;
  int used_ = 4;
  std::array<uint32_t, 4> numbers_{};
};

}  // namespace lockstep
