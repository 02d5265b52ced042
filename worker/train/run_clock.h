#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/trace/clock_offset.h"
#include "lockstep/run_config.pb.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

// Times of day on rank 0's clock, out of MonotonicNanos, for as long as a step takes.
struct WallClock {
  int64_t unix_minus_monotonic_ns = 0;
  double error_s = 0;  // bound
  double Seconds(int64_t monotonic_ns) const;
};

// The one clock of all ranks: rank 0's monotonic one, from the time of day at which that rank began. Every rank knows
// its own clock, and learns by round trips how that stands to rank 0's; when, rank 0 says. The trainer's thread alone,
// but for OwnNanos.
class RunClock {
 public:
  // A fault of this rank's clock that the config puts in (inject) is part of it.
  RunClock(const RunConfig& config, int rank);

  // This rank's own clock, nanoseconds since 1970. Any thread.
  int64_t OwnNanos(int64_t monotonic_ns) const;
  // What came of round trips that have just ended; empty on rank 0. How the clocks stand since.
  ClockRecord Learn(const std::vector<ClockTrip>& trips);
  WallClock At(int64_t monotonic_ns) const;

  // Rank 0: whether it is time to measure again. The first times are closer together, since the drift shows only over
  // time: after a quarter of a second, then each four times as long, up to profile.clock_every.
  bool Due(int64_t monotonic_ns) const { return due_ns_.has_value() && monotonic_ns >= *due_ns_; }

 private:
  const int64_t began_ns_, began_unix_ns_;
  const double most_between_ns_;
  double ahead_ns_ = 0, gains_ = 0;  // the fault
  ClockOffset offset_;
  std::optional<int64_t> due_ns_;  // unset: not again
  double between_ns_;
};

}  // namespace lockstep
