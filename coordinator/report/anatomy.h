#pragma once

#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "lockstep/report.pb.h"

namespace lockstep {

// What holds the steps of a run up, and what removing it would save. Pure.
//
// The model of a step: every rank works alone until it arrives at the step's reduction, the last arrival begins the
// transfer that nobody's computing hides, and after it all go on:
//
//   step = max over ranks of work + transfer      work: all of the rank's time since the last reduction but what it
//                                                 stood still for communication; transfer: what the rank that waits
//                                                 least stood still
//
// That is exact where all are let go at once. Ranks that send ahead are not: one that comes late finds what the others
// have sent already and is let go before them, which makes up for some of it in the next step. So where the ranks' clocks
// tell, work counts from when the last rank was let go, and transfer ends there: the same sum, over one clock.
//
// What removing a cause would save is the same maximum without it: a late rank whose work is brought to where the other
// ranks' is, waiting for data left out, no transfer. Who is late, its own work says.

// The parts of a step, as telemetry.proto has them.
enum Part { kDataWait, kForward, kBackward, kCommExposed, kOptimizer, kOther, kParts };
const char* PartName(int part);  // data_wait

// Of a rank in a step, seconds.
struct RankTimes {
  int rank = 0;
  std::array<double, kParts> parts = {};
  double start = 0;  // of the step, on rank 0's clock; 0: not known
  double compute() const { return parts[kForward] + parts[kBackward] + parts[kOptimizer]; }
  double step() const { return std::accumulate(parts.begin(), parts.end(), 0.0); }
  double came() const { return start + parts[kDataWait] + parts[kForward] + parts[kBackward]; }  // to the reduction
  double let_go() const { return came() + parts[kCommExposed]; }
};
struct StepTimes {
  int64_t step = 0;
  int incarnation = 0;
  std::vector<RankTimes> ranks;  // by rank; of all that are recorded
  double clock_error_s = 0;      // bound on their starts' errors
};

// The work of every rank of `steps[i]` since its last reduction, in the order of its ranks: what comes after that
// reduction is in the record of the step before, if that is there.
std::vector<double> WorkOf(const std::vector<StepTimes>& steps, size_t i);

struct Anatomy {
  std::vector<Finding> causes;  // what saves a noticeable share, the first first; without text and hosts
  Finding verdict;              // the first of them, or compute-bound
  ReportEfficiency efficiency;  // load balance, communication, parallel
  struct RankLateness {
    int rank = 0;
    int64_t steps = 0, last = 0;  // looked at; in which it came last
    double late_s = 0;            // mean, against the step's median rank
    std::vector<double> early_s;  // in every step, before the last rank
  };
  std::vector<RankLateness> lateness;             // by rank
  double step_s = 0, transfer_s = 0, work_s = 0;  // means: of the step, the model's transfer and longest work
};
// A cause is noticeable if it costs this share of a step.
inline constexpr double kNoticeable = 0.1;
// `steps`: in order. One rank alone is late for nobody and transfers nothing.
Anatomy Analyze(const std::vector<StepTimes>& steps);

}  // namespace lockstep
