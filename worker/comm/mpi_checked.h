#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/collectives.h"

// Inside worker/comm.
namespace lockstep {

// What a rank is about to ask of the library.
struct LibraryCall {
  enum Kind : int64_t { kAllReduce, kBroadcast, kAllGather };
  int64_t number = 0;  // filled in
  int64_t kind = kAllReduce, bytes = 0;
  int64_t detail = 0;  // type and operation, or root
};

// Collectives of the library, each only once all ranks have said in a small gather that they ask for the same. Open
// MPI does not survive ranks that differ: a call of other sizes elsewhere frees memory that is still written to, and
// ends in other ranks' data in the wrong place or in a crash. Costs a round of small messages a call.
//
// The calls themselves start in order, on a communicator of their own: other operations may overtake them.
class CheckedCalls {
 public:
  // `checks`: for the gathers, `calls`: for nothing but what `start` starts; outlived by MPI.
  CheckedCalls(MPI_Comm checks, MPI_Comm calls) : checks_(checks), calls_(calls) {}
  using StartFn = std::function<absl::StatusOr<std::unique_ptr<Operation>>(MPI_Comm comm)>;
  // `names`: the ranks' in the job. The operation's Poll: FailedPrecondition names both sides, before anything was
  // sent. This and `names` outlive it.
  absl::StatusOr<std::unique_ptr<Operation>> Start(LibraryCall call, int rank, const std::vector<int>* names,
                                                   StartFn start);

 private:
  friend class CheckedOperation;
  const MPI_Comm checks_, calls_;
  int64_t made_ = 0, next_ = 0;  // calls asked for; the one that starts next
};

}  // namespace lockstep
