#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace lockstep {

// The k-th largest magnitude of float32 values, exactly, by a radix selection over the magnitude's bits: three passes
// whatever the values are, in pieces. Infinities are larger than all numbers, and NaN is larger than infinities.
class MagnitudeSelection {
 public:
  // 1 <= k <= count.
  MagnitudeSelection(int64_t count, int64_t k) : count_(count), wanted_(k) { BeginPass(); }
  // The bits that order magnitudes.
  static uint32_t Magnitude(float value);

  static constexpr int kPasses = 3;
  int pass() const { return pass_; }    // kPasses: done
  int64_t next() const { return at_; }  // the value that this pass goes on with
  // The next `count` values of this pass.
  void Look(const float* values, int64_t count);

  // Once done: what is above the threshold is among the k largest, and so are `ties` of those that are on it.
  uint32_t threshold() const { return prefix_; }
  int64_t ties() const { return wanted_; }

 private:
  static constexpr std::array<int, kPasses> kBits = {11, 10, 10};
  static constexpr std::array<int, kPasses> kShift = {20, 10, 0};
  void BeginPass();
  void EndPass();
  void CountAll(const float* values, int64_t count);
  void CountMatching(const float* values, int64_t count);

  const int64_t count_;
  int64_t wanted_;  // of those that begin with prefix_
  int pass_ = 0;
  int64_t at_ = 0;
  uint32_t prefix_ = 0;  // the threshold's bits that are known
  std::vector<uint32_t> histogram_;
};

}  // namespace lockstep
