#include "common/base/clock.h"

#include <ctime>

namespace lockstep {
namespace {

int64_t Nanos(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

class RealClock : public Clock {
 public:
  absl::Time Now() override { return absl::FromUnixNanos(UnixNanos()); }
  absl::Duration Monotonic() override { return absl::Nanoseconds(MonotonicNanos()); }
};

}  // namespace

Clock* Clock::Real() {
  static RealClock* const clock = new RealClock;
  return clock;
}

FakeClock::FakeClock(absl::Time start) : start_(start) {}
absl::Time FakeClock::Now() { return start_ + Monotonic(); }
absl::Duration FakeClock::Monotonic() { return absl::Nanoseconds(passed_ns_.load()); }
void FakeClock::Advance(absl::Duration by) { passed_ns_.fetch_add(absl::ToInt64Nanoseconds(by)); }

int64_t MonotonicNanos() { return Nanos(CLOCK_MONOTONIC); }
int64_t UnixNanos() { return Nanos(CLOCK_REALTIME); }
double UnixSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

}  // namespace lockstep
