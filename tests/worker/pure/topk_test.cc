#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/base/stable_random.h"
#include "tests/worker/pure/compression_testing.h"
#include "worker/comm/index_code.h"
#include "worker/comm/magnitude_selection.h"

namespace lockstep {
namespace {

// `count` of 0 … bound-1, ascending.
std::vector<uint32_t> SomeIndices(int64_t count, int64_t bound, uint64_t key) {
  std::vector<uint32_t> indices;
  StableRandom random(key);
  for (int64_t i = 0; i < bound && static_cast<int64_t>(indices.size()) < count; ++i) {
    const auto left = static_cast<uint64_t>(count) - indices.size();
    if (random.Below(static_cast<uint64_t>(bound - i)) < left) indices.push_back(static_cast<uint32_t>(i));
  }
  return indices;
}

TEST(IndexCodeTest, IndicesComeBackForEveryDensityAndTheSizeFollowsFromTheCounts) {
  for (const int64_t bound : {1, 2, 7, 64, 65, 1000, 99991}) {
    for (const int64_t count : {int64_t{1}, bound / 100, bound / 7, bound / 2, bound - 1, bound}) {
      if (count < 1) continue;
      const IndexCode code(count, bound);
      for (uint64_t key = 0; key < 5; ++key) {
        const std::vector<uint32_t> indices = SomeIndices(count, bound, key);
        std::vector<std::byte> bytes(code.bytes() + 1, std::byte{0xa5});
        code.Encode(indices.data(), bytes.data());
        EXPECT_EQ(bytes.back(), std::byte{0xa5}) << "no byte beyond";
        std::vector<uint32_t> decoded(count);
        ASSERT_TRUE(code.Decode(bytes.data(), decoded.data()));
        ASSERT_EQ(decoded, indices) << count << " of " << bound;
      }
    }
  }
}

TEST(IndexCodeTest, OneOfAHundredTakesLessThanNineBits) {
  EXPECT_LT(static_cast<double>(IndexCode(10000, 1000000).bytes()) * 8 / 10000, 8.6);
  EXPECT_EQ(IndexCode(1, int64_t{1} << 32).bytes(), 5);
  EXPECT_EQ(IndexCode(0, 100).bytes(), 0);
}

TEST(IndexCodeTest, TheFirstAndTheLastIndexOfTheLargestRange) {
  const IndexCode code(2, int64_t{1} << 32);
  const std::vector<uint32_t> ends = {0, ~uint32_t{0}};
  std::vector<std::byte> bytes(code.bytes());
  code.Encode(ends.data(), bytes.data());
  std::vector<uint32_t> decoded(2);
  ASSERT_TRUE(code.Decode(bytes.data(), decoded.data()));
  EXPECT_EQ(decoded, ends);
}

TEST(IndexCodeTest, BytesThatAreNoCodeAreRefused) {
  const IndexCode code(5, 1000);
  std::vector<uint32_t> decoded(5);
  const auto bytes = static_cast<size_t>(code.bytes());
  EXPECT_FALSE(code.Decode(std::vector<std::byte>(bytes, std::byte{0}).data(), decoded.data()));
  EXPECT_FALSE(code.Decode(std::vector<std::byte>(bytes, std::byte{0xff}).data(), decoded.data()));
  // The last index with all its bits set is 1023.
  std::vector<std::byte> beyond(bytes);
  const std::vector<uint32_t> indices = {1, 2, 3, 4, 999};
  code.Encode(indices.data(), beyond.data());
  for (size_t i = 0; i < 5; ++i) beyond[i] = std::byte{0xff};
  EXPECT_FALSE(code.Decode(beyond.data(), decoded.data()));
}

// The bits of the k-th largest magnitude and how many of those like it are among the k, by sorting.
std::pair<uint32_t, int64_t> BySorting(const std::vector<float>& values, int64_t k) {
  std::vector<uint32_t> magnitudes;
  for (const float value : values) magnitudes.push_back(MagnitudeSelection::Magnitude(value));
  std::sort(magnitudes.begin(), magnitudes.end(), std::greater<>());
  const auto first = std::find(magnitudes.begin(), magnitudes.end(), magnitudes[k - 1]);
  return {magnitudes[k - 1], k - (first - magnitudes.begin())};
}

TEST(MagnitudeSelectionTest, ItIsWhatSortingGivesHoweverItIsCutIntoPieces) {
  StableRandom random(Mix({5}));
  for (const int64_t count : {1, 2, 31, 1000, 4099}) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<float> values(count);
      for (float& value : values) {
        const auto normal = static_cast<float>(random.Normal());
        value = kind == 0 ? normal : kind == 1 ? std::round(normal * 2) : kind == 2 ? 0.25F : normal * 1e-40F;
      }
      if (kind == 1 && count > 4) values[3] = std::numeric_limits<float>::quiet_NaN();
      for (const int64_t k : {int64_t{1}, (count + 9) / 10, (count + 1) / 2, count}) {
        for (const int64_t piece : {int64_t{7}, count}) {
          MagnitudeSelection selection(count, k);
          while (selection.pass() < MagnitudeSelection::kPasses) {
            selection.Look(values.data() + selection.next(), std::min(piece, count - selection.next()));
          }
          const auto [threshold, ties] = BySorting(values, k);
          ASSERT_EQ(selection.threshold(), threshold) << k << " of " << count << ", kind " << kind;
          ASSERT_EQ(selection.ties(), ties) << k << " of " << count << ", kind " << kind;
        }
      }
    }
  }
}

