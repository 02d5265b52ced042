#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "common/base/stable_random.h"
#include "tests/worker/pure/compression_testing.h"
#include "worker/comm/low_rank.h"

namespace lockstep {
namespace {

CompressionOptions PowerSgd(int rank) {
  CompressionOptions options;
  options.kind = CompressionKind::kPowerSgd;
  options.powersgd_rank = rank;
  return options;
}

std::vector<float> Random(int64_t count, uint64_t key) {
  std::vector<float> values(count);
  StableRandom random(Mix({13, key}));
  for (float& value : values) value = static_cast<float>(random.Normal());
  return values;
}

// A matrix of the given rank, row by row.
std::vector<float> OfRank(int rank, int64_t rows, int64_t columns, uint64_t key) {
  const std::vector<float> left = Random(rows * rank, key), right = Random(columns * rank, key + 1);
  std::vector<float> matrix(rows * columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (int k = 0; k < rank; ++k) sum += static_cast<double>(left[i * rank + k]) * right[j * rank + k];
      matrix[i * columns + j] = static_cast<float>(sum);
    }
  }
  return matrix;
}

double Norm(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return Norm(difference);
}

TEST(LowRankTest, ProductsAreThoseOfTheDefinitionForOddShapesCutIntoPieces) {
  for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {9, 7}, {70, 33}, {5, 1100}}) {
    for (const int rank : {1, 3, 4, 7}) {
      const std::vector<float> gradients = Random(rows * columns, 1), held = Random(rows * columns, 2);
      const std::vector<float> q = Random(columns * rank, 3), own_q = Random(columns * rank, 4);
      std::vector<float> m = held, p(rows * rank), back(columns * rank), rebuilt(rows * columns);
      for (int64_t i = 0; i < rows; i += 4) {
        const int64_t piece = std::min<int64_t>(4, rows - i);
        AddAndProject(&gradients[i * columns], piece, columns, q.data(), rank, &m[i * columns], &p[i], rows);
      }
      for (int64_t i = 0; i < rows; ++i) {
        for (int k = 0; k < rank; ++k) {
          double sum = 0;
          for (int64_t j = 0; j < columns; ++j)
            sum += (gradients[i * columns + j] + held[i * columns + j]) * q[k * columns + j];
          ASSERT_NEAR(p[k * rows + i], sum, 1e-3) << rows << "x" << columns << " rank " << rank;
        }
      }
      for (int64_t i = 0; i < rows; i += 4) {
        const int64_t piece = std::min<int64_t>(4, rows - i);
        ProjectBack(&m[i * columns], piece, columns, &p[i], rows, rank, back.data());
      }
      for (int64_t j = 0; j < columns; ++j) {
        for (int k = 0; k < rank; ++k) {
          double sum = 0, size = 1;
          for (int64_t i = 0; i < rows; ++i) {
            sum += static_cast<double>(m[i * columns + j]) * p[k * rows + i];
            size += std::fabs(static_cast<double>(m[i * columns + j]) * p[k * rows + i]);
          }
          ASSERT_NEAR(back[k * columns + j], sum, 1e-5 * size);
        }
      }
      const std::vector<float> before = m;
      Rebuild(p.data(), rows, rows, columns, q.data(), own_q.data(), rank, rebuilt.data(), m.data());
      for (int64_t at = 0; at < rows * columns; ++at) {
        double sum = 0, own = 0, size = 1;
        for (int k = 0; k < rank; ++k) {
          const double factor = p[k * rows + at / columns];
          sum += factor * q[k * columns + at % columns];
          own += factor * own_q[k * columns + at % columns];
          size += std::fabs(factor) * 10;
        }
        ASSERT_NEAR(rebuilt[at], sum, 1e-5 * size);
        ASSERT_NEAR(m[at], before[at] - own, 1e-5 * size);
      }
    }
  }
}

double DotOf(const std::vector<float>& p, int64_t rows, int a, int b) {
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) sum += static_cast<double>(p[a * rows + i]) * p[b * rows + i];
  return sum;
}

TEST(LowRankTest, ColumnsBecomeOrthonormalWhateverTheirSizes) {
  constexpr int64_t kRows = 333;
  std::vector<float> p = Random(kRows * 5, 8);
  for (int64_t i = 0; i < kRows; ++i) {
    p[1 * kRows + i] = p[i] + 1e-3F * p[1 * kRows + i];  // nearly the one before
    p[2 * kRows + i] *= 1e-25F;
    p[3 * kRows + i] *= 1e18F;
  }
  Orthonormalise(kRows, 5, p.data());
  for (int a = 0; a < 5; ++a) {
    for (int b = 0; b <= a; ++b) EXPECT_NEAR(DotOf(p, kRows, a, b), a == b ? 1 : 0, 2e-6) << a << ", " << b;
  }
}

