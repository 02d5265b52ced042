#include "worker/comm/compression.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/worker/pure/compression_testing.h"

namespace lockstep {
namespace {

TEST(CompressionTest, AShorterFormatGivesAllRanksTheSameWithinRounding) {
  for (const CompressionKind kind : {CompressionKind::kF16, CompressionKind::kBF16}) {
    CompressionOptions options;
    options.kind = kind;
    for (const int world : {1, 2, 4}) {
      const Story story = TellStory(options, world, OddMatrices(), 3);
      ExpectRanksAgree(story);
      const double rounding = std::ldexp(1, kind == CompressionKind::kF16 ? -11 : -8);
      ExpectNothingLost(story, 3 * 2 * 6.0 * world * rounding);
      EXPECT_EQ(story.wire_bytes, kOddElements * 2 * 2 * (world - 1) / world);
    }
  }
}

TEST(CompressionTest, AShorterFormatHoldsNothingBack) {
  EXPECT_TRUE(NewCompressor(CompressionOptions(), 100, {})->states().empty());
}

}  // namespace
}  // namespace lockstep
