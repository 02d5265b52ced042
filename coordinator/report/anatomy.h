#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/report/step_model.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// What holds the steps of a run up, and what removing it would save. Pure.
//
// What removing a cause would save is the model's maximum (step_model.h) without it: late ranks whose work is brought
// to where the others' is, waiting for data left out, no transfer. Who is late, its own work says.
struct Anatomy {
  std::vector<Finding> causes;  // what saves a noticeable share, the first first; without text
  Finding verdict;              // the first of them, or compute-bound
  ReportEfficiency efficiency;  // load balance, communication, parallel
  struct RankLateness {
    int rank = 0;
    int64_t steps = 0, last = 0;  // in which it is recorded; in which it came last
    double late_s = 0;            // mean, against the step's median rank
    std::vector<double> early_s;  // in every step, before the last rank
  };
  std::vector<RankLateness> lateness;             // by rank
  double step_s = 0, transfer_s = 0, work_s = 0;  // means: of the step, the model's transfer and longest work
};
// `steps`: in order. `others`: of the same run, with whose computing theirs is compared; of too few, with their own
// faster ones. One rank alone is late for nobody and transfers nothing.
Anatomy Analyze(const std::vector<StepTimes>& steps, const std::vector<StepTimes>& others = {});

}  // namespace lockstep
