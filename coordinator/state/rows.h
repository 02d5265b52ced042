#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lockstep/telemetry.pb.h"

namespace lockstep {

// A step over all ranks: a row of `step`. Parts are means over the ranks.
struct StepRow {
  StepRecord mean;  // means of the parts; sums of samples and wire_bytes; collectives and arrival unset
  double time = 0;  // seconds since 1970 at the step's start (earliest rank)
  double loss = 0;  // mean over samples
  double step_max_s = 0;
  double overlap_ratio = 0;  // sum of overlap over sum of busy
  int last_rank = -1;        // that arrived last; -1: unknown
  int incarnation = 0;
};

struct RankStepRow {
  StepRecord record;
  int rank = 0;
  int incarnation = 0;
};

struct CollectiveRow {
  int64_t step = 0;
  int seq = 0;
  int incarnation = 0;
  std::string name, algorithm;
  int64_t grad_bytes = 0, wire_bytes = 0;
  double first_arrival = 0, last_arrival = 0, end = 0;
  int last_rank = -1;
  double algbw = 0, busbw = 0;  // bytes/s
};

// What the fold has ready for the database: one transaction.
struct TelemetryRows {
  std::vector<StepRow> steps;
  std::vector<RankStepRow> rank_steps;
  std::vector<CollectiveRow> collectives;
  bool empty() const { return steps.empty() && rank_steps.empty() && collectives.empty(); }
};

}  // namespace lockstep
