#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"
#include "worker/comm/way_trial.h"

namespace lockstep {

// Runs `trial` over `collectives`, whose ways it sets as it needs them: set those that are to hold afterwards. All
// ranks call it together, while no collective is under way; after it all hold the same trial, whose times are the
// slowest rank's. DeadlineExceeded: a rank has not come within `timeout`.
absl::StatusOr<WayTrial> MeasureWays(Collectives* collectives, WayTrial trial, absl::Duration timeout);

// Rank 0's text, on all ranks. They call it together, while no collective is under way. At most 1 MiB.
absl::StatusOr<std::string> ShareFromRank0(Collectives* collectives, std::string text, absl::Duration timeout);

}  // namespace lockstep
