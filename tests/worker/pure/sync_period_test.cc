#include "worker/train/sync_period.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lockstep {
namespace {

Communication Config(PeriodRule rule, int period, int64_t post_local_steps = 0) {
  Communication config;
  config.set_period(period);
  config.set_period_rule(rule);
  config.set_post_local_steps(post_local_steps);
  return config;
}

TEST(SyncPeriodTest, AFixedPeriodIsTheSameAtEveryStep) {
  for (const int64_t step : {1, 8, 1000000}) EXPECT_EQ(PeriodAt(Config(PERIOD_RULE_FIXED, 8), step, 3), 8);
}

TEST(SyncPeriodTest, PostLocalSynchronisesEveryStepUntilItsPeriodBegins) {
  const Communication config = Config(PERIOD_RULE_POST_LOCAL, 16, 100);
  EXPECT_EQ(PeriodAt(config, 1, 0), 1);
  EXPECT_EQ(PeriodAt(config, 100, 0), 1);
  EXPECT_EQ(PeriodAt(config, 101, 0), 16);
}

TEST(SyncPeriodTest, AdaptiveGoesOnWithWhatTheLastEpochGave) {
  EXPECT_EQ(PeriodAt(Config(PERIOD_RULE_ADAPTIVE, 16), 5, 0), 16);
  EXPECT_EQ(PeriodAt(Config(PERIOD_RULE_ADAPTIVE, 16), 5, 7), 7);
}

TEST(SyncPeriodTest, AdaCommShortensThePeriodByTheRootOfTheLoss) {
  EXPECT_EQ(NextPeriod(16, 2.0, 1.0, 16), 12);  // ceil(16 · sqrt(1/2)) = ceil(11.31)
  EXPECT_EQ(NextPeriod(16, 2.0, 0.5, 12), 8);
  EXPECT_EQ(NextPeriod(100, 1.0, 0.01, 60), 10);
}

TEST(SyncPeriodTest, WhereTheLossDoesNotAskForAShorterOneItIsHalved) {
  EXPECT_EQ(NextPeriod(16, 2.0, 2.0, 16), 8);
  EXPECT_EQ(NextPeriod(16, 2.0, 5.0, 9), 4);
  EXPECT_EQ(NextPeriod(16, 2.0, 1.0, 12), 6);
  EXPECT_EQ(NextPeriod(16, 2.0, 2.0, 1), 1);
}

TEST(SyncPeriodTest, ALossThatSaysNothingChangesNothing) {
  for (const double loss : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(NextPeriod(16, 2.0, loss, 5), 5) << loss;
    EXPECT_EQ(NextPeriod(16, loss, 1.0, 5), 5) << loss;
  }
}

}  // namespace
}  // namespace lockstep
