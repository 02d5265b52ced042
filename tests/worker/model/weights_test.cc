#include "worker/model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/reference.h"
#include "worker/model/model.h"
#include "worker/model/torchscript.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;

RunConfig Mlp(uint64_t seed) {
  RunConfig config;
  config.mutable_run()->set_seed(seed);
  config.mutable_model()->set_inputs(6);
  config.mutable_model()->set_outputs(3);
  config.mutable_model()->add_hidden(4);
  return config;
}

std::unique_ptr<Network> Make(uint64_t seed) { return *CreateModel(Mlp(seed), "cpu"); }

std::unique_ptr<Network> Script(absl::string_view name) {
  auto network = LoadTorchScriptModel(absl::StrCat(ScriptsFolder(), "/", name, ".pt"), "cpu");
  EXPECT_TRUE(network.ok()) << network.status();
  return *std::move(network);
}

SafetensorsFile FileOf(const Tensors& tensors) {
  const std::string path = TestPath("weights.safetensors");
  WriteTensors(path, tensors);
  auto file = ReadSafetensors(path);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

Tensors StateOf(const Network& network) {
  Tensors tensors;
  const SavedWeights weights = SaveWeights(network, /*copy=*/true);
  for (size_t i = 0; i < weights.tensors.size(); ++i) tensors[weights.tensors[i].name] = weights.values[i];
  return tensors;
}

std::vector<std::string> Names(const SavedWeights& weights) {
  std::vector<std::string> names;
  for (const TensorInfo& info : weights.tensors) names.push_back(absl::StrCat(info.name, ":", info.dtype));
  return names;
}

TEST(WeightsTest, WhatIsSavedLoadsIntoAnotherNetworkBitwise) {
  const std::unique_ptr<Network> from = Make(1), into = Make(2);
  const auto report = LoadWeights(FileOf(StateOf(*from)), INIT_MATCH_ALL, into.get());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->Summary(), "4 of 4 tensors taken");
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(torch::equal(from->parameters()[i].tensor, into->parameters()[i].tensor));
  EXPECT_TRUE(into->parameters()[0].tensor.requires_grad());
}

TEST(WeightsTest, ASavedNetworkHasEveryNameOfPythonsStateDict) {
  EXPECT_THAT(Names(SaveWeights(*Script("tied"), true)),
              ElementsAre("words.weight:F32", "mix.weight:F32", "mix.bias:F32", "score.weight:F32", "again.weight:F32",
                          "again.bias:F32"));
  EXPECT_THAT(
      Names(SaveWeights(*Script("batch_norm"), true)),
      ElementsAre("first.weight:F32", "first.bias:F32", "norm.weight:F32", "norm.bias:F32", "last.weight:F32",
                  "last.bias:F32", "norm.running_mean:F32", "norm.running_var:F32", "norm.num_batches_tracked:I64"));
}

TEST(WeightsTest, PythonLoadsWhatIsSavedAndGivesTheSameOutputs) {
  const std::string in = TestPath("in.safetensors"), out = TestPath("out.safetensors");
  const torch::Tensor floats = SomeFloats({3, 6}),
                      ids = torch::tensor({1, 5, 6, 0, 2, 2}, torch::kInt64).reshape({2, 3});
  for (const char* name : {"tied", "batch_norm", "frozen_base"}) {
    const std::unique_ptr<Network> network = Script(name);
    for (const NamedTensor& parameter : network->parameters()) parameter.tensor.detach().mul_(0.5);
    network->SetTraining(false);
    const torch::Tensor input = std::string(name) == "tied" ? ids : floats;
    WriteNetwork(in, *network, {{"input", input}});
    RunReference({"load", absl::StrCat(ScriptsFolder(), "/", name, ".pt"), in, out});
    EXPECT_TRUE(torch::allclose(*network->Forward(input), ReadTensors(out).at("output"), 1e-5, 1e-6)) << name;
  }
}

TEST(WeightsTest, ACopyDoesNotChangeWithTraining) {
  const std::unique_ptr<Network> network = Make(1);
  const SavedWeights copy = SaveWeights(*network, /*copy=*/true), view = SaveWeights(*network, /*copy=*/false);
  EXPECT_EQ(copy.bytes(0), view.bytes(0));
  network->parameters()[0].tensor.detach().add_(1);
  EXPECT_NE(copy.bytes(0), view.bytes(0));
  EXPECT_EQ(view.bytes(0).size(), 6 * 4 * 4);
}

TEST(WeightsTest, AllRefusesWhatIsNotWholeAndChangesNothing) {
  const std::unique_ptr<Network> network = Make(1);
  const Tensors before = StateOf(*network);
  Tensors tensors = StateOf(*Make(2));
  tensors.erase("0.bias");
  tensors["2.weight"] = torch::zeros({3, 5});
  tensors["other"] = torch::zeros({2});
  EXPECT_EQ(
      LoadWeights(FileOf(tensors), INIT_MATCH_ALL, network.get()).status().message(),
      "the weights are not this model's: 2 of 4 tensors taken; missing: 0.bias; unlike the model's: 2.weight (F32 [3, "
      "5] "
      "in the file, F32 [3, 4] in the model); not in the model: other");
  for (const auto& [name, tensor] : StateOf(*network)) EXPECT_TRUE(torch::equal(tensor, before.at(name))) << name;
}

TEST(WeightsTest, MatchingTakesWhatFitsAndSaysWhat) {
  const std::unique_ptr<Network> network = Make(1), other = Make(2);
  Tensors tensors = StateOf(*other);
  tensors["2.weight"] = torch::zeros({3, 5});
  const auto report = LoadWeights(FileOf(tensors), INIT_MATCH_MATCHING, network.get());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->taken, ElementsAre("0.weight", "0.bias", "2.bias"));
  EXPECT_TRUE(torch::equal(network->parameters()[0].tensor, other->parameters()[0].tensor));
  EXPECT_FALSE(torch::equal(network->parameters()[2].tensor, other->parameters()[2].tensor));
  EXPECT_EQ(
      LoadWeights(FileOf({{"other", torch::zeros({2})}}), INIT_MATCH_MATCHING, network.get()).status().message(),
      "no tensor fits the model: 0 of 4 tensors taken; missing: 0.weight, 0.bias, 2.weight, 2.bias; not in the model: "
      "other");
}

TEST(WeightsTest, ATiedTensorIsTakenUnderAnyOfItsNames) {
  const std::unique_ptr<Network> network = Script("tied");
  Tensors tensors = StateOf(*network);
  tensors.erase("words.weight");
  tensors["score.weight"] = torch::ones({7, 4});
  ASSERT_TRUE(LoadWeights(FileOf(tensors), INIT_MATCH_ALL, network.get()).ok());
  EXPECT_TRUE(torch::equal(network->parameters()[0].tensor, torch::ones({7, 4})));
  tensors["words.weight"] = torch::zeros({7, 4});
  EXPECT_EQ(LoadWeights(FileOf(tensors), INIT_MATCH_ALL, network.get()).status().message(),
            "the weights are not this model's: 2 of 3 tensors taken; unlike the model's: score.weight (one tensor with "
            "words.weight in the model, another in the file)");
}

TEST(WeightsTest, BuffersMayBeMissing) {
  const std::unique_ptr<Network> network = Script("batch_norm");
  Tensors tensors = StateOf(*network);
  tensors.erase("norm.running_mean");
  const auto report = LoadWeights(FileOf(tensors), INIT_MATCH_ALL, network.get());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->Summary(), "8 of 9 tensors taken; missing: norm.running_mean");
}

}  // namespace
}  // namespace lockstep
