#pragma once

#include <string>

#include "absl/time/time.h"
#include "coordinator/supervise/runtime_record.h"

namespace lockstep {

// The coordinator's last duty when its supervisor was killed: waits until the run's other processes on this machine,
// known by the token in their environment, have left by themselves, kills those that have not by `patience`, then
// removes `scratch` (if not empty) and the runtime record.
void CleanUpAfterSupervisor(const std::string& token, const std::string& scratch, const std::string& run_folder,
                            const RuntimeRecords& records, absl::Duration patience);

}  // namespace lockstep
