#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace lockstep {

// Time as a service, so that tests run without waiting. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall-clock time, for records.
  virtual absl::Time Now() = 0;
  // Never goes back; its origin means nothing.
  virtual absl::Duration Monotonic() = 0;
  // The machine's own; never destroyed.
  static Clock* Real();
};

// Moves only when told to. Thread-safe.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000));
  absl::Time Now() override;
  absl::Duration Monotonic() override;
  void Advance(absl::Duration by);

 private:
  const absl::Time start_;
  std::atomic<int64_t> passed_ns_{0};
};

// Nanoseconds of CLOCK_MONOTONIC; what the spans of a step are measured with. About 20 ns a call.
int64_t MonotonicNanos();
// Nanoseconds since 1970.
int64_t UnixNanos();

double UnixSeconds(absl::Time time);

}  // namespace lockstep
