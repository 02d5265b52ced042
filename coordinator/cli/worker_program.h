#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// lockstep-worker: $LOCKSTEP_WORKER, else beside this program, else in PATH (the bare name).
std::string WorkerProgram();

// Where that is; empty: it is not there.
std::string FindWorkerProgram();

// Runs lockstep-worker on its own, without MPI, to its end. `errors_too`: what it says on standard error is captured.
absl::StatusOr<Captured> RunWorker(const std::vector<std::string>& arguments, const std::string& input,
                                   bool errors_too = false);

// The same, and returns what it printed. FailedPrecondition: it ended with 2 (bad
// config or input, it said why on standard error).
absl::StatusOr<std::string> AskWorker(const std::vector<std::string>& arguments, const std::string& input);

// Becomes lockstep-worker. Returns only if that is impossible.
absl::Status BecomeWorker(const std::vector<std::string>& arguments);

}  // namespace lockstep
