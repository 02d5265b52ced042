#include "worker/model/torchscript.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/reference.h"
#include "worker/model/model.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

std::string Script(absl::string_view name) { return absl::StrCat(ScriptsFolder(), "/", name, ".pt"); }

std::unique_ptr<Network> Load(absl::string_view name) {
  RunConfig config;
  config.mutable_model()->set_name(MODEL_NAME_TORCHSCRIPT);
  config.mutable_model()->set_torchscript(Script(name));
  auto network = CreateModel(config, "cpu");
  EXPECT_TRUE(network.ok()) << network.status();
  return network.ok() ? *std::move(network) : nullptr;
}

std::string Refusal(absl::string_view name) {
  const auto network = LoadTorchScriptModel(Script(name), "cpu");
  return network.ok() ? "taken" : std::string(network.status().message());
}

std::vector<std::string> Names(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> names;
  for (const NamedTensor& tensor : tensors) names.push_back(tensor.name);
  return names;
}

// One training pass here and in Python from the file's weights: outputs, gradients and buffers.
void ExpectTrainsAsInPython(absl::string_view name, const torch::Tensor& input, const torch::Tensor& target) {
  const std::string in = TestPath("in.safetensors"), out = TestPath("out.safetensors");
  WriteTensors(in, {{"input", input}, {"target", target}});
  RunReference({"train", Script(name), in, out});
  const Tensors expected = ReadTensors(out);
  const std::unique_ptr<Network> network = Load(name);
  ASSERT_NE(network, nullptr);
  network->SetTraining(true);
  const auto output = network->Forward(input);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_LE((*output - expected.at("output")).abs().max().item<float>(), 1e-6);
  torch::nll_loss(torch::log_softmax(*output, 1), target).backward();
  for (const NamedTensor& parameter : network->parameters()) {
    const torch::Tensor& gradient = expected.at("gradient." + parameter.name);
    EXPECT_LE((parameter.tensor.grad() - gradient).abs().max().item<float>(), 1e-6) << parameter.name;
  }
  for (const NamedTensor& buffer : network->buffers()) {
    const torch::Tensor difference = (buffer.tensor - expected.at("buffer." + buffer.name)).abs();
    EXPECT_LE(difference.max().item<float>(), 1e-6) << buffer.name;
  }
}

TEST(TorchScriptNetworkTest, BatchNormTrainsAsInPython) {
  ExpectTrainsAsInPython("batch_norm", SomeFloats({5, 6}), torch::tensor({0, 1, 2, 2, 1}, torch::kInt64));
  const std::unique_ptr<Network> network = Load("batch_norm");
  EXPECT_THAT(Names(network->parameters()),
              ElementsAre("first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias"));
  EXPECT_THAT(Names(network->buffers()),
              ElementsAre("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"));
}

// What a watched pass tells.
class Told : public LayerWatch {
 public:
  void Forward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override {
    forward.push_back(layer);
    EXPECT_LE(begin_ns, end_ns);
    forward_flops += flops;
  }
  void Backward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override {
    backward.push_back(layer);
    EXPECT_LE(begin_ns, end_ns);
    backward_flops += flops;
  }
  std::vector<std::string> forward, backward;
  double forward_flops = 0, backward_flops = 0;
};

TEST(TorchScriptNetworkTest, OperatorsAreToldWithTheirOperationsAndNothingChangesByIt) {
  const std::unique_ptr<Network> network = Load("dropout");  // 6 to 64 to 3
  ASSERT_NE(network, nullptr);
  network->SetTraining(false);
  const torch::Tensor input = torch::rand({8, 6});
  const torch::Tensor before = *network->Forward(input);
  Told told;
  network->Watch(&told);
  const torch::Tensor watched = *network->Forward(input);
  watched.sum().backward();
  network->Watch(nullptr);
  EXPECT_TRUE(torch::equal(before, watched));
  const size_t operators = told.forward.size();
  (void)network->Forward(input);
  EXPECT_EQ(told.forward.size(), operators) << "not told any more";
  EXPECT_THAT(told.forward, testing::Contains("linear"));
  EXPECT_THAT(told.backward, testing::Contains("AddmmBackward0"));
  const double first = 2.0 * 8 * 6 * 64, second = 2.0 * 8 * 64 * 3;
  EXPECT_EQ(told.forward_flops, first + second);
  EXPECT_EQ(told.backward_flops, first + 2 * second) << "the data ask for no gradient";
}

