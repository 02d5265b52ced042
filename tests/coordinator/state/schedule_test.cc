#include "coordinator/state/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

using testing::ElementsAre;

RunSchedule Make(const RunConfig& config) { return RunSchedule(config, MinibatchPlan(95, 10, 1, true)); }

TEST(ScheduleTest, EndsAtTheSmallerOfEpochsAndSteps) {
  RunConfig config = SmallConfig();
  EXPECT_EQ(Make(config).final_step(), 30);
  EXPECT_FALSE(Make(config).ends_by_steps());
  config.mutable_convergence()->set_max_steps(30);
  EXPECT_FALSE(Make(config).ends_by_steps());
  config.mutable_convergence()->set_max_steps(29);
  EXPECT_EQ(Make(config).final_step(), 29);
  EXPECT_TRUE(Make(config).ends_by_steps());
}

TEST(ScheduleTest, AnEndTooFarToCountDoesNotOverflow) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_max_epochs(1000000000);
  const RunSchedule schedule(config, MinibatchPlan(int64_t{1} << 40, 1, 1, true));
  EXPECT_EQ(schedule.final_step(), std::numeric_limits<int64_t>::max());
}

TEST(ScheduleTest, EvaluatesAtEpochEndsAndAtTheEnd) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_max_steps(25);
  EXPECT_THAT(Make(config).MakeGrant(0, 25).evaluate_at(), ElementsAre(10, 20, 25));
}

TEST(ScheduleTest, EvaluatesEveryNStepsAndAtTheEnd) {
  RunConfig config = SmallConfig();
  config.mutable_evaluation()->set_every_steps(8);
  EXPECT_THAT(Make(config).MakeGrant(0, 30).evaluate_at(), ElementsAre(8, 16, 24, 30));
}

TEST(ScheduleTest, GrantHoldsTheEventsOfItsStepsAlone) {
  RunConfig config = SmallConfig();
  config.mutable_checkpoint()->set_every_steps(7);
  const Grant grant = Make(config).MakeGrant(7, 21);
  EXPECT_EQ(grant.first_step(), 8);
  EXPECT_EQ(grant.through_step(), 21);
  EXPECT_EQ(grant.final_step(), 30);
  EXPECT_THAT(grant.evaluate_at(), ElementsAre(10, 20));
  EXPECT_THAT(grant.checkpoint_at(), ElementsAre(10, 14, 20, 21));
}

TEST(ScheduleTest, CheckpointRulesByStep) {
  RunConfig config = SmallConfig();
  config.mutable_checkpoint()->set_every_steps(5);
  EXPECT_STREQ(Make(config).CheckpointRule(0), "start");
  EXPECT_STREQ(Make(config).CheckpointRule(5), "every_steps");
  EXPECT_STREQ(Make(config).CheckpointRule(10), "epoch_end");
  EXPECT_STREQ(Make(config).CheckpointRule(11), "");
  config.mutable_checkpoint()->set_every_epoch(false);
  EXPECT_STREQ(Make(config).CheckpointRule(10), "every_steps");
  EXPECT_STREQ(Make(config).CheckpointRule(-1), "");
}

TEST(ScheduleTest, AGrantThatWouldNotFitIntoAMessageIsCutShort) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_max_epochs(1000000);
  config.mutable_evaluation()->set_every_steps(1);
  const Grant grant = Make(config).MakeGrant(0, 1000000);
  EXPECT_LT(grant.through_step(), 1000000);
  EXPECT_EQ(grant.evaluate_at(grant.evaluate_at_size() - 1), grant.through_step());
  EXPECT_LT(grant.ByteSizeLong(), size_t{4} << 20);
}

TEST(ScheduleTest, EtaIsUnknownWithoutAStep) {
  EXPECT_LT(EtaOfEpoch(10, 0), 0);
  EXPECT_DOUBLE_EQ(EtaOfEpoch(10, 0.5), 5);
}

}  // namespace
}  // namespace lockstep
