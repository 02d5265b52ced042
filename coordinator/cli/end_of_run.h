#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/cli/run_folder.h"

namespace lockstep {

// The summary of a run that is not live, out of its run.db and its journal.
absl::StatusOr<std::string> SummaryOf(const RunOverview& overview, int exit_code, const std::string& why);

// Prints the summary of a run that has ended; for a run that failed, one line on standard error that says why and how
// to go on. Returns `exit_code`.
int PrintEndOfRun(const std::string& run_folder, int exit_code, const std::string& why);

}  // namespace lockstep
