#include "worker/bench/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lockstep {
namespace {

TEST(StatisticsTest, QuantilesAreInterpolated) {
  EXPECT_DOUBLE_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_DOUBLE_EQ(Quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(Quantile({10, 20}, 0.1), 11);
  EXPECT_DOUBLE_EQ(Quantile({7}, 0.9), 7);
}

TEST(StatisticsTest, BusBandwidthIsWhatEachLinkCarries) {
  EXPECT_DOUBLE_EQ(BusBandwidth(10, 2), 10);
  EXPECT_DOUBLE_EQ(BusBandwidth(10, 4), 15);
}

TEST(StatisticsTest, ARatioIsTheGeometricMeanOfPairsWithItsInterval) {
  const Ratio same = RatioOf({2, 4, 6}, {1, 2, 3});
  EXPECT_DOUBLE_EQ(same.mean, 2);
  EXPECT_NEAR(same.low, 2, 1e-12);
  EXPECT_NEAR(same.high, 2, 1e-12);
  // Logarithms 0 and ln 4: mean ln 2, deviation ln 4 / sqrt 2, of two pairs.
  const Ratio spread = RatioOf({1, 4}, {1, 1});
  EXPECT_DOUBLE_EQ(spread.mean, 2);
  EXPECT_NEAR(std::log(spread.high / 2), 12.706 * std::log(4) / 2, 1e-9);
  EXPECT_NEAR(spread.low * spread.high, 4, 1e-9);
}

}  // namespace
}  // namespace lockstep
