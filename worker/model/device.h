#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// GPUs that LibTorch finds here.
int CountGpus();

// The rank's number among those of its host, as mpirun tells it (Open MPI's way and MPICH's); else its number in all.
int PlaceOnHost(int rank);

// "cpu", or "cuda:N": the ranks of a host, `place` is this one's number there, take its `gpus` GPUs in turn.
// FailedPrecondition: cuda is asked for, and there is none.
absl::StatusOr<std::string> ChooseDevice(Device asked, int place, int gpus);

}  // namespace lockstep
