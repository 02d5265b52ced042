#pragma once

#include <cstdint>
#include <vector>

#include "lockstep/run_config.pb.h"

namespace lockstep {

// The faults that a config puts into the parts of a step (`inject`), for one rank. Any thread.
class Faults {
 public:
  Faults(const RunConfig& config, int rank, int world);
  // Seconds by which a part of this step is held up, and how many times as long as it takes it is to take.
  double DelayOf(StepPart part, int64_t step) const;
  double FactorOf(StepPart part, int64_t step) const;
  // Whether nothing of this step is to be recorded.
  bool Unmeasured(int64_t step) const;
  // At the beginning of a part of this step: sleeps for what is asked for; nothing nearly always.
  void Hold(StepPart part, int64_t step) const;
  // At its end: what began at `start_ns` (MonotonicNanos) takes as many times as long as is asked for, computing.
  void Stretch(StepPart part, int64_t step, int64_t start_ns) const;

 private:
  static bool IsIn(const Inject& inject, int64_t step);
  // Whether `inject` counts in this part of this step, on this rank.
  bool Strikes(const Inject& inject, StepPart part, int64_t step) const;

  const uint64_t seed_;
  const int rank_, world_;
  std::vector<Inject> mine_;
};

}  // namespace lockstep
