#include "worker/train/span_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace lockstep {
namespace {

RunConfig Scheduled(ScheduleName name) {
  RunConfig config;
  config.mutable_optimizer()->set_lr(0.4);
  config.mutable_schedule()->set_name(name);
  config.mutable_schedule()->set_warmup_steps(10);
  config.mutable_schedule()->set_decay_epochs(5);
  config.mutable_schedule()->set_gamma(0.1);
  config.mutable_schedule()->set_min_lr(0.04);
  return config;
}
constexpr int64_t kEpoch = 22;  // so that the decay ends at step 110

TEST(LearningRateTest, EveryScheduleWarmsUpInEqualStepsFromZero) {
  for (ScheduleName name : {SCHEDULE_NAME_CONSTANT, SCHEDULE_NAME_STEP, SCHEDULE_NAME_COSINE, SCHEDULE_NAME_LINEAR}) {
    for (int64_t step = 1; step <= 10; ++step) {
      EXPECT_DOUBLE_EQ(LearningRate(Scheduled(name), kEpoch, step), 0.04 * static_cast<double>(step));
    }
    EXPECT_DOUBLE_EQ(LearningRate(Scheduled(name), kEpoch, 11), 0.4);
  }
}

TEST(LearningRateTest, ConstantStays) { EXPECT_EQ(LearningRate(Scheduled(SCHEDULE_NAME_CONSTANT), kEpoch, 999), 0.4); }

TEST(LearningRateTest, StepDropsByGammaEveryDecayEpochs) {
  const RunConfig config = Scheduled(SCHEDULE_NAME_STEP);
  EXPECT_DOUBLE_EQ(LearningRate(config, kEpoch, 110), 0.4);
  EXPECT_DOUBLE_EQ(LearningRate(config, kEpoch, 111), 0.04);
  EXPECT_DOUBLE_EQ(LearningRate(config, kEpoch, 221), 0.004);
}

TEST(LearningRateTest, CosineAndLinearAreHalfWayInTheMiddleAndStayAtTheEnd) {
  for (ScheduleName name : {SCHEDULE_NAME_COSINE, SCHEDULE_NAME_LINEAR}) {
    const RunConfig config = Scheduled(name);
    EXPECT_NEAR(LearningRate(config, kEpoch, 61), 0.22, 1e-12);
    EXPECT_NEAR(LearningRate(config, kEpoch, 111), 0.04, 1e-12);
    EXPECT_NEAR(LearningRate(config, kEpoch, 5000), 0.04, 1e-12);
  }
  EXPECT_NEAR(LearningRate(Scheduled(SCHEDULE_NAME_COSINE), kEpoch, 36), 0.22 + 0.18 * std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(LearningRate(Scheduled(SCHEDULE_NAME_LINEAR), kEpoch, 36), 0.31, 1e-12);
}

TEST(SpanOptimizerTest, PaddingBetweenParametersIsLeftAlone) {
  for (OptimizerName name : {OPTIMIZER_NAME_SGD, OPTIMIZER_NAME_ADAMW}) {
    Optimizer config;
    config.set_name(name);
    config.set_momentum(0.9);
    const ParameterLayout layout({{"a", {3}}, {"b", {20}}}, config);
    const auto optimizer = CreateOptimizer(config, &layout);
    std::vector<float> parameters(layout.elements(), 1), gradients(layout.elements(), 1);
    optimizer->BeginStep(1, 0.1, 1);
    optimizer->Apply(parameters.data(), gradients.data(), 0, layout.elements());
    for (int64_t i = 0; i < layout.elements(); ++i) {
      const bool padding = (i >= 20 && i < 32) || i >= 35;
      EXPECT_EQ(parameters[i] == 1, padding) << i;
    }
  }
}

TEST(SquaredNormTest, ItIsTheSumOfSquaresInDouble) {
  std::vector<float> values(1003, 1e-3f);
  values[1002] = 1e4f;
  double expected = 0;
  for (float value : values) expected += static_cast<double>(value) * value;
  EXPECT_NEAR(SquaredNorm(values.data(), 1003), expected, 1e-6);
  EXPECT_EQ(SquaredNorm(values.data(), 0), 0);
}

}  // namespace
}  // namespace lockstep
