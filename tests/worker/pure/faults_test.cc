#include "worker/train/faults.h"

#include <gtest/gtest.h>

#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kMs = 1'000'000;

TEST(FaultsTest, ADrawnFaultStrikesOneRankAStepAndAllRanksInTurn) {
  RunConfig config;
  Inject* const inject = config.add_inject();
  inject->set_part(STEP_PART_FORWARD);
  inject->set_rank(-1);
  inject->set_delay(2e-3);
  inject->set_drawn(true);
  constexpr int kWorld = 3;
  std::vector<int> struck(kWorld, 0);
  for (int64_t step = 1; step <= 30; ++step) {
    int of_step = 0;
    for (int rank = 0; rank < kWorld; ++rank) {
      const double delay = Faults(config, rank, kWorld).DelayOf(STEP_PART_FORWARD, step);
      if (delay == 0) continue;
      EXPECT_EQ(delay, 2e-3);
      ++struck[rank];
      ++of_step;
    }
    EXPECT_EQ(of_step, 1) << step;
  }
  for (const int count : struck) EXPECT_GT(count, 3);
}

TEST(FaultsTest, AStretchedPartTakesSoManyTimesAsLong) {
  RunConfig config;
  Inject* const inject = config.add_inject();
  inject->set_part(STEP_PART_BACKWARD);
  inject->set_rank(1);
  inject->set_factor(3);
  inject->set_first_step(5);
  inject->set_last_step(6);
  const Faults faults(config, 1, 2), other(config, 0, 2);
  EXPECT_EQ(other.FactorOf(STEP_PART_BACKWARD, 5), 1);
  EXPECT_EQ(faults.FactorOf(STEP_PART_FORWARD, 5), 1);
  EXPECT_EQ(faults.FactorOf(STEP_PART_BACKWARD, 7), 1);
  EXPECT_EQ(faults.FactorOf(STEP_PART_BACKWARD, 5), 3);
  const int64_t again_ns = MonotonicNanos() - 4 * kMs;  // 4 ms were spent
  faults.Stretch(STEP_PART_BACKWARD, 6, again_ns);
  EXPECT_GE(MonotonicNanos() - again_ns, 12 * kMs);
}

}  // namespace
}  // namespace lockstep
