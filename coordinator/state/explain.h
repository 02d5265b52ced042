#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

using EachUpdate = std::function<absl::Status(const Update&)>;
// Calls its argument with every update in order and stops at the first error, as Journal::Replay.
using UpdateSource = std::function<absl::Status(const EachUpdate&)>;

// Replays a journal and says, a sentence each, which of its decisions do not follow from what stands before them:
// every Decision must be the first that Decide() gives there, and before the next fact nothing may be left undecided
// (but when a launch was cut off in between). Empty: the journal alone explains every decision. An error: the journal
// cannot be read or replayed.
absl::StatusOr<std::vector<std::string>> UnexplainedDecisions(const UpdateSource& replay);
absl::StatusOr<std::vector<std::string>> UnexplainedDecisions(const std::vector<Update>& updates);

}  // namespace lockstep
