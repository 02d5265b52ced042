#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// The summary of a run, out of run.db and `last`: the coordinator's last status, or what its folder tells.
absl::StatusOr<std::string> SummaryOf(const std::string& run_folder, const StatusReply& last, int exit_code,
                                      const std::string& why);

// Prints the summary of a run that has ended, out of run.db and the coordinator's last status; for a run that failed,
// one line on standard error that says why and how to go on. Returns `exit_code`.
int PrintEndOfRun(const std::string& run_folder, const StatusReply& last, int exit_code, const std::string& why);

}  // namespace lockstep
