#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/comm_thread.h"

namespace lockstep {

// Rank 0 does `work`, which may take long, while the others wait: so that no collective's deadline passes meanwhile, a
// byte is broadcast every `beat` that says whether it is over. All ranks call it at the same place of their run, and
// all return once `work` has: rank 0 its status, the others OK or Aborted. `work` runs on a thread of its own and sets
// its own deadline. `comm` null: alone, `work` is called and that is all.
absl::Status DoOnRank0(int rank, CommThread* comm, absl::Duration beat, const std::function<absl::Status()>& work);

}  // namespace lockstep
