#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// A process of an earlier run that nobody leads any more.
struct Stray {
  pid_t pid = 0;
  std::string program;
  int64_t age_s = 0;
};

// A host as `lockstep doctor` sees it, from there.
struct HostReport {
  std::string machine;           // the same for several names of one
  std::string build;             // of lockstep there
  std::string torch, blas, mpi;  // versions; empty: not there
  std::string blas_warning;      // what is wrong with it, and what mends it
  int cores = 0, physical = 0;
  double steal = 0;      // share of the time in which another's machine had the processor
  std::string governor;  // of the processor's frequency; empty: not said
  int64_t memory_total = 0, memory_available = 0;
  int64_t shm_total = 0, shm_free = 0;
  int64_t disk_free = -1;  // where checkpoints go; -1: not looked at
  double fsync_s = -1;     // of a small file there; -1: not looked at
  int64_t open_files = 0;  // soft limits; -1: none
  int64_t processes = 0;
  std::vector<Stray> strays;  // of this user
};

// Of this machine. `folder`: where checkpoints go; empty: elsewhere. Takes a fifth of a second, to see what is stolen
// in it. What cannot be found out is left as it is. LibTorch's and MPI's versions are not looked for.
HostReport LookAtThisHost(const std::string& folder);

// As JSON, and back. InvalidArgument: it is none.
std::string HostReportText(const HostReport& report);
absl::StatusOr<HostReport> ParseHostReport(absl::string_view text);

}  // namespace lockstep
