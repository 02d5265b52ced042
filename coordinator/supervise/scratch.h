#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// A temporary folder for one run: Open MPI's session and its shared memory files lie in it, so that removing it removes
// them. Made on /dev/shm if that can be written, else in `fallback`. Its name carries user, process namespace, process
// and start time of the caller, so that a later start can tell whether its owner is gone.
absl::StatusOr<std::string> MakeScratch(const std::string& fallback);
absl::StatusOr<std::string> MakeScratchIn(const std::string& parent);

// Removes the folders of this user's dead runs.
void SweepScratch(const std::string& fallback);
void SweepScratchIn(const std::string& parent);

}  // namespace lockstep
