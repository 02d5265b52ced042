#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/mpi.h"

// Inside worker/comm: what its .cc files share. Names no MPI type, so that mpi.h stays in them.
namespace lockstep {

// Every MPI call's return value goes through here. Internal, with the call's name and MPI's own words.
absl::Status CheckMpi(int code, const char* call);

// The collectives of MPI's world on a communicator of their own, whose making all ranks wait for.
absl::StatusOr<std::unique_ptr<Collectives>> NewMpiCollectives(const MpiOptions& options);

}  // namespace lockstep
