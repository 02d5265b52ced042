#pragma once

#include <cstdint>
#include <optional>

#include "lockstep/journal.pb.h"

namespace lockstep {

// Gathers the times of steps with one bucket size, for the coordinator to judge it by. Pure.
class BucketTimes {
 public:
  // From now on of `steps` steps, after a few with which a new size settles (scratch memory, what lies in caches).
  void Begin(double bucket_mb, int steps) {
    block_.Clear();
    block_.set_bucket_mb(bucket_mb);
    settling_ = kSettlingSteps;
    left_ = steps;
  }

  // Steps come in order. All that was asked for, once it is there.
  std::optional<BucketsMeasured> Took(int64_t step, double step_s) {
    if (left_ == 0 || settling_-- > 0) return std::nullopt;
    if (block_.step_s().empty()) block_.set_first_step(step);
    block_.set_last_step(step);
    block_.add_step_s(step_s);
    if (--left_ > 0) return std::nullopt;
    return block_;
  }

 private:
  static constexpr int kSettlingSteps = 3;

  BucketsMeasured block_;
  int settling_ = 0, left_ = 0;
};

}  // namespace lockstep
