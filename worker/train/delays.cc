#include "worker/train/delays.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lockstep {

Delays::Delays(const RunConfig& config, int rank) {
  for (const Inject& inject : config.inject()) {
    if (inject.rank() == -1 || inject.rank() == rank) mine_.push_back(inject);
  }
}

void Delays::Hold(StepPart part, int64_t step) const {
  for (const Inject& inject : mine_) {
    if (inject.part() != part || step < inject.first_step()) continue;
    if (inject.last_step() != 0 && step > inject.last_step()) continue;
    absl::SleepFor(absl::Seconds(inject.delay()));
  }
}

}  // namespace lockstep
