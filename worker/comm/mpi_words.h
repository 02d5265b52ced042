#pragma once

#include <mpi.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/collectives.h"

// Inside worker/comm.
namespace lockstep {

// Collectives::Tell and Hear over messages of MPI, on a communicator without other messages. A word is far below every
// limit up to which MPI sends at once (eagerly), so that it leaves whether or not its receiver is listening.
class MpiWords {
 public:
  // No other messages between two ranks go over `comm`.
  explicit MpiWords(MPI_Comm comm);
  // What MPI still uses is never freed.
  ~MpiWords();
  absl::Status Tell(int rank, const RollWord& word);
  absl::StatusOr<int> Hear(RollWord* word);

 private:
  struct Buffers;
  const MPI_Comm comm_;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace lockstep
