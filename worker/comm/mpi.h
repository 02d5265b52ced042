#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// The defaults are for use; tests make them small.
struct MpiOptions {
  absl::Duration setup_timeout = absl::Seconds(60);  // until all ranks have come to make the communicator
  bool ring = false;                                 // our own all-reduce; else the library's
  int64_t segment_bytes = 256 << 10;                 // of one message; fits a core's second-level cache
  int64_t one_shot_bytes = 64 << 10;  // ring: gathered whole while the data of all ranks together is at most this
  int64_t ring_from_bytes = 4 << 20;  // ring: reduced directly below
  int64_t scratch_bytes = 16 << 20;   // of one reduction; many ranks get smaller segments
  // ring: a sum with a shorter format on the wire travels in it, and in a ring, from this size times the world on; what
  // is smaller goes exact. A ring has 2(n-2) latencies more than the two rounds of a direct reduction; at 0.1 ms and
  // 1 Gbit the bytes saved outweigh them from 2 n 12.5 KB on.
  int64_t shorten_from_bytes = 32 << 10;
  int64_t library_bytes = 1 << 30;  // of one of the library's calls, which count in int
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
  // The algorithms `mpi` and `ring` (mpi_collectives.cc), by non-blocking calls alone. All ranks call it together; each
  // has a communicator of its own. Outlived by the session.
  absl::StatusOr<std::unique_ptr<Collectives>> NewCollectives(const MpiOptions& options = MpiOptions());
  // Which ranks share this rank's host: those with the same host name, boot, and network namespace (so not those of
  // other containers, nor of an emulated host). All ranks call it together, while no collective is under way.
  struct Host {
    std::vector<int> ranks;   // ascending
    int index = 0;            // of this rank among them
    int hosts = 1;            // that the job runs on
    std::string window_name;  // the same on all of them, and never used before
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
