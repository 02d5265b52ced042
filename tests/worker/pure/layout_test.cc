#include "worker/train/layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lockstep {
namespace {

constexpr double kMiB = 1024.0 * 1024.0 / sizeof(float);  // elements

std::vector<ParameterLayout::Parameter> Mlp() {
  return {{"0.weight", {1024, 784}}, {"0.bias", {1024}},       {"2.weight", {1024, 1024}},
          {"2.bias", {1024}},        {"4.weight", {10, 1024}}, {"4.bias", {10}}};
}

TEST(LayoutTest, AGroupThatMatchesNothingIsRefusedWithTheNamesThatThereAre) {
  Optimizer optimizer;
  optimizer.add_groups()->set_pattern("*.bias");
  EXPECT_EQ(CheckGroups(Mlp(), optimizer), absl::OkStatus());
  optimizer.add_groups()->set_pattern("fc?.*");
  EXPECT_EQ(CheckGroups(Mlp(), optimizer),
            absl::InvalidArgumentError("optimizer.groups[1].pattern 'fc?.*' matches no parameter; the model has "
                                       "0.weight, 0.bias, 2.weight, 2.bias, 4.weight, 4.bias"));
}

TEST(LayoutTest, ParametersLieInReverseOrderOfRegistrationOnCacheLines) {
  const ParameterLayout layout(Mlp(), Optimizer());
  ASSERT_EQ(layout.segments().size(), 6u);
  EXPECT_EQ(layout.segments()[0].name, "4.bias");
  EXPECT_EQ(layout.segments()[1].first, 16);
  EXPECT_EQ(layout.segments()[5].name, "0.weight");
  int64_t sum = 0;
  for (const ParameterSegment& segment : layout.segments()) {
    EXPECT_EQ(segment.first % 16, 0);
    sum += segment.count;
  }
  EXPECT_EQ(layout.parameters(), sum);
  EXPECT_EQ(layout.elements(), sum + 6);
}

TEST(LayoutTest, BucketsCoverTheArrayInOrderAndTheFirstIsSmall) {
  const ParameterLayout layout(Mlp(), Optimizer());
  for (double bucket_mb : {0.001, 1.0, 4.0, 25.0}) {
    int64_t next = 0;
    int segment = 0;
    const std::vector<BucketRange> buckets = layout.Buckets(bucket_mb);
    for (const BucketRange& bucket : buckets) {
      EXPECT_EQ(bucket.first, next);
      EXPECT_EQ(bucket.first_segment, segment);
      const double cap = segment == 0 ? std::min(1.0, bucket_mb) : bucket_mb;
      EXPECT_TRUE(bucket.segments == 1 || static_cast<double>(bucket.count) <= cap * kMiB) << bucket_mb;
      next += bucket.count;
      segment += bucket.segments;
    }
    EXPECT_EQ(next, layout.elements());
    EXPECT_EQ(segment, 6);
  }
  EXPECT_EQ(layout.Buckets(25).size(), 2u);
}

TEST(LayoutTest, AnOrderOfGradientsIsTheOrderOfTheLayout) {
  const ParameterLayout layout(Mlp(), Optimizer(), {2, 3, 5, 4, 0, 1});
  const std::vector<std::string> expected = {"2.weight", "2.bias", "4.bias", "4.weight", "0.weight", "0.bias"};
  int64_t next = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const ParameterSegment& segment = layout.segments()[i];
    EXPECT_EQ(segment.name, expected[i]);
    EXPECT_EQ(Mlp()[segment.number].name, segment.name);
    EXPECT_EQ(segment.first, next);
    next += (segment.count + 15) / 16 * 16;
  }
  EXPECT_EQ(layout.Buckets(1)[0].count, 1024 * 1024);
  EXPECT_TRUE(IsOrder({2, 0, 1}, 3));
  for (const std::vector<int>& order : {std::vector<int>{0, 1}, {0, 1, 1}, {0, 1, 3}, {-1, 0, 1}, {0, 1, 2, 2}}) {
    EXPECT_FALSE(IsOrder(order, 3));
  }
}

TEST(LayoutTest, AModelWithoutParametersHasNoBuckets) {
  const ParameterLayout layout({}, Optimizer());
  EXPECT_EQ(layout.elements(), 0);
  EXPECT_TRUE(layout.Buckets(25).empty());
}

TEST(LayoutTest, TheFirstGroupThatMatchesCounts) {
  Optimizer optimizer;
  optimizer.set_weight_decay(0.1);
  ParameterGroup* biases = optimizer.add_groups();
  biases->set_pattern("*.bias");
  biases->set_weight_decay(0);
  ParameterGroup* last = optimizer.add_groups();
  last->set_pattern("4.*");
  last->set_lr_scale(0.5);
  const ParameterLayout layout(Mlp(), optimizer);
  EXPECT_EQ(layout.segments()[0].weight_decay, 0);  // 4.bias
  EXPECT_EQ(layout.segments()[0].lr_scale, 1);
  EXPECT_EQ(layout.segments()[1].weight_decay, 0.1);  // 4.weight
  EXPECT_EQ(layout.segments()[1].lr_scale, 0.5);
}

TEST(LayoutTest, PatternsAreShellPatternsOfStarsAndQuestionMarks) {
  EXPECT_TRUE(MatchesPattern("*.bias", "0.bias"));
  EXPECT_FALSE(MatchesPattern("*.bias", "0.bias2"));
  EXPECT_TRUE(MatchesPattern("*a*b*c", "xxaxxbbxxbcc"));
  EXPECT_FALSE(MatchesPattern("*a*b*c", "xxaxxccx"));
  EXPECT_TRUE(MatchesPattern("layer?.w*", "layer3.weight"));
  EXPECT_FALSE(MatchesPattern("layer?.w", "layer10.w"));
  EXPECT_TRUE(MatchesPattern("*", ""));
  EXPECT_FALSE(MatchesPattern("", "a"));
}

}  // namespace
}  // namespace lockstep
