#include "worker/train/run_clock.h"

#include <algorithm>
#include <cmath>

#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr double kFirstNanos = 0.25e9;
constexpr double kLonger = 4;

}  // namespace

double WallClock::Seconds(int64_t monotonic_ns) const {
  return static_cast<double>(monotonic_ns + unix_minus_monotonic_ns) * 1e-9;
}

RunClock::RunClock(const RunConfig& config, int rank)
    : began_ns_(MonotonicNanos()),
      began_unix_ns_(UnixNanos()),
      most_between_ns_(config.profile().clock_every() * 1e9),
      between_ns_(std::min(kFirstNanos, most_between_ns_)) {
  for (const Inject& inject : config.inject()) {
    if (inject.rank() != -1 && inject.rank() != rank) continue;
    ahead_ns_ += inject.clock_offset() * 1e9;
    gains_ += inject.clock_drift();
  }
}

int64_t RunClock::OwnNanos(int64_t monotonic_ns) const {
  const int64_t passed_ns = monotonic_ns - began_ns_;
  return began_unix_ns_ + passed_ns + std::llround(ahead_ns_ + gains_ * static_cast<double>(passed_ns));
}

ClockRecord RunClock::Learn(const std::vector<ClockTrip>& trips) {
  offset_.Learn(trips);
  const int64_t now_ns = MonotonicNanos(), own_ns = OwnNanos(now_ns);
  if (most_between_ns_ > 0) due_ns_ = now_ns + static_cast<int64_t>(between_ns_);
  between_ns_ = std::min(kLonger * between_ns_, most_between_ns_);
  const ClockOffset::Estimate estimate = offset_.At(own_ns);
  ClockRecord record;
  record.set_time((static_cast<double>(own_ns) + estimate.offset_ns) * 1e-9);
  record.set_offset_s(estimate.offset_ns * 1e-9);
  record.set_error_s(estimate.error_ns * 1e-9);
  record.set_drift(offset_.empty() ? 0 : estimate.drift);
  record.set_drift_error(offset_.empty() ? 0 : estimate.drift_error);
  return record;
}

WallClock RunClock::At(int64_t monotonic_ns) const {
  const int64_t own_ns = OwnNanos(monotonic_ns);
  const ClockOffset::Estimate estimate = offset_.At(own_ns);
  return {own_ns - monotonic_ns + std::llround(estimate.offset_ns), estimate.error_ns * 1e-9};
}

}  // namespace lockstep
