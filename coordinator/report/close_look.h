#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/report/step_reader.h"
#include "coordinator/store/run_record.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// What sampled steps show beyond their parts: collectives, links, layers, FLOP/s, and the timelines of a typical and of
// the worst of them. `places`: by launch and rank.
absl::Status LookClosely(const std::vector<RunRecord::Stretch>& stretches, const RunSteps& steps,
                         const RunRecord::Places& places, RunRecord* record, Report* report);

}  // namespace lockstep
