#include "worker/model/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/types.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/reference.h"

namespace lockstep {
namespace {

namespace F = torch::nn::functional;
using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::Pair;

std::unique_ptr<Objective> Make(LossName name, const std::string& script = "") {
  Loss loss;
  loss.set_name(name);
  if (!script.empty()) loss.set_torchscript(absl::StrCat(ScriptsFolder(), "/", script, ".pt"));
  auto objective = CreateObjective(loss, "cpu");
  EXPECT_TRUE(objective.ok()) << objective.status();
  return objective.ok() ? *std::move(objective) : nullptr;
}

std::string Refusal(LossName name, const torch::Tensor& output, const torch::Tensor& target) {
  const auto loss = Make(name)->MeanLoss(output, target);
  return loss.ok() ? "taken" : std::string(loss.status().message());
}

torch::Tensor Labels(std::vector<int64_t> labels) { return torch::tensor(labels, torch::kInt64); }

TEST(ObjectiveTest, CrossEntropyTakesLabelsAndProbabilities) {
  const torch::Tensor output = SomeFloats({4, 3}), labels = Labels({0, 2, 1, 2});
  const auto loss = Make(LOSS_NAME_CROSS_ENTROPY)->MeanLoss(output, labels);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_TRUE(torch::equal(*loss, F::cross_entropy(output, labels)));
  const auto soft = Make(LOSS_NAME_CROSS_ENTROPY)->MeanLoss(output, torch::one_hot(labels, 3).to(torch::kFloat32));
  ASSERT_TRUE(soft.ok()) << soft.status();
  EXPECT_NEAR(soft->item<float>(), loss->item<float>(), 1e-6);
}

TEST(ObjectiveTest, CrossEntropyRefusesLabelsThatTheModelHasNoOutputFor) {
  const torch::Tensor output = SomeFloats({3, 4});
  EXPECT_EQ(Refusal(LOSS_NAME_CROSS_ENTROPY, output, Labels({0, 4, 1})),
            "label 4 is out of range: the model has 4 outputs; set model.outputs to the number of classes");
  EXPECT_EQ(Refusal(LOSS_NAME_CROSS_ENTROPY, output, Labels({0, -100, 1})),
            "label -100 is out of range: the model has 4 outputs; set model.outputs to the number of classes");
  EXPECT_EQ(Refusal(LOSS_NAME_CROSS_ENTROPY, output, Labels({0, 1})),
            "loss cross_entropy takes outputs of shape [samples, classes] and one label a sample: the outputs are [3, "
            "4], the "
            "labels [2]");
  EXPECT_EQ(
      Refusal(LOSS_NAME_CROSS_ENTROPY, output, torch::zeros({3, 2})),
      "loss cross_entropy takes class labels, or a probability for each output: the targets are [3, 2] of floats, the "
      "outputs [3, 4]; set loss.name to mse for values");
  const std::string values = "loss cross_entropy takes class labels, or a probability for each output, and the data's targets are from ";
  EXPECT_EQ(Refusal(LOSS_NAME_CROSS_ENTROPY, output, torch::full({3, 4}, -0.5)),
            values + "-0.5 to -0.5 and do not add up to 1: set loss.name to mse for values");
  EXPECT_EQ(Refusal(LOSS_NAME_CROSS_ENTROPY, output, torch::eye(4).slice(0, 0, 3) * 2 - 0.25),
            values + "-0.25 to 1.75: set loss.name to mse for values");
}

TEST(ObjectiveTest, MeanSquaredErrorComparesEachValueWithItsOwn) {
  const torch::Tensor output = SomeFloats({5, 1}), target = torch::arange(5).to(torch::kFloat32);
  const auto loss = Make(LOSS_NAME_MSE)->MeanLoss(output, target);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_NEAR(loss->item<float>(), (output.squeeze(1) - target).square().mean().item<float>(), 1e-6);
  EXPECT_EQ(Refusal(LOSS_NAME_MSE, output, Labels({0, 1, 0, 1, 1})),
            "loss mse takes floating-point targets, and the data's are class labels: set loss.name to cross_entropy, "
            "or to bce "
            "for two classes and one output");
  EXPECT_EQ(Refusal(LOSS_NAME_MSE, SomeFloats({5, 2}), target),
            "loss mse takes a target for each output: the outputs are [5, 2], the targets [5]; set model.outputs to "
            "the values "
            "of a target");
}

TEST(ObjectiveTest, BinaryCrossEntropyTakesLabelsAndFloatsFromZeroToOne) {
  const torch::Tensor output = SomeFloats({4, 1}), labels = Labels({0, 1, 1, 0});
  const auto loss = Make(LOSS_NAME_BCE)->MeanLoss(output, labels);
  ASSERT_TRUE(loss.ok()) << loss.status();
  const torch::Tensor floats = labels.to(torch::kFloat32).unsqueeze(1);
  EXPECT_TRUE(torch::equal(*loss, F::binary_cross_entropy_with_logits(output, floats)));
  EXPECT_TRUE(torch::equal(*Make(LOSS_NAME_BCE)->MeanLoss(output, floats), *loss));
  EXPECT_EQ(Refusal(LOSS_NAME_BCE, output, Labels({0, 1, 2, 0})),
            "loss bce takes targets from 0 to 1, and the data have 2: set loss.name to cross_entropy or mse");
  EXPECT_EQ(
      Refusal(LOSS_NAME_BCE, SomeFloats({4, 10}), labels),
      "loss bce takes one output for labels 0 and 1, and the outputs are [4, 10]: set model.outputs to 1, or loss.name "
      "to cross_entropy");
}

TEST(ObjectiveTest, AScriptedLossMayGiveOneLossASampleOrTheirMean) {
  const torch::Tensor output = SomeFloats({4, 3}).requires_grad_(true), labels = Labels({0, 2, 1, 2});
  const auto each = Make(LOSS_NAME_TORCHSCRIPT, "each_loss")->MeanLoss(output, labels);
  ASSERT_TRUE(each.ok()) << each.status();
  EXPECT_NEAR(each->item<float>(), F::cross_entropy(output, labels).item<float>(), 1e-6);
  each->backward();
  EXPECT_GT(output.grad().abs().sum().item<float>(), 0);
  const auto weighted = Make(LOSS_NAME_TORCHSCRIPT, "weighted_loss")->MeanLoss(output, labels);
  ASSERT_TRUE(weighted.ok()) << weighted.status();
  EXPECT_GT(weighted->item<float>(), each->item<float>());
}

TEST(ObjectiveTest, AScriptedLossOfTheWrongKindIsRefused) {
  const std::string file = absl::StrCat(ScriptsFolder(), "/wrong_loss.pt");
  EXPECT_EQ(
      Make(LOSS_NAME_TORCHSCRIPT, "wrong_loss")->MeanLoss(SomeFloats({4, 3}), Labels({0, 1, 2, 0})).status().message(),
      file + ": returns Float of shape [4, 3] for 4 samples: return one loss a sample, or their mean");
  Loss loss;
  loss.set_name(LOSS_NAME_TORCHSCRIPT);
  loss.set_torchscript(absl::StrCat(ScriptsFolder(), "/trainable_loss.pt"));
  EXPECT_EQ(CreateObjective(loss, "cpu").status().message(),
            loss.torchscript() +
                ": a loss with parameters, which nothing would train: make them buffers, or part of the model");
}

TEST(MetricSumsTest, ValuesOfLabelsAreThoseWorkedOutByHand) {
  MetricSums sums({METRIC_ACCURACY, METRIC_TOP5, METRIC_LOSS, METRIC_PERPLEXITY});
  // Row i has its outputs in falling order from column 0: the label is also its place.
  const torch::Tensor output = torch::tensor({7.f, 6.f, 5.f, 4.f, 3.f, 2.f, 1.f}).repeat({4, 1});
  ASSERT_TRUE(sums.Add(output, Labels({0, 4, 5, 0}), 0.5).ok());
  EXPECT_THAT(sums.Values(), ElementsAre(Pair("accuracy", 0.5), Pair("loss", 0.5),
                                         Pair("perplexity", DoubleEq(std::exp(0.5))), Pair("top5", 0.75)));
  EXPECT_EQ(sums.samples(), 4);
}

TEST(MetricSumsTest, OneOutputCountsAsYesAboveZero) {
  MetricSums sums({METRIC_ACCURACY});
  const torch::Tensor output = torch::tensor({1.f, -1.f, 2.f, -3.f}).unsqueeze(1);
  ASSERT_TRUE(sums.Add(output, Labels({1, 0, 0, 0}), 1).ok());
  ASSERT_TRUE(sums.Add(output, torch::tensor({1.f, 0.f, 0.f, 0.f}), 1).ok());
  EXPECT_EQ(sums.Values()["accuracy"], 0.75);
}

TEST(MetricSumsTest, MeanAbsoluteErrorIsOverAllValues) {
  MetricSums sums({METRIC_MAE});
  ASSERT_TRUE(sums.Add(torch::tensor({1.f, 2.f, 3.f, 4.f}).reshape({2, 2}), torch::zeros({2, 2}), 1).ok());
  ASSERT_TRUE(sums.Add(torch::tensor({6.f, 8.f}).reshape({1, 2}), torch::zeros({1, 2}), 1).ok());
  EXPECT_EQ(sums.Values()["mae"], 4);
}

TEST(MetricSumsTest, SharesAddUpToOnePassExactly) {
  const torch::Tensor output = SomeFloats({100, 10}), labels = torch::randint(10, {100}, torch::kInt64);
  const std::vector<Metric> metrics = {METRIC_ACCURACY, METRIC_TOP5};
  MetricSums whole(metrics), added(metrics);
  ASSERT_TRUE(whole.Add(output, labels, 0.25).ok());
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{0, 33}, {33, 34}, {34, 34}, {34, 100}}) {
    MetricSums share(metrics);
    ASSERT_TRUE(share.Add(output.slice(0, begin, end), labels.slice(0, begin, end), 0.25).ok());
    for (size_t i = 0; i < share.sums().size(); ++i) added.sums()[i] += share.sums()[i];
  }
  EXPECT_EQ(added.Values(), whole.Values());
  EXPECT_EQ(added.samples(), 100);
}

TEST(MetricSumsTest, AMetricWithoutMeaningIsRefused) {
  MetricSums sums({METRIC_TOP5});
  EXPECT_EQ(sums.Add(SomeFloats({4, 1}), torch::zeros({4}), 1).message(),
            "metric top5 has no meaning for outputs of shape [4, 1] and targets of shape [4], Float: leave it out of "
            "metrics");
}

}  // namespace
}  // namespace lockstep
