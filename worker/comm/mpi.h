#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"
#include "worker/comm/ways.h"

namespace lockstep {

// The defaults are for use; tests make them small.
struct MpiOptions {
  absl::Duration setup_timeout = absl::Seconds(60);  // until all ranks have come to make the communicator
  WayTable ways = LibraryWays();                     // of an all-reduce
  int64_t segment_bytes = 256 << 10;                 // of one message; fits a core's second-level cache
  int64_t scratch_bytes = 16 << 20;                  // of one reduction; many ranks get smaller segments
  int64_t library_bytes = 1 << 30;                   // of one of the library's calls, which count in int
};

// MPI itself, of which a process has one: initialised with MPI_THREAD_SERIALIZED, used by one thread at a time.
// Names no MPI type, so that only worker/comm includes mpi.h.
class MpiSession {
 public:
  // FailedPrecondition: the library does not give MPI_THREAD_SERIALIZED.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Create(int* argc, char*** argv);
  // Finalises MPI, which waits for all ranks. A process whose job is broken calls Abandon or leaves by _exit instead.
  ~MpiSession();
  // The job is broken: the destructor leaves MPI as it is.
  void Abandon() { abandoned_ = true; }
  int rank() const { return rank_; }
  int world() const { return world_; }
  std::string library_version() const;
  // An all-reduce goes one of several ways, by its size (ways.h, mpi_collectives.cc), by non-blocking calls alone. All
  // ranks call it together; each has a communicator of its own. Outlived by the session.
  absl::StatusOr<std::unique_ptr<Collectives>> NewCollectives(const MpiOptions& options = MpiOptions());
  // Which ranks share this rank's host: those with the same host name, boot, and network namespace (so not those of
  // other containers, nor of an emulated host). All ranks call it together, while no collective is under way.
  struct Host {
    std::vector<int> ranks;  // ascending
    int index = 0;           // of this rank among them
    int hosts = 1;           // that the job runs on
    struct HostRanks {
      std::string name;
      int ranks = 0;
    };
    std::vector<HostRanks> all;  // those hosts, in the order of their first ranks
    std::string window_name;     // the same on all of them, and never used before
  };
  absl::StatusOr<Host> FindHost(absl::Duration deadline);
  // Whether `own` is true on all ranks. All ranks call it together, while no collective is under way.
  absl::StatusOr<bool> OnAllRanks(bool own, absl::Duration deadline);
  // Nanoseconds to add to this process's UnixNanos() to get rank 0's, by ping-pong with the smallest delay of a few
  // rounds; `error_ns` gets half of that delay. All ranks call it together, while no collective is under way. 0 on
  // rank 0. DeadlineExceeded: a rank has not come.
  absl::StatusOr<int64_t> MeasureClockOffset(absl::Duration deadline, int64_t* error_ns);

 private:
  MpiSession(int rank, int world) : rank_(rank), world_(world) {}
  const int rank_, world_;
  bool abandoned_ = false;
};

}  // namespace lockstep
