#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/report/anatomy.h"
#include "coordinator/store/run_record.h"

namespace lockstep {

// A step over all ranks, as a report needs it.
struct StepFacts {
  int64_t step = 0;
  int incarnation = 0;
  double time = 0;  // seconds since 1970
  std::array<double, kParts> parts = {};
  double step_s = 0, step_max_s = 0, busy_s = 0, overlap_s = 0, wait_s = 0, interval_s = 0, loss = 0, clock_error_s = 0;
  int64_t samples = 0, grad_bytes = 0, wire_bytes = 0;
};

// What a rank's input did, means over the steps looked at.
struct InputFacts {
  int64_t steps = 0;
  double read_s = 0, decode_s = 0, ready = 0;
};

// A run's steps in bins of equally many, and in each of them some steps, one after the other, rank by rank.
struct RunSteps {
  std::vector<StepFacts> all;        // in order
  std::vector<size_t> bins;          // where each begins in `all`
  std::vector<StepTimes> looked_at;  // in order
  std::vector<StepTimes> meetings;   // of looked_at
  std::map<int, InputFacts> input;   // by rank
  std::map<int, double> wait_s;      // by rank, means
  // Ranks that are recorded in most of a launch's steps; others, where they were among the last.
  std::set<int> followed;
  // Null: not there.
  const StepFacts* Find(int64_t step) const;
  size_t BinOf(int64_t step) const;  // the last that begins at it or before
  size_t BinEnd(size_t bin) const { return bin + 1 < bins.size() ? bins[bin + 1] : all.size(); }
};

// `stretches`: already cut to the steps that are asked for. `period`: of the ranks' meetings, which are looked at as a
// whole. `places`: outlives what is read.
absl::StatusOr<RunSteps> ReadSteps(const std::vector<RunRecord::Stretch>& stretches, int64_t period,
                                   const RunRecord::Places& places, RunRecord* record);

}  // namespace lockstep
