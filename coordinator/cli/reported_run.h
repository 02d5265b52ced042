#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// Steps that are asked for; last 0: to the end.
struct StepRange {
  int64_t first = 1, last = 0;
};
// "A-B", "A-", "-B" or "A"; empty: all. InvalidArgument.
absl::StatusOr<StepRange> ParseStepRange(const std::string& text);

// RUN as a person types it. `link_limit`: as ReportRequest. NotFound: no such run, or none of its steps are recorded in
// that range.
absl::StatusOr<Report> ReportOfRun(const std::string& run, const StepRange& steps, double link_limit = 0);

}  // namespace lockstep
