// Optimizers over spans against torch::optim.
#include <gtest/gtest.h>
#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

constexpr int kSteps = 20;

struct Shape {
  std::string name;
  std::vector<int64_t> sizes;
};
const std::vector<Shape>& Shapes() {
  static const auto* const shapes =
      new std::vector<Shape>{{"0.weight", {37, 19}}, {"0.bias", {37}}, {"2.weight", {5, 37}}, {"2.bias", {5}}};
  return *shapes;
}

ParameterLayout LayoutOf(const Optimizer& config) {
  std::vector<ParameterLayout::Parameter> parameters;
  for (const Shape& shape : Shapes()) parameters.push_back({shape.name, shape.sizes});
  return ParameterLayout(parameters, config);
}

// The same random gradients for both sides.
std::vector<torch::Tensor> Gradients(int step) {
  torch::manual_seed(1000 + step);
  std::vector<torch::Tensor> gradients;
  for (const Shape& shape : Shapes()) gradients.push_back(torch::randn(shape.sizes));
  return gradients;
}

std::vector<torch::Tensor> InitialParameters() {
  torch::manual_seed(1);
  std::vector<torch::Tensor> parameters;
  for (const Shape& shape : Shapes()) parameters.push_back(torch::randn(shape.sizes).set_requires_grad(true));
  return parameters;
}

// Puts tensors in order of registration into the flat array's order, and back.
std::vector<float> Flatten(const ParameterLayout& layout, const std::vector<torch::Tensor>& tensors) {
  std::vector<float> flat(layout.elements());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ParameterSegment& segment = layout.segments()[tensors.size() - 1 - i];
    const torch::Tensor values = tensors[i].detach().contiguous();
    std::copy_n(values.data_ptr<float>(), segment.count, flat.begin() + segment.first);
  }
  return flat;
}

// After kSteps, applied in cuts of `cut` elements.
std::vector<float> Ours(const Optimizer& config, int64_t cut, double grad_scale = 1) {
  const ParameterLayout layout = LayoutOf(config);
  const auto optimizer = CreateOptimizer(config, &layout);
  std::vector<float> parameters = Flatten(layout, InitialParameters());
  for (int step = 1; step <= kSteps; ++step) {
    const std::vector<float> gradients = Flatten(layout, Gradients(step));
    optimizer->BeginStep(step, config.lr(), grad_scale);
    for (int64_t first = 0; first < layout.elements(); first += cut) {
      optimizer->Apply(parameters.data(), gradients.data(), first, std::min(cut, layout.elements() - first));
    }
  }
  return parameters;
}

void ExpectLikeTorch(const Optimizer& config, torch::optim::Optimizer* optimizer,
                     const std::vector<torch::Tensor>& parameters) {
  for (int step = 1; step <= kSteps; ++step) {
    const std::vector<torch::Tensor> gradients = Gradients(step);
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i].clone();
    optimizer->step();
  }
  const std::vector<float> theirs = Flatten(LayoutOf(config), parameters);
  const std::vector<float> ours = Ours(config, /*cut=*/1 << 20);
  for (size_t i = 0; i < ours.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], 1e-6 * std::max(1.0f, std::abs(theirs[i])));
}

Optimizer SgdConfig(double momentum, bool nesterov, double weight_decay) {
  Optimizer config;
  config.set_name(OPTIMIZER_NAME_SGD);
  config.set_lr(0.05);
  config.set_momentum(momentum);
  config.set_nesterov(nesterov);
  config.set_weight_decay(weight_decay);
  return config;
}

Optimizer AdamWConfig(double weight_decay) {
  Optimizer config;
  config.set_name(OPTIMIZER_NAME_ADAMW);
  config.set_lr(0.01);
  config.set_beta1(0.9);
  config.set_beta2(0.999);
  config.set_eps(1e-8);
  config.set_weight_decay(weight_decay);
  return config;
}

class SgdTest : public testing::TestWithParam<Optimizer> {};

TEST_P(SgdTest, TwentyStepsAreThoseOfTorch) {
  const Optimizer& config = GetParam();
  const std::vector<torch::Tensor> parameters = InitialParameters();
  torch::optim::SGD sgd(parameters, torch::optim::SGDOptions(config.lr())
                                        .momentum(config.momentum())
                                        .nesterov(config.nesterov())
                                        .weight_decay(config.weight_decay()));
  ExpectLikeTorch(config, &sgd, parameters);
}

INSTANTIATE_TEST_SUITE_P(Variants, SgdTest,
                         testing::Values(SgdConfig(0, false, 0), SgdConfig(0, false, 0.01), SgdConfig(0.9, false, 0),
                                         SgdConfig(0.9, false, 0.01), SgdConfig(0.9, true, 0),
                                         SgdConfig(0.9, true, 0.01)));

TEST(AdamWTest, TwentyStepsAreThoseOfTorch) {
  for (double weight_decay : {0.0, 0.1}) {
    const Optimizer config = AdamWConfig(weight_decay);
    const std::vector<torch::Tensor> parameters = InitialParameters();
    torch::optim::AdamW adamw(parameters, torch::optim::AdamWOptions(config.lr()).weight_decay(weight_decay));
    ExpectLikeTorch(config, &adamw, parameters);
  }
}

TEST(SpanOptimizerTest, GroupsGiveNamedParametersTheirOwnDecayAndRate) {
  Optimizer config = AdamWConfig(0.1);
  ParameterGroup* biases = config.add_groups();
  biases->set_pattern("*.bias");
  biases->set_weight_decay(0);
  biases->set_lr_scale(2);
  const std::vector<torch::Tensor> parameters = InitialParameters();
  auto rest = std::make_unique<torch::optim::AdamWOptions>(config.lr());
  rest->weight_decay(0.1);
  auto own = std::make_unique<torch::optim::AdamWOptions>(config.lr() * 2);
  own->weight_decay(0);
  torch::optim::AdamW adamw(
      std::vector<torch::optim::OptimizerParamGroup>{
          torch::optim::OptimizerParamGroup({parameters[0], parameters[2]}, std::move(rest)),
          torch::optim::OptimizerParamGroup({parameters[1], parameters[3]}, std::move(own))},
      torch::optim::AdamWOptions(config.lr()));
  ExpectLikeTorch(config, &adamw, parameters);
}

TEST(SpanOptimizerTest, TheCutOfTheSpansDoesNotChangeABit) {
  for (const Optimizer& config : {SgdConfig(0.9, false, 0.01), SgdConfig(0.9, true, 0.01), AdamWConfig(0.1)}) {
    const std::vector<float> whole = Ours(config, 1 << 20);
    for (int64_t cut : {1, 7, 16, 333}) EXPECT_EQ(Ours(config, cut), whole) << "cut " << cut;
  }
}

TEST(SpanOptimizerTest, AFactorOnGradientsIsThatOnEachElement) {
  const Optimizer config = SgdConfig(0, false, 0);
  const std::vector<float> whole = Ours(config, 1 << 20), half = Ours(config, 1 << 20, 0.5);
  const std::vector<float> start = Flatten(LayoutOf(config), InitialParameters());
  for (size_t i = 0; i < start.size(); ++i) EXPECT_NEAR(start[i] - half[i], (start[i] - whole[i]) / 2, 1e-5);
}

}  // namespace
}  // namespace lockstep
