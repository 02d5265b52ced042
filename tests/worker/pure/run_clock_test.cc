#include "worker/train/run_clock.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

RunConfig Skewed(int rank, double offset_s, double drift) {
  RunConfig config;
  config.mutable_profile()->set_clock_every(60);
  Inject* const inject = config.add_inject();
  inject->set_rank(rank);
  inject->set_clock_offset(offset_s);
  inject->set_clock_drift(drift);
  return config;
}

// Round trips between two clocks of this process, 20 us there and 30 us back, at `at_ns`.
std::vector<ClockTrip> Trips(const RunClock& own, const RunClock& rank0, int64_t at_ns) {
  std::vector<ClockTrip> trips;
  for (int i = 0; i < 3; ++i, at_ns += 50'000) {
    trips.push_back({own.OwnNanos(at_ns), rank0.OwnNanos(at_ns + 20'000), own.OwnNanos(at_ns + 50'000)});
  }
  return trips;
}

TEST(RunClockTest, ClocksThatAreOffShowRank0sTimeWithinTheBound) {
  const int64_t now_ns = MonotonicNanos();
  for (const double offset_s : {0.005, -0.3, 120.0}) {
    for (const double drift : {0.0, 100e-6, -80e-6}) {
      const RunConfig config = Skewed(1, offset_s, drift);
      const RunClock rank0(config, 0);
      RunClock own(config, 1);
      for (const int64_t after_s : {0, 1, 5, 20, 80}) own.Learn(Trips(own, rank0, now_ns + after_s * kSecond));
      const int64_t then_ns = now_ns + 130 * kSecond;
      const WallClock mine = own.At(then_ns), theirs = rank0.At(then_ns);
      EXPECT_NEAR(mine.Seconds(then_ns), theirs.Seconds(then_ns), mine.error_s + 1e-6);
      EXPECT_LT(mine.error_s, 200e-6);
      EXPECT_EQ(theirs.error_s, 0);
    }
  }
}

TEST(RunClockTest, AFaultIsOfItsRankAlone) {
  const RunConfig config = Skewed(1, 5, 0);
  const int64_t now_ns = MonotonicNanos();
  EXPECT_NEAR(static_cast<double>(RunClock(config, 1).OwnNanos(now_ns) - RunClock(config, 0).OwnNanos(now_ns)), 5e9,
              1e7);
}

TEST(RunClockTest, MeasuringIsDueSoonThenLessAndLessOften) {
  RunConfig config;
  config.mutable_profile()->set_clock_every(60);
  RunClock clock(config, 0);
  EXPECT_FALSE(clock.Due(MonotonicNanos() + 1000 * kSecond)) << "the first time is the trainer's";
  for (const double seconds : {0.25, 1.0, 4.0, 16.0, 60.0, 60.0}) {
    const int64_t before_ns = MonotonicNanos();
    clock.Learn({});
    const auto after = static_cast<int64_t>(seconds * 1e9);
    EXPECT_FALSE(clock.Due(before_ns + after - 1));
    EXPECT_TRUE(clock.Due(MonotonicNanos() + after)) << seconds;
  }
  config.mutable_profile()->set_clock_every(0);
  RunClock once(config, 0);
  once.Learn({});
  EXPECT_FALSE(once.Due(MonotonicNanos() + 1000 * kSecond));
}

}  // namespace
}  // namespace lockstep
