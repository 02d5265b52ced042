#include "worker/comm/magnitude_selection.h"

#include <algorithm>
#include <cstring>

namespace lockstep {
namespace {

// Histograms of the first pass, which most values of a piece would have the same counters of: an increment would wait
// for the one before.
constexpr int kHistograms = 4;
// Values that a later pass passes over at once if none of them begins with the prefix.
constexpr int64_t kBlock = 32;

}  // namespace

uint32_t MagnitudeSelection::Magnitude(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & 0x7fffffff;
}

void MagnitudeSelection::BeginPass() {
  at_ = 0;
  histogram_.assign((pass_ == 0 ? kHistograms : 1) << kBits[pass_], 0);
}

void MagnitudeSelection::EndPass() {
  const int64_t bins = int64_t{1} << kBits[pass_];
  if (pass_ == 0) {
    for (int64_t i = bins; i < kHistograms * bins; ++i) histogram_[i % bins] += histogram_[i];
  }
  int64_t bin = bins - 1;
  for (; histogram_[bin] < wanted_; --bin) wanted_ -= histogram_[bin];
  prefix_ = prefix_ << kBits[pass_] | static_cast<uint32_t>(bin);
  if (++pass_ < kPasses) BeginPass();
}

void MagnitudeSelection::CountAll(const float* values, int64_t count) {
  const int shift = kShift[0], bits = kBits[0];
  for (int64_t i = 0; i < count; ++i) {
    ++histogram_[(static_cast<uint32_t>(i) % kHistograms << bits) + (Magnitude(values[i]) >> shift)];
  }
}

void MagnitudeSelection::CountMatching(const float* values, int64_t count) {
  const int shift = kShift[pass_], above = kShift[pass_ - 1];
  const uint32_t mask = (uint32_t{1} << kBits[pass_]) - 1, prefix = prefix_;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    uint32_t matching = 0;
    for (int64_t i = begin; i < end; ++i) matching += Magnitude(values[i]) >> above == prefix ? 1 : 0;
    if (matching == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t magnitude = Magnitude(values[i]);
      if (magnitude >> above == prefix) ++histogram_[magnitude >> shift & mask];
    }
  }
}

void MagnitudeSelection::Look(const float* values, int64_t count) {
  if (pass_ == 0) {
    CountAll(values, count);
  } else {
    CountMatching(values, count);
  }
  at_ += count;
  if (at_ == count_) EndPass();
}

}  // namespace lockstep
