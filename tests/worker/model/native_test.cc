#include "worker/model/native.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/worker/model/reference.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;

struct Net {
  std::string name;  // in the config and in Python
  ModelName model;
  int64_t inputs;
  std::vector<int64_t> hidden;  // as Python is told
  bool hidden_is_default;
};

const Net kNets[] = {
    {"logistic", MODEL_NAME_LOGISTIC, 784, {}, true}, {"mlp", MODEL_NAME_MLP, 784, {1024, 1024}, true},
    {"mlp", MODEL_NAME_MLP, 30, {7, 9, 5}, false},    {"wide", MODEL_NAME_WIDE, 784, {4096, 4096}, true},
    {"cnn", MODEL_NAME_CNN, 784, {}, true},           {"cnn", MODEL_NAME_CNN, 144, {}, true},
};

RunConfig ConfigOf(const Net& net, uint64_t seed) {
  RunConfig config;
  config.mutable_run()->set_seed(seed);
  config.mutable_model()->set_name(net.model);
  config.mutable_model()->set_inputs(net.inputs);
  config.mutable_model()->set_outputs(10);
  if (!net.hidden_is_default) config.mutable_model()->mutable_hidden()->Add(net.hidden.begin(), net.hidden.end());
  return config;
}

std::string JsonOf(const Net& net) {
  return absl::StrCat("{\"name\": \"", net.name, "\", \"inputs\": ", net.inputs, ", \"hidden\": [",
                      absl::StrJoin(net.hidden, ", "), "], \"outputs\": 10}");
}

// What a watched pass tells.
class Told : public LayerWatch {
 public:
  void Forward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override {
    Add(&forward, layer, begin_ns, end_ns, flops);
  }
  void Backward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override {
    Add(&backward, layer, begin_ns, end_ns, flops);
  }
  std::vector<std::string> forward, backward;
  double flops = 0;
  int64_t last_ns = 0;

 private:
  void Add(std::vector<std::string>* pass, const std::string& layer, int64_t begin_ns, int64_t end_ns, double more) {
    EXPECT_GE(begin_ns, last_ns) << layer;
    EXPECT_GE(end_ns, begin_ns) << layer;
    last_ns = end_ns;
    pass->push_back(layer);
    flops += more;
  }
};

torch::Tensor GradientOf(Network* network, const torch::Tensor& input) {
  for (const NamedTensor& parameter : network->parameters()) parameter.tensor.mutable_grad() = torch::Tensor();
  const absl::StatusOr<torch::Tensor> output = network->Forward(input);
  EXPECT_TRUE(output.ok()) << output.status();
  output->square().sum().backward();
  std::vector<torch::Tensor> flat;
  for (const NamedTensor& parameter : network->parameters()) flat.push_back(parameter.tensor.grad().flatten());
  return torch::cat(flat);
}

TEST(WatchedNetworkTest, LayersAreToldInTheirOrderAndNothingChangesByIt) {
  for (const Net& net : {kNets[1], kNets[4]}) {
    const auto network = CreateModel(ConfigOf(net, 3), "cpu");
    ASSERT_TRUE(network.ok()) << network.status();
    const torch::Tensor input = torch::ones({4, net.inputs});
    const torch::Tensor before = GradientOf(network->get(), input);
    Told told;
    (*network)->Watch(&told);
    EXPECT_TRUE(torch::equal(GradientOf(network->get(), input), before));
    (*network)->Watch(nullptr);
    const size_t layers = told.forward.size();
    EXPECT_TRUE(torch::equal(GradientOf(network->get(), input), before));
    EXPECT_EQ(told.forward.size(), layers) << "not told any more";
    ASSERT_FALSE(told.backward.empty());
    EXPECT_EQ(told.backward.front(), told.forward.back());
    if (net.model != MODEL_NAME_MLP) continue;
    EXPECT_THAT(told.forward, ElementsAre("0 Linear", "1 ReLU", "2 Linear", "3 ReLU", "4 Linear"));
    EXPECT_THAT(told.backward, ElementsAre("4 Linear", "3 ReLU", "2 Linear", "1 ReLU", "0 Linear"));
    const double first = 2.0 * 4 * 784 * 1024, second = 2.0 * 4 * 1024 * 1024, third = 2.0 * 4 * 1024 * 10;
    EXPECT_EQ(told.flops, 2 * first + 3 * (second + third)) << "the data ask for no gradient";
  }
}

class NativeNetworkTest : public ::testing::TestWithParam<Net> {};

TEST_P(NativeNetworkTest, InitialWeightsAreBitwiseThoseOfPyTorch) {
  const std::string file = TestPath("initial.safetensors");
  for (const uint64_t seed : {uint64_t{1}, uint64_t{123456789012}}) {
    RunReference({"initial", JsonOf(GetParam()), absl::StrCat(seed), file});
    const Tensors expected = ReadTensors(file);
    const auto network = CreateModel(ConfigOf(GetParam(), seed), "cpu");
    ASSERT_TRUE(network.ok()) << network.status();
    ASSERT_EQ((*network)->parameters().size(), expected.size());
    for (const NamedTensor& parameter : (*network)->parameters()) {
      ASSERT_EQ(expected.count(parameter.name), 1) << parameter.name;
      EXPECT_TRUE(torch::equal(parameter.tensor, expected.at(parameter.name))) << parameter.name << ", seed " << seed;
    }
  }
}

