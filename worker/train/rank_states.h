#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/checkpoint/safetensors.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/rank_state.h"

namespace lockstep {

// Every rank's own arrays, on their way into a checkpoint's ranks.safetensors and back. There a state of rank r is the
// tensor `<name>/<r>`, F32 of one dimension; one that all ranks share is `<name>/0` alone.
//
// All ranks call Gather… and Give… together, with states of the same names and sizes; `comm` null: alone. What travels
// is each rank's own array, to rank 0 or from it, rank after rank and in pieces, so that no piece's deadline passes
// while the others are on their way.

// The file, on rank 0 alone; without states it is empty. `file`'s memory is used again.
absl::Status GatherRankStates(const std::vector<RankState>& states, int rank, int world, CommThread* comm,
                              std::string* file);

// Of how many ranks `file` has each of the states. 0: of none, as where the run has been going on without it (alone, or
// with another exchange); such a state stays as it is. DataLoss says what is not as `states` has it.
absl::StatusOr<std::vector<int>> CheckRankStates(const SafetensorsFile& file, const std::vector<RankState>& states);

// Overwrites the states by what `file` has for this rank: its own, if there are as many as ranks now, else what
// RankState::Share says. `file` and `stored`, which is CheckRankStates', are looked at on rank 0 alone.
absl::Status GiveRankStates(const SafetensorsFile& file, std::vector<int> stored, const std::vector<RankState>& states,
                            int rank, int world, CommThread* comm);

}  // namespace lockstep
