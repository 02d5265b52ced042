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
  std::string worker;            // lockstep-worker's path; empty: it is not there
  std::string worker_build;      // empty: it was not asked, or did not answer
  bool root = false;             // the user is
  bool container = false;        // of Docker's kind, without rights of its own
  bool probed = false;           // LibTorch was asked
  std::string torch, blas, mpi;  // versions; empty: not there
  std::string trouble;           // why LibTorch gave no answer
  std::string blas_warning;      // what is wrong with it
  std::string blas_choice;       // a good one that is there but not chosen: its path
  bool blas_overruled = false;   // a good one is chosen, and LD_LIBRARY_PATH is set
  std::string torch_package,
      mpi_package;              // Debian's, as apt-get takes them: openmpi-bin=4.1.4-3; empty: not from there
  std::string mpi_path;         // of the mpirun that is found first, which mpi_package is of
  std::string mpi_other;        // Debian's openmpi-bin, if that is of another
  int cores = 0, physical = 0;  // that this process may use
  int unbound = 0;              // cores, if it were bound to none
  int online = 0;               // all of the machine's
  double steal = 0;             // share of the time in which another's machine had the processor
  std::string governor;         // of the processor's frequency; empty: not said
  int64_t memory_total = 0, memory_available = 0;
  int64_t shm_total = 0, shm_free = 0;
  int64_t shm_files = -1;  // that can still be made there; -1: any number
  int64_t disk_free = -1;  // where checkpoints go; -1: not looked at
  double fsync_s = -1;     // of a small file there; -1: it cannot be written
  std::string roomier;     // a folder on another disk that would do; looked for where that one does not
  int64_t open_files = 0;  // limits; -1: none
  int64_t processes = 0;
  int64_t file_size = -1, address_space = -1, data = -1, stack = -1;  // bytes
  int ports = 0, ports_free = 0;                                      // for connections that begin here
  std::vector<Stray> strays;                                          // of this user; root sees everyone's
};

// A slower disk makes checkpoints slow; more of the processors' time stolen makes ranks late.
constexpr double kSlowSyncSeconds = 0.1, kStolenShare = 0.05;

// Of this machine. `folder`: where checkpoints go, which take `checkpoints_bytes` there; empty: elsewhere. Takes a
// fifth of a second, to see what is stolen in it, or six where much is. What cannot be found out is left as it is. Asks
// neither LibTorch nor dpkg.
HostReport LookAtThisHost(const std::string& folder, int64_t checkpoints_bytes);

// The packages that LibTorch and MPI are from; a fifth of a second.
void AddPackages(HostReport* report);

// As JSON, and back. InvalidArgument: it is none.
std::string HostReportText(const HostReport& report);
absl::StatusOr<HostReport> ParseHostReport(absl::string_view text);

}  // namespace lockstep
