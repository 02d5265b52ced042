#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "coordinator/state/rows.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

// Folds the ranks' step records into rows over all ranks. Pure. Reports are idempotent by (rank, step): one that is
// sent twice counts once. A step is ready once every rank has reported it; one that a lost report leaves open is
// folded from what is there when `kMaxOpenSteps` newer ones are open, or at Flush.
class StepFold {
 public:
  static constexpr int kMaxOpenSteps = 4096;
  // Rank rows are kept for all ranks up to 64, then for every (world/64)-th and the rank that came last.
  StepFold(int world, int incarnation);

  void Add(int rank, const StepBatch& batch);
  // The rows that became ready since the last call.
  TelemetryRows Take();
  // The rest as well, complete or not.
  TelemetryRows Flush();

  // Over the last few seconds of folded steps, for GetStatus.
  struct Recent {
    int64_t step = 0;
    double loss = 0, samples_per_s = 0, exposed_fraction = 0, step_s = 0;
  };
  Recent recent() const { return recent_; }
  int64_t dropped() const { return dropped_; }
  int64_t last_step_of(int rank) const;

 private:
  struct Open {
    std::map<int, StepRecord> by_rank;
  };
  const int world_, incarnation_;
  std::map<int64_t, Open> open_;
  TelemetryRows ready_;
  Recent recent_;
  int64_t dropped_ = 0;
};

}  // namespace lockstep
