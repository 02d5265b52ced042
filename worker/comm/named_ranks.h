#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace lockstep {

// "rank 2", "ranks 2, 5", "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 12 more".
std::string RankList(absl::Span<const int> ranks);

// `status` that also carries which ranks its message is about, for whoever knows where those ranks run.
absl::Status WithRanks(absl::Status status, absl::Span<const int> ranks);
// Those; empty if it carries none.
std::vector<int> NamedRanks(const absl::Status& status);

}  // namespace lockstep
