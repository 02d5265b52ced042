#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "common/data/plan.h"

namespace lockstep {
namespace {

void ExpectBijection(uint64_t n, uint64_t key) {
  const Permutation permutation(n, key);
  std::vector<bool> hit(n);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t at = permutation.At(i);
    ASSERT_LT(at, n) << "n " << n << ", key " << key;
    ASSERT_FALSE(hit[at]) << at << " twice; n " << n << ", key " << key;
    hit[at] = true;
  }
}

TEST(PermutationTest, IsABijectionForEverySmallNumber) {
  for (uint64_t n = 1; n <= 300; ++n) {
    for (uint64_t key = 0; key < 3; ++key) ExpectBijection(n, key);
  }
}

TEST(PermutationTest, IsABijectionAroundPowersOfTwo) {
  for (int bits = 9; bits <= 16; ++bits) {
    for (int off = -1; off <= 1; ++off) ExpectBijection((uint64_t{1} << bits) + off, bits);
  }
}

TEST(PermutationTest, IsABijectionForManySamples) {
  ExpectBijection(60000, 1);
  ExpectBijection(1'000'003, 2);
}

TEST(PermutationTest, StaysInsideNumbersThatFillSixtyFourBits) {
  for (const uint64_t n : {uint64_t{1} << 40, (uint64_t{1} << 62) + 1, ~uint64_t{0}}) {
    const Permutation permutation(n, 5);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) seen.insert(permutation.At(n - 1 - i * 77));
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_LT(*seen.rbegin(), n);
  }
}

TEST(PermutationTest, EveryOrderOfThreeComesAboutAsOften) {
  std::map<std::vector<uint64_t>, int> orders;
  for (uint64_t key = 0; key < 6000; ++key) {
    const Permutation permutation(3, key);
    ++orders[{permutation.At(0), permutation.At(1), permutation.At(2)}];
  }
  EXPECT_EQ(orders.size(), 6u);
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, 1000, 150);
}

// The expected number of fixed points of a random permutation is 1, of ascents half of its steps.
TEST(PermutationTest, LooksRandom) {
  int fixed = 0, ascents = 0;
  for (uint64_t key = 0; key < 400; ++key) {
    const Permutation permutation(1000, key);
    for (uint64_t i = 0; i < 1000; ++i) {
      fixed += permutation.At(i) == i;
      if (i > 0) ascents += permutation.At(i - 1) < permutation.At(i);
    }
  }
  EXPECT_NEAR(fixed, 400, 100);                  // five standard deviations
  EXPECT_NEAR(ascents, 400 * 999 / 2, 5 * 183);  // sqrt(400 · 1001 / 12)
}

}  // namespace
}  // namespace lockstep
