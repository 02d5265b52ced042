#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/control.pb.h"
#include "worker/comm/mpi.h"

namespace lockstep {

// How the ranks of a job of more than one exchange gradients.
struct Communication {
  std::unique_ptr<Collectives> collectives;  // of all ranks
  MpiSession::Share share;                   // without a window: each rank has parameters of its own
  int hosts = 1;
  CommunicationChosen chosen;  // what rank 0 tells the coordinator; its order of gradients is not known yet
};

// Makes the choice of `communication.algorithm`: the structure first, then, where gradients go by messages and nothing
// pins their way, what measures fastest, from an earlier launch of this run if it had the same world (bitwise the same
// again), else from `cache_folder` if an earlier run was on the same hosts, else by measuring for at most about a
// second. All ranks call it together. `sizes`: shared_bytes and rank_bytes of a window. `say` gets lines for people: on
// rank 0, and on others what only they know. DeadlineExceeded: a rank has not come.
absl::StatusOr<Communication> SetUpCommunication(MpiSession* session, const GetRunReply& run,
                                                 const WindowOptions& sizes, const std::string& cache_folder,
                                                 const std::function<void(const std::string&)>& say);

}  // namespace lockstep
