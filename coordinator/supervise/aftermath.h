#pragma once

#include <string>

#include "absl/time/time.h"
#include "coordinator/supervise/runtime_record.h"

namespace lockstep {

// What every process of a run on this machine has in its environment, and no other.
struct ProcessMark {
  std::string variable, value;
};

// The coordinator's last duty when its supervisor was killed: waits until the run's other processes on this machine,
// known by `mark`, have left by themselves, kills those that have not by `patience`, then
// removes `scratch` (if not empty) and the runtime record.
void CleanUpAfterSupervisor(const ProcessMark& mark, const std::string& scratch, const std::string& run_folder,
                            const RuntimeRecords& records, absl::Duration patience);

}  // namespace lockstep