CompressionOptions TopK(double ratio) {
  CompressionOptions options;
  options.kind = CompressionKind::kTopK;
  options.topk_ratio = ratio;
  return options;
}

int64_t NonZeros(const std::vector<float>& values) {
  return std::count_if(values.begin(), values.end(), [](float value) { return value != 0; });
}

TEST(TopKTest, ARankSendsExactlyTheLargestAndHoldsTheRestBack) {
  OneRank rank(TopK(0.25), 8);
  std::vector<float> gradients = {1, -5, 2, 5, -3, 4, 0.5, 0};
  EXPECT_TRUE(rank.Step(&gradients));
  EXPECT_EQ(gradients, (std::vector<float>{0, -5, 0, 5, 0, 0, 0, 0}));
  EXPECT_EQ(rank.residual(), (std::vector<float>{1, 0, 2, 0, -3, 4, 0.5, 0}));
  gradients = {1, 0, 2, 0, 0, 0, 0, 1};
  EXPECT_TRUE(rank.Step(&gradients));
  // 2, 0, 4, 0, -3, 4, 0.5, 1
  EXPECT_EQ(gradients, (std::vector<float>{0, 0, 4, 0, 0, 4, 0, 0}));
}

TEST(TopKTest, OfThoseAlikeTheFirstAreSent) {
  OneRank rank(TopK(0.5), 6);
  std::vector<float> gradients = {-1, 1, 1, -1, 2, 1};
  EXPECT_TRUE(rank.Step(&gradients));
  EXPECT_EQ(gradients, (std::vector<float>{-1, 1, 0, 0, 2, 0}));
}

TEST(TopKTest, HowManyIsRoundedUpAndAtLeastOne) {
  for (const auto& [ratio, elements, expected] :
       std::vector<std::tuple<double, int64_t, int64_t>>{{0.01, 5, 1}, {0.07, 100, 7}, {0.01, 101, 2}, {1, 3, 3}}) {
    OneRank rank(TopK(ratio), elements);
    std::vector<float> gradients(elements, 1.5F);
    EXPECT_TRUE(rank.Step(&gradients));
    EXPECT_EQ(NonZeros(gradients), expected) << ratio << " of " << elements;
  }
}

TEST(TopKTest, WhatIsNotFiniteIsSentFirst) {
  OneRank rank(TopK(0.01), 200);
  std::vector<float> gradients(200, 1e30F);
  gradients[150] = std::numeric_limits<float>::quiet_NaN();
  gradients[199] = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(rank.Step(&gradients));
  EXPECT_TRUE(std::isnan(gradients[150]));
  EXPECT_TRUE(std::isinf(gradients[199]));
}

TEST(TopKTest, WhatIsHeldBackIsReleasedOnce) {
  OneRank rank(TopK(0.25), 4);
  std::vector<float> gradients = {1, 2, 3, 4};
  EXPECT_TRUE(rank.Step(&gradients));
  gradients = {10, 10, 10, 10};
  rank.compressor()->Release(absl::MakeSpan(gradients), 0);
  EXPECT_EQ(gradients, (std::vector<float>{11, 12, 13, 10}));
  rank.compressor()->Release(absl::MakeSpan(gradients), 0);
  EXPECT_EQ(gradients, (std::vector<float>{11, 12, 13, 10}));
}

TEST(TopKTest, RanksAgreeBitwiseAndNothingIsLost) {
  for (const int world : {1, 2, 3, 4}) {
    const Story story = TellStory(TopK(0.05), world, OddMatrices(), 12);
    ExpectRanksAgree(story);
    ExpectNothingLost(story, 1e-4);
  }
}

TEST(TopKTest, TheBytesAreThoseOfTheValuesAndAFewBitsForEachIndex) {
  const Story story = TellStory(TopK(0.05), 3, OddMatrices(), 2);
  int64_t expected = 0;
  for (const Part& range : OddRanges()) {
    const auto k = static_cast<int64_t>(std::ceil(0.05 * static_cast<double>(range.count)));
    expected += 2 * (4 * k + IndexCode(k, range.count).bytes());
  }
  EXPECT_EQ(story.wire_bytes, expected);
}

TEST(TopKTest, PiecesOfALargeRangeGiveTheSameAsSorting) {
  constexpr int64_t kElements = 300'001, kSent = 30'001;
  OneRank rank(TopK(0.1), kElements);
  std::vector<float> gradients(kElements);
  StableRandom random(Mix({77}));
  for (float& value : gradients) value = static_cast<float>(random.Normal());
  const std::vector<float> before = gradients;
  EXPECT_TRUE(rank.Step(&gradients));
  EXPECT_EQ(NonZeros(gradients), kSent);
  const uint32_t threshold = BySorting(before, kSent).first;
  const std::vector<float> residual = rank.residual();
  for (int64_t i = 0; i < kElements; ++i) {
    const bool sent = MagnitudeSelection::Magnitude(before[i]) >= threshold;
    ASSERT_EQ(gradients[i], sent ? before[i] : 0) << i;
    ASSERT_EQ(residual[i], sent ? 0 : before[i]) << i;
  }
}

}  // namespace
}  // namespace lockstep
