#pragma once

#include <vector>

#include "absl/status/status.h"
#include "coordinator/report/step_reader.h"
#include "coordinator/store/run_record.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// What sampled steps show beyond their parts: collectives, layers, FLOP/s, and the timelines of a typical and of the
// worst of them.
absl::Status LookClosely(const std::vector<RunRecord::Stretch>& stretches, const RunSteps& steps, RunRecord* record,
                         Report* report);

}  // namespace lockstep
