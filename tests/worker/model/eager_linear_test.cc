#include "worker/model/eager_linear.h"

#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn.h>
#include <torch/utils.h>

#include <memory>
#include <string>
#include <vector>

namespace lockstep {
namespace {

using ::testing::ElementsAre;

torch::nn::Linear Copied(EagerLinear layer) {
  torch::nn::Linear copy(layer->options.in_features(), layer->options.out_features());
  torch::NoGradGuard no_grad;
  copy->weight.copy_(layer->weight);
  copy->bias.copy_(layer->bias);
  return copy;
}

// As bytes: -0 and 0 differ.
bool SameBits(const torch::Tensor& a, const torch::Tensor& b) {
  return torch::equal(a.contiguous().view(torch::kInt32), b.contiguous().view(torch::kInt32));
}

TEST(EagerLinearTest, ValuesAndGradientsAreThoseOfLinear) {
  torch::manual_seed(3);
  for (const int64_t batch : {1, 5, 64}) {
    EagerLinear layer(37, 19);
    torch::nn::Linear linear = Copied(layer);
    const torch::Tensor input = torch::randn({batch, 37}), weights = torch::randn({batch, 19});
    torch::Tensor mine = input.clone().requires_grad_(), its = input.clone().requires_grad_();
    const torch::Tensor output = layer->forward(mine), expected = linear->forward(its);
    EXPECT_TRUE(SameBits(output, expected)) << "batch " << batch;
    (torch::relu(output) * weights).sum().backward();
    (torch::relu(expected) * weights).sum().backward();
    EXPECT_TRUE(SameBits(layer->weight.grad(), linear->weight.grad())) << "batch " << batch;
    EXPECT_TRUE(SameBits(layer->bias.grad(), linear->bias.grad())) << "batch " << batch;
    EXPECT_TRUE(SameBits(mine.grad(), its.grad())) << "batch " << batch;
  }
}

// What happened, in order: matrix products, and gradients that came to their parameters.
thread_local std::vector<std::string> happened;

class NotedProducts {
 public:
  NotedProducts() : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(Note))) { happened.clear(); }
  ~NotedProducts() { at::removeCallback(handle_); }

 private:
  static std::unique_ptr<at::ObserverContext> Note(const at::RecordFunction& function) {
    if (std::string(function.name()) == "aten::mm") happened.push_back("product");
    return nullptr;
  }
  const at::CallbackHandle handle_;
};

template <typename Layer>
std::vector<std::string> BackwardOf(Layer layer) {
  layer->weight.register_hook([](const torch::Tensor&) { happened.push_back("weight"); });
  layer->bias.register_hook([](const torch::Tensor&) { happened.push_back("bias"); });
  const torch::Tensor input = torch::randn({3, 6}).requires_grad_();
  const torch::Tensor loss = layer->forward(input).sum();
  const NotedProducts noted;
  loss.backward();
  return happened;
}

TEST(EagerLinearTest, ParametersGradientsComeBeforeTheInputsIsComputed) {
  EXPECT_THAT(BackwardOf(EagerLinear(6, 5)), ElementsAre("product", "bias", "weight", "product"));
  // What it is there for: without it both products come first.
  const std::vector<std::string> usual = BackwardOf(torch::nn::Linear(6, 5));
  ASSERT_EQ(usual.size(), 4u);
  EXPECT_THAT(std::vector<std::string>(usual.begin(), usual.begin() + 2), ElementsAre("product", "product"));
}

TEST(EagerLinearTest, KeepsNothingForGradientsThatNobodyWants) {
  EagerLinear layer(6, 5);
  torch::NoGradGuard no_grad;
  EXPECT_FALSE(layer->forward(torch::randn({3, 6})).requires_grad());
}

}  // namespace
}  // namespace lockstep
