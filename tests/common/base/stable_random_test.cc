#include "common/base/stable_random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace lockstep {
namespace {

// Random123's tests/kat_vectors, the lines of philox4x32 with 10 rounds.
TEST(PhiloxTest, GivesTheAuthorsKnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(StableRandomTest, NumbersAreThePhiloxBlocksOfTheKeyInOrder) {
  StableRandom random(0x299f31d0'a4093822);
  for (uint32_t block = 0; block < 3; ++block) {
    for (uint32_t number : Philox({block, 0, 0, 0}, {0xa4093822, 0x299f31d0})) EXPECT_EQ(random.Next32(), number);
  }
  StableRandom zero(0);
  EXPECT_EQ(zero.Next64(), 0xe169c58d'6627e8d5);
}

TEST(StableRandomTest, UniformFillsItsIntervalEvenly) {
  StableRandom random(1);
  std::vector<int> tenth(10);
  for (int i = 0; i < 100000; ++i) {
    const double x = random.Uniform();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    ++tenth[static_cast<int>(x * 10)];
  }
  for (int count : tenth) EXPECT_NEAR(count, 10000, 500);  // five standard deviations
}

TEST(StableRandomTest, BelowStaysBelowAndReachesEveryNumber) {
  StableRandom random(2);
  for (uint64_t bound = 1; bound <= 20; ++bound) {
    std::set<uint64_t> seen;
    for (int i = 0; i < 1000; ++i) seen.insert(random.Below(bound));
    EXPECT_EQ(seen.size(), bound);
    EXPECT_EQ(*seen.rbegin(), bound - 1);
  }
}

// A plain remainder would give the numbers below 2^62 half of the time.
TEST(StableRandomTest, BelowIsUnbiasedWhereARemainderWouldNotBe) {
  StableRandom random(3);
  int low = 0;
  for (int i = 0; i < 30000; ++i) low += random.Below(uint64_t{3} << 62) < uint64_t{1} << 62;
  EXPECT_NEAR(low, 10000, 400);
}

TEST(StableRandomTest, NormalHasMeanZeroAndVarianceOne) {
  StableRandom random(4);
  const int n = 100000;
  double sum = 0, squares = 0, beyond = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.Normal();
    sum += x;
    squares += x * x;
    beyond += x > 1.959964;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.03);
  EXPECT_NEAR(beyond / n, 0.025, 0.003);
}

TEST(MixTest, DependsOnEveryPartItsPlaceAndTheirNumber) {
  const std::set<uint64_t> keys = {Mix({}),     Mix({0}),       Mix({0, 0}),    Mix({1}),    Mix({0, 1}),
                                   Mix({1, 0}), Mix({1, 2, 3}), Mix({3, 2, 1}), Mix({1, 2}), Mix({uint64_t{1} << 63})};
  EXPECT_EQ(keys.size(), 10u);
}

// Runs are repeated from seeds, and fingerprints are compared with recorded ones, so this may never change.
TEST(MixTest, StaysAsItIs) { EXPECT_EQ(Mix({1, 2, 3}), 0x3cf0271ce36a8c94); }

}  // namespace
}  // namespace lockstep
