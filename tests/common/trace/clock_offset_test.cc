#include "common/trace/clock_offset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/base/stable_random.h"

namespace lockstep {
namespace {

constexpr double kSecond = 1e9;

// A true time, and the two clocks that show it: the own one is `ahead` of the other and gains `drift` on it.
struct Clocks {
  double ahead_ns = 0, drift = 0;
  double Own(double true_ns) const { return true_ns * (1 + drift) + ahead_ns; }
  double OffsetAt(double true_ns) const { return true_ns - Own(true_ns); }
};

// Trips at about `true_ns` whose ways there and back are delayed by random, unequal times.
std::vector<ClockTrip> Trips(const Clocks& clocks, double true_ns, StableRandom* random) {
  std::vector<ClockTrip> trips;
  for (int i = 0; i < 12; ++i) {
    const double there = 20e3 + 200e3 * std::pow(random->Uniform(), 4),
                 back = 20e3 + 900e3 * std::pow(random->Uniform(), 4);
    const double answered = true_ns + there;
    trips.push_back({static_cast<int64_t>(clocks.Own(true_ns)), static_cast<int64_t>(answered),
                     static_cast<int64_t>(clocks.Own(answered + back))});
    true_ns = answered + back;
  }
  return trips;
}

void ExpectWithinBound(const ClockOffset& offset, const Clocks& clocks, double true_ns) {
  const ClockOffset::Estimate found = offset.At(static_cast<int64_t>(clocks.Own(true_ns)));
  EXPECT_NEAR(found.offset_ns, clocks.OffsetAt(true_ns), found.error_ns + 2) << "at " << true_ns / kSecond << " s";
}

TEST(ClockOffsetTest, NothingLearntIsNoOffset) {
  EXPECT_EQ(ClockOffset().At(12345).offset_ns, 0);
  EXPECT_TRUE(ClockOffset().empty());
}

TEST(ClockOffsetTest, OffsetsOfMillisecondsToMinutesWithDriftLieWithinTheBound) {
  StableRandom random(1);
  for (const double ahead_s : {0.0, 0.003, -0.4, 7.0, 300.0}) {
    for (const double drift : {0.0, 20e-6, -150e-6, 450e-6}) {
      const Clocks clocks = {ahead_s * kSecond, drift};
      ClockOffset offset;
      double last_error_ns = 0;
      for (const double at_s : {1.0, 1.25, 2.25, 6.25, 22.0, 82.0, 142.0, 202.0}) {
        offset.Learn(Trips(clocks, at_s * kSecond, &random));
        for (const double later_s : {0.1, 1.0, 15.0, 60.0})
          ExpectWithinBound(offset, clocks, (at_s + later_s) * kSecond);
        last_error_ns = offset.At(static_cast<int64_t>(clocks.Own((at_s + 60) * kSecond))).error_ns;
      }
      EXPECT_LT(last_error_ns, 100e3) << "a minute after the last of several minutes";
      EXPECT_NEAR(offset.At(0).drift, -drift, 2e-6);
    }
  }
}

TEST(ClockOffsetTest, TheFirstBoundGrowsWithTheTimeSince) {
  ClockOffset offset;
  offset.Learn(std::vector<ClockTrip>{{0, 500, 1000}});
  EXPECT_DOUBLE_EQ(offset.At(1000).error_ns, 500);
  EXPECT_NEAR(offset.At(1000 + static_cast<int64_t>(kSecond)).error_ns, 500 + ClockOffset::kMostDrift * kSecond, 1);
}

TEST(ClockOffsetTest, TheTripThatWasDelayedLeastCounts) {
  ClockOffset offset;
  offset.Learn(std::vector<ClockTrip>{{0, 90'000, 100'000}, {200'000, 200'010, 200'020}, {300'000, 301'000, 390'000}});
  EXPECT_NEAR(offset.At(390'000).offset_ns, 0, 400);
  EXPECT_LT(offset.At(390'000).error_ns, 400);
}

TEST(ClockOffsetTest, AClockThatIsSetIsFollowed) {
  StableRandom random(2);
  ClockOffset offset;
  for (const double at_s : {1.0, 60.0, 120.0}) offset.Learn(Trips({}, at_s * kSecond, &random));
  const Clocks set = {5 * kSecond, 0};
  offset.Learn(Trips(set, 180 * kSecond, &random));
  ExpectWithinBound(offset, set, 190 * kSecond);
}

TEST(ClockOffsetTest, ADriftThatChangesIsFollowed) {
  StableRandom random(3);
  ClockOffset offset;
  for (int minute = 1; minute <= 10; ++minute) offset.Learn(Trips({0, 50e-6}, minute * 60 * kSecond, &random));
  const Clocks cooler = {600 * kSecond * 70e-6, -20e-6};  // the same offset at minute 10
  for (int minute = 11; minute <= 20; ++minute) {
    offset.Learn(Trips(cooler, minute * 60 * kSecond, &random));
    ExpectWithinBound(offset, cooler, (minute * 60 + 1) * kSecond);
  }
  EXPECT_NEAR(offset.At(0).drift, 20e-6, 3e-6);
}

}  // namespace
}  // namespace lockstep
