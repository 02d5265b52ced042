#include "worker/train/gradient_placement.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

namespace lockstep {
namespace {

constexpr int64_t kWide = 24;
constexpr int64_t kElements = kWide * kWide;

torch::Tensor Random(uint64_t seed) { return torch::randn({kWide, kWide}, at::detail::createCPUGenerator(seed)); }

// Two layers of the same size, so that one's gradient fits the other's place.
class GradientPlacementTest : public testing::Test {
 protected:
  GradientPlacementTest() : memory_(2 * kElements), placement_(Places(), {kBytes, kBytes}) {
    for (int i = 0; i < 2; ++i) weights_.push_back(Random(1 + i).requires_grad_());
  }

  torch::Tensor Forward(bool long_way) const {
    torch::Tensor x = Random(7);
    if (long_way) x = (x + weights_[1]).mul(weights_[1]).sigmoid();
    return x.mm(weights_[0]).relu().mm(weights_[1]).square().sum();
  }

  // One pass, as GradientBuckets has it; the gradients.
  std::vector<torch::Tensor> Pass(bool long_way) {
    for (torch::Tensor& weight : weights_) weight.mutable_grad().reset();
    const torch::Tensor loss = Forward(long_way);
    placement_.Begin();
    loss.backward();
    std::vector<torch::Tensor> gradients;
    for (int i = 0; i < 2; ++i) {
      gradients.push_back(weights_[i].grad());
      placement_.Came(i, gradients[i].data_ptr());
    }
    placement_.End();
    return gradients;
  }

  std::vector<torch::Tensor> Plain(bool long_way) const {
    return torch::autograd::grad({Forward(long_way)}, {weights_[0], weights_[1]});
  }

  std::byte* Place(int i) { return reinterpret_cast<std::byte*>(memory_.data() + i * kElements); }

  static constexpr size_t kBytes = kElements * sizeof(float);
  std::vector<std::byte*> Places() { return {Place(0), Place(1)}; }
  std::vector<float> memory_;
  GradientPlacement placement_;
  std::vector<torch::Tensor> weights_;
};

TEST_F(GradientPlacementTest, AfterOnePassGradientsAreWrittenWhereTheyBelong) {
  const std::vector<torch::Tensor> first = Pass(false);
  for (int i = 0; i < 2; ++i) EXPECT_NE(first[i].data_ptr(), Place(i));
  for (int pass = 0; pass < 3; ++pass) {
    const std::vector<torch::Tensor> gradients = Pass(false), expected = Plain(false);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(gradients[i].data_ptr(), Place(i));
      EXPECT_TRUE(torch::equal(gradients[i], expected[i]));
      EXPECT_TRUE(placement_.Given(i));
    }
  }
}

TEST_F(GradientPlacementTest, AGraphThatChangesCostsPlacesButNoValues) {
  for (bool long_way : {false, false, true, false, true, true, true, false}) {
    const std::vector<torch::Tensor> gradients = Pass(long_way), expected = Plain(long_way);
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(torch::equal(gradients[i], expected[i]));
  }
  const std::vector<torch::Tensor> gradients = Pass(false);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(gradients[i].data_ptr(), Place(i));
}

TEST_F(GradientPlacementTest, OutsideAPassNothingIsPlaced) {
  Pass(false);
  Pass(false);
  for (torch::Tensor& weight : weights_) weight.mutable_grad().reset();
  Forward(false).backward();
  for (int i = 0; i < 2; ++i) EXPECT_NE(weights_[i].grad().data_ptr(), Place(i));
}

}  // namespace
}  // namespace lockstep