TEST_P(NativeNetworkTest, OutputsAndGradientsAreThoseOfPyTorch) {
  const std::string in = TestPath("in.safetensors"), out = TestPath("out.safetensors");
  auto network = CreateModel(ConfigOf(GetParam(), 5), "cpu");
  ASSERT_TRUE(network.ok()) << network.status();
  const torch::Tensor input = SomeFloats({4, GetParam().inputs});
  const torch::Tensor target = torch::tensor({3, 0, 9, 3}, torch::kInt64);
  WriteNetwork(in, **network, {{"input", input}, {"target", target}});
  RunReference({"gradients", JsonOf(GetParam()), in, out});
  const Tensors expected = ReadTensors(out);

  (*network)->SetTraining(true);
  const auto output = (*network)->Forward(input);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_LE((*output - expected.at("output")).abs().max().item<float>(), 1e-6);
  const auto loss = (*CreateObjective(Loss(), "cpu"))->MeanLoss(*output, target);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_NEAR(loss->item<float>(), expected.at("loss").item<float>(), 1e-6);
  loss->backward();
  for (const NamedTensor& parameter : (*network)->parameters()) {
    const torch::Tensor& gradient = expected.at("gradient." + parameter.name);
    EXPECT_LE((parameter.tensor.grad() - gradient).abs().max().item<float>(), 1e-6) << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, NativeNetworkTest, ::testing::ValuesIn(kNets),
                         [](const auto& info) { return absl::StrCat(info.param.name, "_of_", info.param.inputs); });

TEST(NativeNetworkShapes, TakesASampleInAnyShapeOfItsSize) {
  auto network = CreateModel(ConfigOf(kNets[0], 1), "cpu");
  ASSERT_TRUE(network.ok());
  const torch::Tensor input = SomeFloats({3, 28, 28});
  const auto image = (*network)->Forward(input), flat = (*network)->Forward(input.reshape({3, 784}));
  ASSERT_TRUE(image.ok() && flat.ok());
  EXPECT_TRUE(torch::equal(*image, *flat));
  EXPECT_THAT(image->sizes().vec(), ElementsAre(3, 10));
  const auto integers = (*network)->Forward(torch::ones({3, 784}, torch::kInt64));
  ASSERT_TRUE(integers.ok()) << integers.status();
  EXPECT_TRUE(torch::equal(*integers, *(*network)->Forward(torch::ones({3, 784}))));
}

TEST(NativeNetworkShapes, RefusesSamplesOfAnotherSize) {
  auto network = CreateModel(ConfigOf(kNets[0], 1), "cpu");
  ASSERT_TRUE(network.ok());
  EXPECT_EQ(
      (*network)->Forward(torch::zeros({3, 10, 10})).status().message(),
      "the model takes 784 values a sample, and was given a batch of shape [3, 10, 10]: set model.inputs, or data "
      "that fit it");
  EXPECT_FALSE((*network)->Forward(torch::zeros({0, 784})).ok());
}

TEST(NativeNetworkShapes, TheCnnTakesImagesOfTheShapeThatTheDataAreGiven) {
  Net net = kNets[4];
  net.inputs = 2 * 12 * 20;
  RunConfig config = ConfigOf(net, 1);
  EXPECT_EQ(
      CreateModel(config, "cpu").status().message(),
      "model cnn takes images, and the 480 values of a sample make none of 1 x 22 x 22: set data.shape to [height, "
      "width] or [channels, height, width]");
  for (const int64_t size : {2, 12, 20}) config.mutable_data()->add_shape(size);
  auto network = CreateModel(config, "cpu");
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_THAT((*network)->parameters()[0].tensor.sizes().vec(), ElementsAre(32, 2, 3, 3));
  EXPECT_THAT((*network)->parameters()[4].tensor.sizes().vec(), ElementsAre(128, 64 * 4 * 8));
  EXPECT_TRUE((*network)->Forward(torch::zeros({5, 2, 12, 20})).ok());
}

TEST(NativeNetworkShapes, RefusesWhatHasNoSizeOrTooSmallAnImage) {
  Net net = kNets[4];
  net.inputs = 25;
  EXPECT_EQ(CreateModel(ConfigOf(net, 1), "cpu").status().message(),
            "model cnn takes images of at least 6 x 6, and a sample's are 5 x 5: set data.shape, or take model mlp");
  net.inputs = 0;
  EXPECT_EQ(CreateModel(ConfigOf(net, 1), "cpu").status().message(),
            "the sizes of the model are not known: set model.inputs and model.outputs, or data to take them from");
}

}  // namespace
}  // namespace lockstep
