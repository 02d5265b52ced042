#include "coordinator/state/convergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Evaluations of `metric` at steps 10, 20, …
std::vector<EvaluationResult> Series(const std::string& metric, const std::vector<double>& values) {
  std::vector<EvaluationResult> series;
  for (const double value : values) {
    EvaluationResult& result = series.emplace_back();
    result.set_step(10 * static_cast<int64_t>(series.size()));
    (*result.mutable_metrics())[metric] = value;
  }
  return series;
}

struct PatienceCase {
  const char* name;
  int patience;
  Metric metric;
  std::vector<double> values;
  int stops_at;  // number of evaluations when it stops first; 0: never
  int best;      // index of the best at that point, or at the end
};

class PatienceTest : public testing::TestWithParam<PatienceCase> {};

TEST_P(PatienceTest, StopsAtTheFirstEvaluationThatEndsTheWait) {
  const PatienceCase& expected = GetParam();
  const std::string metric = MetricWord(expected.metric);
  const std::vector<EvaluationResult> all = Series(metric, expected.values);
  Convergence convergence;
  convergence.set_patience(expected.patience);
  convergence.set_metric(expected.metric);
  int stops_at = 0;
  size_t count = 1;
  for (; count <= all.size() && stops_at == 0; ++count) {
    const auto stop = StopByEvaluations(absl::MakeSpan(all).first(count), convergence);
    if (!stop) continue;
    EXPECT_EQ(stop->rule(), "patience");
    stops_at = static_cast<int>(count);
  }
  EXPECT_EQ(stops_at, expected.stops_at);
  EXPECT_EQ(BestEvaluation(absl::MakeSpan(all).first(count - 1), expected.metric), expected.best);
}

INSTANTIATE_TEST_SUITE_P(
    Table, PatienceTest,
    testing::Values(PatienceCase{"Never0", 0, METRIC_ACCURACY, {0.9, 0.8, 0.7, 0.6}, 0, 0},
                    PatienceCase{"NotBettered", 2, METRIC_ACCURACY, {0.9, 0.8, 0.85}, 3, 0},
                    PatienceCase{"ATieIsNoImprovement", 2, METRIC_ACCURACY, {0.9, 0.9, 0.9}, 3, 0},
                    PatienceCase{"BetteredInTime", 2, METRIC_ACCURACY, {0.5, 0.4, 0.6, 0.5, 0.7}, 0, 4},
                    PatienceCase{"CountsFromTheBest", 2, METRIC_ACCURACY, {0.5, 0.6, 0.5, 0.55}, 4, 1},
                    PatienceCase{"WorseThanTheBestButRising", 3, METRIC_ACCURACY, {0.9, 0.1, 0.2, 0.3}, 4, 0},
                    PatienceCase{"PatienceOfOne", 1, METRIC_ACCURACY, {0.1, 0.2, 0.3, 0.3}, 4, 2},
                    PatienceCase{"LessLossIsBetter", 2, METRIC_LOSS, {2.0, 1.0, 1.5, 1.0}, 4, 1},
                    PatienceCase{"FallingLossGoesOn", 1, METRIC_LOSS, {3.0, 2.0, 1.0, 0.5}, 0, 3},
                    PatienceCase{"LessPerplexityIsBetter", 1, METRIC_PERPLEXITY, {30, 20, 25}, 3, 1},
                    PatienceCase{"LessErrorIsBetter", 1, METRIC_MAE, {0.3, 0.2, 0.25}, 3, 1},
                    PatienceCase{"NotANumberIsNoImprovement", 2, METRIC_LOSS, {1.0, kNaN, kNaN}, 3, 0},
                    PatienceCase{"NeverANumber", 2, METRIC_LOSS, {kNaN, kNaN, kNaN}, 3, -1},
                    PatienceCase{"ANumberBettersNone", 2, METRIC_LOSS, {kNaN, 5.0, 4.0}, 0, 2}),
    [](const testing::TestParamInfo<PatienceCase>& info) { return info.param.name; });

TEST(ConvergenceTest, PatienceSaysWhatWasNotBettered) {
  Convergence convergence;
  convergence.set_patience(3);
  const auto stop = StopByEvaluations(Series("accuracy", {0.5, 0.9791, 0.9770, 0.9785, 0.9791}), convergence);
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->reason(),
            "accuracy 0.9791 at step 20 was not bettered in the 3 evaluations after it (0.9770, 0.9785, 0.9791)");
  EXPECT_EQ(stop->step(), 50);
}

TEST(ConvergenceTest, PatienceMadeShorterByAResumeStopsAtOnce) {
  Convergence convergence;
  convergence.set_patience(1);
  const auto stop = StopByEvaluations(Series("accuracy", {0.9, 0.8, 0.7}), convergence);
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->reason(), "accuracy 0.9000 at step 10 was not bettered in the last evaluation after it (0.7000)");
}

TEST(ConvergenceTest, TargetIsReachedByEqualOrBetter) {
  Convergence convergence;
  convergence.set_target(0.9);
  EXPECT_FALSE(StopByEvaluations(Series("accuracy", {0.8999}), convergence));
  EXPECT_EQ(StopByEvaluations(Series("accuracy", {0.9}), convergence)->reason(),
            "accuracy 0.9000 at step 10 reached the target 0.9000");
  convergence.set_metric(METRIC_LOSS);
  convergence.set_target(0.005);
  EXPECT_FALSE(StopByEvaluations(Series("loss", {0.0051}), convergence));
  EXPECT_EQ(StopByEvaluations(Series("loss", {0.5, 0.0049}), convergence)->reason(),
            "loss 0.0049 at step 20 reached the target 0.005");
  EXPECT_FALSE(StopByEvaluations(Series("loss", {kNaN}), convergence));
}

TEST(ConvergenceTest, TargetGoesBeforePatience) {
  Convergence convergence;
  convergence.set_patience(1);
  convergence.set_target(0.8);
  EXPECT_EQ(StopByEvaluations(Series("accuracy", {0.9, 0.85}), convergence)->rule(), "target");
}

TEST(ConvergenceTest, OnlyAStrictlyBetterLastIsBest) {
  EXPECT_FALSE(LastIsBest({}, METRIC_ACCURACY));
  EXPECT_TRUE(LastIsBest(Series("accuracy", {0.1}), METRIC_ACCURACY));
  EXPECT_TRUE(LastIsBest(Series("accuracy", {0.1, 0.2}), METRIC_ACCURACY));
  EXPECT_FALSE(LastIsBest(Series("accuracy", {0.2, 0.2}), METRIC_ACCURACY));
  EXPECT_FALSE(LastIsBest(Series("accuracy", {kNaN}), METRIC_ACCURACY));
  EXPECT_FALSE(LastIsBest(Series("loss", {0.1, 0.2}), METRIC_LOSS));
  EXPECT_FALSE(LastIsBest(Series("accuracy", {0.2}), METRIC_LOSS)) << "an evaluation without the metric";
}

}  // namespace
}  // namespace lockstep
