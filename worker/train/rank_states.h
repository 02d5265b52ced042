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

// How many ranks a file's states are of. DataLoss says what is not as `states` has it.
absl::StatusOr<int> CheckRankStates(const SafetensorsFile& file, const std::vector<RankState>& states);

// Overwrites the states by what `file`, of `stored_ranks`, has for this rank: its own, if there were as many ranks as
// now, else what RankState::Share says. `file` is looked at on rank 0 alone, and has been checked.
absl::Status GiveRankStates(const SafetensorsFile& file, int stored_ranks, const std::vector<RankState>& states,
                            int rank, int world, CommThread* comm);

}  // namespace lockstep
