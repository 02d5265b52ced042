#include "worker/train/faults.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/stable_random.h"

namespace lockstep {
namespace {

constexpr uint64_t kDrawKey = 0x6661756c74;  // "fault"

}  // namespace

Faults::Faults(const RunConfig& config, int rank, int world) : seed_(config.run().seed()), rank_(rank), world_(world) {
  for (const Inject& inject : config.inject()) {
    if (inject.rank() == -1 || inject.rank() == rank) mine_.push_back(inject);
  }
}

bool Faults::Strikes(const Inject& inject, StepPart part, int64_t step) const {
  if (inject.part() != part || step < inject.first_step()) return false;
  if (inject.last_step() != 0 && step > inject.last_step()) return false;
  return !inject.drawn() || Mix({seed_, kDrawKey, static_cast<uint64_t>(step)}) % static_cast<uint64_t>(world_) ==
                                static_cast<uint64_t>(rank_);
}

void Faults::Hold(StepPart part, int64_t step) const {
  for (const Inject& inject : mine_) {
    if (inject.delay() > 0 && Strikes(inject, part, step)) absl::SleepFor(absl::Seconds(inject.delay()));
  }
}

void Faults::Stretch(StepPart part, int64_t step, int64_t start_ns) const {
  for (const Inject& inject : mine_) {
    if (inject.factor() <= 1 || !Strikes(inject, part, step)) continue;
    const auto took = static_cast<double>(MonotonicNanos() - start_ns);
    const int64_t until_ns = start_ns + static_cast<int64_t>(took * inject.factor());
    while (MonotonicNanos() < until_ns) {  // a slower processor is busy, too
    }
  }
}

}  // namespace lockstep
