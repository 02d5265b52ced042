#include "common/base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lockstep {
namespace {

TEST(StatisticsTest, StudentsTIsThatOfTheTables) {
  EXPECT_NEAR(StudentT95(1), 12.706, 1e-3);
  EXPECT_NEAR(StudentT95(10), 2.228, 1e-3);
  EXPECT_NEAR(StudentT95(40), 2.021, 2e-3);
  EXPECT_NEAR(StudentT95(120), 1.980, 2e-3);
}

TEST(StatisticsTest, PercentilesAreValuesThatAreThere) {
  std::vector<double> values = {5, 1, 4, 2, 3};
  EXPECT_EQ(Percentile(&values, 0.5), 3);
  EXPECT_EQ(Percentile(&values, 0.95), 5);
  EXPECT_EQ(Percentile(&values, 0), 1);
  std::vector<double> none;
  EXPECT_EQ(Percentile(&none, 0.5), 0);
}

TEST(StatisticsTest, TheMeansIntervalIsStudents) {
  const Mean mean = MeanOf({1, 2, 3});
  EXPECT_DOUBLE_EQ(mean.value, 2);
  EXPECT_NEAR(mean.half, 4.303 / std::sqrt(3.0), 1e-3);
  EXPECT_EQ(MeanOf({7}).half, 0);
  EXPECT_TRUE(std::isnan(MeanOf({}).value));
}

}  // namespace
}  // namespace lockstep
