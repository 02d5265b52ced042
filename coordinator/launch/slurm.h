#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/supervise/hosts.h"

namespace lockstep {

// What Slurm gives to the job that this process belongs to.
struct SlurmHost {
  HostSlots slots;     // its tasks
  int cores = 0;       // its CPUs
  int64_t memory = 0;  // of the job there, in bytes; 0: all of it
};

// Whether this process belongs to a job of Slurm's.
bool InSlurm();

// "2(x3),1" as Slurm writes numbers by host: 2, 2, 2, 1. InvalidArgument: it is none such.
absl::StatusOr<std::vector<int>> ParseCounts(absl::string_view text);

// Of SLURM_JOB_NODELIST, SLURM_TASKS_PER_NODE, SLURM_JOB_CPUS_PER_NODE, and SLURM_MEM_PER_NODE or _CPU where the job
// asked for so much. `variable` gives their values, empty where they are not set; `expand` makes "node[1-3]" one name a
// line. FailedPrecondition: this is no job of Slurm's.
absl::StatusOr<std::vector<SlurmHost>> SlurmHosts(
    const std::function<std::string(const char*)>& variable,
    const std::function<absl::StatusOr<std::string>(const std::string&)>& expand);

// The same, of this process's environment and scontrol.
absl::StatusOr<std::vector<SlurmHost>> SlurmHostsHere();

}  // namespace lockstep
