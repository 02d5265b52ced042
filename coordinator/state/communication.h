#pragma once

#include "absl/status/status.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// Whether a choice of communication, which comes over the wire, is one: known words, sizes that ascend, times that are
// numbers, no more of any of it than a worker sends. InvalidArgument says what is wrong.
absl::Status CheckChoice(const CommunicationChosen& chosen);

}  // namespace lockstep