TEST(TorchScriptNetworkTest, TiedWeightsAndIntegerInputTrainAsInPython) {
  ExpectTrainsAsInPython("tied", torch::tensor({1, 5, 6, 0, 2, 2}, torch::kInt64).reshape({2, 3}),
                         torch::tensor({4, 1}, torch::kInt64));
  const std::unique_ptr<Network> network = Load("tied");
  EXPECT_THAT(Names(network->parameters()), ElementsAre("words.weight", "mix.weight", "mix.bias"));
  EXPECT_THAT(network->tied(), ElementsAre(Pair("score.weight", "words.weight"), Pair("again.weight", "mix.weight"),
                                           Pair("again.bias", "mix.bias")));
}

TEST(TorchScriptNetworkTest, ParametersOverOneMemoryAreOneWithTheSumOfTheirGradients) {
  const std::string in = TestPath("in.safetensors"), out = TestPath("out.safetensors");
  const torch::Tensor input = SomeFloats({3, 6}), target = torch::tensor({0, 5, 2}, torch::kInt64);
  WriteTensors(in, {{"input", input}, {"target", target}});
  RunReference({"train", Script("same_memory"), in, out});
  const Tensors expected = ReadTensors(out);
  const std::unique_ptr<Network> network = Load("same_memory");
  EXPECT_THAT(Names(network->parameters()), ElementsAre("first"));
  EXPECT_THAT(network->tied(), ElementsAre(Pair("second", "first")));
  torch::nll_loss(torch::log_softmax(*network->Forward(input), 1), target).backward();
  const torch::Tensor sum = expected.at("gradient.first") + expected.at("gradient.second");
  EXPECT_LE((network->parameters()[0].tensor.grad() - sum).abs().max().item<float>(), 1e-6);
}

TEST(TorchScriptNetworkTest, EveryPassRoundsAsTheFirst) {
  const std::unique_ptr<Network> network = Load("smooth");
  const torch::Tensor input = SomeFloats({16, 6});
  torch::Tensor first;
  // LibTorch profiles a script's first calls, then would change how it computes.
  for (int i = 0; i < 5; ++i) {
    for (const NamedTensor& parameter : network->parameters()) parameter.tensor.mutable_grad() = torch::Tensor();
    network->Forward(input)->select(1, 1).mean().backward();
    const torch::Tensor gradient = network->parameters()[0].tensor.grad().clone();
    if (i == 0) first = gradient;
    EXPECT_TRUE(torch::equal(gradient, first)) << "pass " << i;
  }
}

TEST(TorchScriptNetworkTest, EvaluationModeLeavesBuffersAloneAndUsesThem) {
  const std::unique_ptr<Network> network = Load("batch_norm");
  const torch::Tensor input = SomeFloats({5, 6});
  network->SetTraining(false);
  const torch::Tensor before = network->buffers()[0].tensor.clone();
  const torch::Tensor alone = *network->Forward(input.slice(0, 0, 1)), together = *network->Forward(input);
  EXPECT_TRUE(torch::equal(network->buffers()[0].tensor, before));
  EXPECT_TRUE(torch::allclose(alone[0], together[0], 1e-5, 1e-6));
  network->SetTraining(true);
  EXPECT_FALSE(torch::allclose((*network->Forward(input))[0], together[0], 1e-3, 1e-3));
  EXPECT_FALSE(torch::equal(network->buffers()[0].tensor, before));
  EXPECT_EQ(network->buffers()[2].tensor.item<int64_t>(), 1);
}

TEST(TorchScriptNetworkTest, DropoutFollowsFromTheSeedAndIsOffInEvaluation) {
  const std::unique_ptr<Network> network = Load("dropout");
  const torch::Tensor input = SomeFloats({5, 6});
  const auto run = [&](uint64_t seed) {
    torch::manual_seed(seed);
    return *network->Forward(input);
  };
  network->SetTraining(true);
  const torch::Tensor first = run(7);
  EXPECT_TRUE(torch::equal(run(7), first));
  EXPECT_FALSE(torch::equal(run(8), first));
  network->SetTraining(false);
  EXPECT_TRUE(torch::equal(run(7), run(8)));
}

