#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// Where the temporary folder of the caller's run belongs: Open MPI's session and its shared memory files lie in it, so
// that removing it removes them. On /dev/shm if that can be written, else in `fallback`. The name carries user, process
// namespace, process and start time of the caller, so that a later start can tell whether its owner is gone.
std::string ScratchPath(const std::string& fallback);
std::string ScratchPathIn(const std::string& parent);
absl::Status MakeScratch(const std::string& path);

// Removes the folders of this user's dead runs.
void SweepScratch(const std::string& fallback);
void SweepScratchIn(const std::string& parent);

}  // namespace lockstep
