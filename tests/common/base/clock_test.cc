#include "common/base/clock.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "absl/time/clock.h"
#include "common/base/build_info.h"

namespace lockstep {
namespace {

TEST(FakeClockTest, StandsStillUntilItIsAdvanced) {
  FakeClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
  const absl::Duration before = clock.Monotonic();
  clock.Advance(absl::Milliseconds(2500));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100) + absl::Milliseconds(2500));
  EXPECT_EQ(clock.Monotonic() - before, absl::Milliseconds(2500));
}

TEST(ClockTest, MonotonicTimeNeverGoesBack) {
  absl::Duration last = Clock::Real()->Monotonic();
  for (int i = 0; i < 10000; ++i) {
    const absl::Duration now = Clock::Real()->Monotonic();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, WallClockAgreesWithTheSystems) {
  const absl::Time before = absl::Now(), now = Clock::Real()->Now(), after = absl::Now();
  EXPECT_LE(before - absl::Milliseconds(1), now);
  EXPECT_LE(now, after + absl::Milliseconds(1));
}

TEST(ClockTest, UnixSecondsKeepsFractions) {
  EXPECT_DOUBLE_EQ(UnixSeconds(absl::FromUnixMillis(1'700'000'000'250)), 1'700'000'000.25);
}

TEST(BuildInfoTest, VersionBeginsWithARelease) {
  int major = -1, minor = -1, patch = -1;
  EXPECT_EQ(sscanf(BuildVersion().c_str(), "%d.%d.%d", &major, &minor, &patch), 3) << BuildVersion();
}

}  // namespace
}  // namespace lockstep