TEST(LowRankTest, AColumnThatAddsNothingBecomesZero) {
  constexpr int64_t kRows = 64;
  std::vector<float> p = Random(kRows * 4, 9);
  for (int64_t i = 0; i < kRows; ++i) {
    p[1 * kRows + i] = 0;
    p[2 * kRows + i] = -3 * p[i];
  }
  Orthonormalise(kRows, 4, p.data());
  EXPECT_NEAR(DotOf(p, kRows, 0, 0), 1, 1e-6);
  EXPECT_EQ(DotOf(p, kRows, 1, 1), 0);
  EXPECT_EQ(DotOf(p, kRows, 2, 2), 0);
  EXPECT_NEAR(DotOf(p, kRows, 3, 3), 1, 1e-6);
}

TEST(PowerSgdTest, AMatrixOfItsRankComesBackWhole) {
  for (const int rank : {1, 4, 6}) {
    OneRank one(PowerSgd(rank), 60 * 45, {{0, 60, 45}});
    const std::vector<float> matrix = OfRank(rank, 60, 45, 20 + rank);
    std::vector<float> gradients = matrix;
    ASSERT_TRUE(one.Step(&gradients));
    EXPECT_LT(Distance(gradients, matrix), 1e-4 * Norm(matrix)) << "rank " << rank;
    EXPECT_LT(Norm(one.residual()), 1e-4 * Norm(matrix));
  }
}

TEST(PowerSgdTest, AMatrixOfLessThanItsRankDoesToo) {
  OneRank one(PowerSgd(4), 60 * 45, {{0, 60, 45}});
  for (int step = 0; step < 3; ++step) {
    const std::vector<float> matrix = OfRank(2, 60, 45, 30 + step);
    std::vector<float> gradients = matrix;
    ASSERT_TRUE(one.Step(&gradients));
    EXPECT_LT(Distance(gradients, matrix), 1e-4 * Norm(matrix)) << "step " << step;
  }
}

TEST(PowerSgdTest, TheSameGradientAgainAndAgainIsCaughtUpWith) {
  OneRank one(PowerSgd(2), 40 * 30, {{0, 40, 30}});
  const std::vector<float> matrix = OfRank(6, 40, 30, 50);
  std::vector<float> applied(matrix.size());
  constexpr int kSteps = 60;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<float> gradients = matrix;
    ASSERT_TRUE(one.Step(&gradients));
    for (size_t i = 0; i < applied.size(); ++i) applied[i] += gradients[i] / kSteps;
  }
  EXPECT_LT(Distance(applied, matrix), 0.2 * Norm(matrix));
}

TEST(PowerSgdTest, GradientsOfZeroGiveZeroAndDoNoHarmToTheNextStep) {
  OneRank one(PowerSgd(3), 50 * 20, {{0, 50, 20}});
  std::vector<float> gradients(1000);
  for (int step = 0; step < 2; ++step) {
    ASSERT_TRUE(one.Step(&gradients));
    EXPECT_EQ(Norm(gradients), 0);
  }
  const std::vector<float> matrix = OfRank(3, 50, 20, 60);
  gradients = matrix;
  ASSERT_TRUE(one.Step(&gradients));
  EXPECT_LT(Distance(gradients, matrix), 1e-4 * Norm(matrix));
}

TEST(PowerSgdTest, ANotANumberDoesNotVanish) {
  OneRank one(PowerSgd(2), 50 * 20, {{0, 50, 20}});
  std::vector<float> gradients = OfRank(2, 50, 20, 70);
  gradients[333] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE(one.Step(&gradients));
  EXPECT_TRUE(std::isnan(gradients[333]));
}

TEST(PowerSgdTest, WhatIsNoMatrixOrTooSmallAOneGoesExact) {
  // 4 x 4 of rank 2 would be as much as it is; the rest belongs to no matrix.
  OneRank one(PowerSgd(2), 30, {{0, 4, 4}});
  std::vector<float> gradients = Random(30, 80);
  const std::vector<float> before = gradients;
  ASSERT_TRUE(one.Step(&gradients));
  EXPECT_EQ(gradients, before);
  EXPECT_EQ(Norm(one.residual()), 0);
}

TEST(PowerSgdTest, RanksAgreeBitwiseAndNothingIsLost) {
  for (const int rank : {1, 4}) {
    for (const int world : {1, 2, 3, 4}) {
      const Story story = TellStory(PowerSgd(rank), world, OddMatrices(), 12);
      ExpectRanksAgree(story);
      ExpectNothingLost(story, 2e-3);
    }
  }
}

TEST(PowerSgdTest, TheBytesAreThoseOfTheFactorsAndOfWhatGoesExact) {
  const Story story = TellStory(PowerSgd(2), 2, OddMatrices(), 2);
  // Of the first matrix rows 0 to 16 lie in the first range and 18 to 39 in the second; of the third rows 0 to 19 in
  // the third and 21 to 30 in the fourth. The second and the last go exact.
  const int64_t factors = 2 * ((17 + 50) + (22 + 50) + (20 + 64) + (10 + 64));
  const int64_t exact = kOddElements - 17 * 50 - 22 * 50 - 20 * 64 - 10 * 64;
  EXPECT_NEAR(static_cast<double>(story.wire_bytes), static_cast<double>(4 * (factors + exact)), 16);
}

}  // namespace
}  // namespace lockstep
