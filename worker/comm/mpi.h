#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// MPI itself, of which a process has one: initialised with MPI_THREAD_SERIALIZED, used by one thread at a time.
// Names no MPI type, so that only worker/comm includes mpi.h.
class MpiSession {
 public:
  static absl::StatusOr<std::unique_ptr<MpiSession>> Create(int* argc, char*** argv);
  // Finalises MPI. A process whose job is broken leaves by _exit instead.
  ~MpiSession();
  int rank() const { return rank_; }
  int world() const { return world_; }
  std::string library_version() const;
  // The MPI library's own algorithms, by non-blocking calls. One communicator of its own.
  absl::StatusOr<std::unique_ptr<Collectives>> NewCollectives();
  // Nanoseconds to add to this process's UnixNanos() to get rank 0's, by ping-pong with the smallest delay of a few
  // rounds; `error_ns` gets half of that delay. All ranks call it together. 0 on rank 0.
  absl::StatusOr<int64_t> MeasureClockOffset(absl::Duration deadline, int64_t* error_ns);

 private:
  MpiSession(int rank, int world) : rank_(rank), world_(world) {}
  const int rank_, world_;
};

}  // namespace lockstep