TEST(TorchScriptNetworkTest, WhatIsWrittenIntoItsTensorsIsWhatItUses) {
  const std::unique_ptr<Network> network = Load("tied");
  const torch::Tensor input = torch::tensor({1, 5}, torch::kInt64).reshape({1, 2});
  for (const NamedTensor& parameter : network->parameters()) {
    torch::Tensor tensor = parameter.tensor;
    tensor.set_data(torch::zeros_like(tensor));  // as a trainer that keeps all parameters in one array
  }
  EXPECT_EQ(network->Forward(input)->abs().max().item<float>(), 0);
}

TEST(TorchScriptNetworkTest, ABufferThatTheScriptAssignsStaysTheTensorThatWasHandedOut) {
  const std::unique_ptr<Network> network = Load("replaces");
  network->SetTraining(true);
  const torch::Tensor count = network->buffers()[0].tensor;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(network->Forward(torch::zeros({1, 6})).ok());
  EXPECT_EQ(count.item<float>(), 3);
}

TEST(TorchScriptNetworkTest, ParametersWithoutGradientAreKeptApart) {
  const std::unique_ptr<Network> network = Load("frozen_base");
  EXPECT_THAT(Names(network->parameters()), ElementsAre("last.weight", "last.bias"));
  EXPECT_THAT(Names(network->frozen()), ElementsAre("base.weight", "base.bias"));
}

TEST(TorchScriptNetworkTest, RefusesWhatCannotBeTrainedAndSaysWhatToDo) {
  EXPECT_EQ(Refusal("frozen"),
            Script("frozen") +
                ": has no parameters to train: export it with torch.jit.script(net).save(...), without "
                "torch.jit.freeze or optimize_for_inference");
  EXPECT_EQ(Refusal("double"),
            Script("double") +
                ": parameter first.weight is Double, and training takes float32: export the net after "
                "net.float()");
  EXPECT_EQ(Refusal("traced"),
            Script("traced") +
                ": its batch norm cannot change between training and evaluation mode, as tracing leaves "
                "it: export it with torch.jit.script in place of torch.jit.trace");
  EXPECT_EQ(Refusal("half_shared"),
            Script("half_shared") +
                ": whole and part share memory but not shape: tie the whole tensor, or clone one "
                "before exporting");
  EXPECT_EQ(Refusal("no_gradient"),
            Script("no_gradient") +
                ": no parameter asks for a gradient: call net.requires_grad_(True) before exporting "
                "it");
  EXPECT_EQ(Refusal("two_inputs"),
            Script("two_inputs") + ": forward takes 2 inputs, and training gives it one: export a net of one input");
}

TEST(TorchScriptNetworkTest, AFileThatIsNoTorchScriptIsOneLine) {
  std::ofstream(Script("text")) << "not a network";
  for (const char* name : {"state_dict", "text"}) {
    EXPECT_THAT(Refusal(name), StartsWith(Script(name) + ": not a TorchScript file that LibTorch ")) << name;
    EXPECT_THAT(Refusal(name), HasSubstr(" can load; write it with torch.jit.script(net).save(...): ")) << name;
    EXPECT_THAT(Refusal(name), Not(HasSubstr("\n"))) << name;
  }
}

TEST(TorchScriptNetworkTest, AFileThatIsGoneIsSaidToBe) {
  EXPECT_EQ(Refusal("nowhere"), Script("nowhere") + ": no such file, and model.torchscript names it: put it back");
}

TEST(TorchScriptNetworkTest, AnErrorInTheScriptIsItsOwnMessageOnOneLine) {
  EXPECT_EQ(Load("two_outputs")->Forward(torch::zeros({2, 6})).status().message(),
            Script("two_outputs") + ": forward returns Tuple, and training takes one tensor");
  EXPECT_EQ(Load("raises")->Forward(torch::full({2, 6}, 1e9)).status().message(),
            Script("raises") +
                ": forward of an input of shape [2, 6], Float: builtins.ValueError: these numbers are too large");
  EXPECT_EQ(Load("batch_norm")->Forward(torch::zeros({2, 7})).status().message(),
            Script("batch_norm") +
                ": forward of an input of shape [2, 7], Float: mat1 and mat2 shapes cannot be multiplied "
                "(2x7 and 6x8)");
}

}  // namespace
}  // namespace lockstep
