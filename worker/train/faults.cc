#include "worker/train/faults.h"

#include <algorithm>

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

bool Faults::IsIn(const Inject& inject, int64_t step) {
  return step >= inject.first_step() && (inject.last_step() == 0 || step <= inject.last_step());
}

bool Faults::Unmeasured(int64_t step) const {
  return std::any_of(mine_.begin(), mine_.end(),
                     [step](const Inject& inject) { return inject.unmeasured() && IsIn(inject, step); });
}

bool Faults::Strikes(const Inject& inject, StepPart part, int64_t step) const {
  if (inject.part() != part || !IsIn(inject, step)) return false;
  return !inject.drawn() || Mix({seed_, kDrawKey, static_cast<uint64_t>(step)}) % static_cast<uint64_t>(world_) ==
                                static_cast<uint64_t>(rank_);
}

double Faults::DelayOf(StepPart part, int64_t step) const {
  double delay = 0;
  for (const Inject& inject : mine_) delay += Strikes(inject, part, step) ? inject.delay() : 0;
  return delay;
}

double Faults::FactorOf(StepPart part, int64_t step) const {
  double factor = 1;
  for (const Inject& inject : mine_) {
    if (inject.factor() > 1 && Strikes(inject, part, step)) factor *= inject.factor();
  }
  return factor;
}

void Faults::Hold(StepPart part, int64_t step) const {
  if (const double delay = DelayOf(part, step); delay > 0) absl::SleepFor(absl::Seconds(delay));
}

void Faults::Stretch(StepPart part, int64_t step, int64_t start_ns) const {
  const double factor = FactorOf(part, step);
  if (factor == 1) return;
  const auto took = static_cast<double>(MonotonicNanos() - start_ns);
  const int64_t until_ns = start_ns + static_cast<int64_t>(took * factor);
  while (MonotonicNanos() < until_ns) {  // a slower processor is busy, too
  }
}

}  // namespace lockstep
