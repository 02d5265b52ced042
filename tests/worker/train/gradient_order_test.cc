#include "worker/train/gradient_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/train/fakes.h"
#include "worker/train/flat_parameters.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

std::vector<torch::Tensor> Copies(const std::vector<NamedTensor>& tensors) {
  std::vector<torch::Tensor> copies;
  for (const NamedTensor& tensor : tensors) copies.push_back(tensor.tensor.detach().clone());
  return copies;
}

TEST(GradientOrderTest, IsTheOrderOfBackwardWithUnusedParametersLast) {
  OddNetwork network(1);  // encoder.weight and its transpose, encoder.bias, unused, decoder.bias
  const auto order = FindGradientOrder(&network, torch::zeros({3, OddNetwork::kValues}));
  ASSERT_TRUE(order.ok()) << order.status();
  ASSERT_EQ(order->size(), 4u);
  EXPECT_EQ(order->front(), 3) << "the decoder's bias, which forward uses last";
  EXPECT_EQ(order->back(), 2) << "the unused one";
  EXPECT_THAT(*order, UnorderedElementsAre(0, 1, 2, 3));
  for (int again = 0; again < 5; ++again) {
    EXPECT_EQ(*FindGradientOrder(&network, torch::zeros({3, OddNetwork::kValues})), *order);
  }
}

TEST(GradientOrderTest, LeavesParametersGradientsAndBuffersAsTheyWere) {
  OddNetwork network(1);
  const auto parameters = Copies(network.parameters()), buffers = Copies(network.buffers());
  ASSERT_TRUE(FindGradientOrder(&network, torch::ones({3, OddNetwork::kValues})).ok());
  for (size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_TRUE(torch::equal(network.parameters()[i].tensor, parameters[i]));
    EXPECT_FALSE(network.parameters()[i].tensor.grad().defined());
  }
  for (size_t i = 0; i < buffers.size(); ++i) EXPECT_TRUE(torch::equal(network.buffers()[i].tensor, buffers[i])) << i;
}

// Registers its layers in another order than it uses them.
class ScrambledNetwork : public OddNetwork {
 public:
  ScrambledNetwork() : OddNetwork(1) {
    for (int i = 0; i < 3; ++i) {
      layers_.push_back({"layer", torch::randn({6, 6}).set_requires_grad(true)});
    }
  }
  absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) override {
    return torch::tanh(torch::tanh(input.mm(layers_[1].tensor)).mm(layers_[2].tensor)).mm(layers_[0].tensor);
  }
  const std::vector<NamedTensor>& parameters() const override { return layers_; }

 private:
  std::vector<NamedTensor> layers_;
};

TEST(GradientOrderTest, RegistrationDoesNotMatter) {
  ScrambledNetwork network;
  EXPECT_THAT(*FindGradientOrder(&network, torch::zeros({2, 6})), ElementsAre(0, 2, 1));
}

TEST(GradientOrderTest, AnOrderOfAnotherModelIsRefused) {
  OddNetwork network(1);
  EXPECT_TRUE(FlatParameters::LayoutOf(network, Optimizer(), {3, 1, 0, 2}).ok());
  EXPECT_TRUE(absl::IsDataLoss(FlatParameters::LayoutOf(network, Optimizer(), {2, 1, 0}).status()));
  EXPECT_TRUE(absl::IsDataLoss(FlatParameters::LayoutOf(network, Optimizer(), {2, 1, 0, 0}).status()));
}

TEST(GradientOrderTest, AModelThatTakesNoZerosOfThisShapeSaysSo) {
  ScrambledNetwork network;
  const auto order = FindGradientOrder(&network, torch::zeros({2, 7}));
  EXPECT_FALSE(order.ok());
  for (const NamedTensor& parameter : network.parameters()) EXPECT_FALSE(parameter.tensor.grad().defined());
}

}  // namespace
}  // namespace lockstep
