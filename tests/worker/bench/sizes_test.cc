#include "worker/bench/sizes.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(SizesTest, BytesMayHaveASuffixOfPowersOf1024) {
  EXPECT_EQ(*ParseBytes("64"), 64);
  EXPECT_EQ(*ParseBytes("4K"), 4096);
  EXPECT_EQ(*ParseBytes("25m"), 25 << 20);
  EXPECT_EQ(*ParseBytes("1G"), 1 << 30);
  for (const char* bad : {"", "K", "-1", "1.5M", "1T", "999999999G", "64 K"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseBytes(bad).status())) << bad;
  }
}

TEST(SizesTest, AListHasCommas) {
  EXPECT_EQ(*ListedCounts("4,1K,25M"), (std::vector<int64_t>{1, 256, 25 << 18}));
  EXPECT_EQ(ListedCounts("1K,").status().message(), "--sizes: '' is no size; write bytes, as 65536, 64K, 25M or 1G");
  EXPECT_EQ(ListedCounts("3").status().message(), "--sizes: at least 4 bytes, one float32");
}

TEST(SizesTest, ASweepGoesFromTheFirstSizeToTheLastByTheFactor) {
  EXPECT_EQ(*SweepCounts("1K", "8K", 2), (std::vector<int64_t>{256, 512, 1024, 2048}));
  EXPECT_EQ(*SweepCounts("100", "100", 2), (std::vector<int64_t>{25}));
  EXPECT_EQ(*SweepCounts("4", "8", 1.1), (std::vector<int64_t>{1}));
}

TEST(SizesTest, WhatIsWrongWithASweepIsNamed) {
  EXPECT_EQ(SweepCounts("2", "8", 2).status().message(), "--min: at least 4 bytes, one float32");
  EXPECT_EQ(SweepCounts("8K", "4K", 2).status().message(), "--max: 4K is less than --min 8K");
  EXPECT_EQ(SweepCounts("4K", "8K", 1).status().message(), "--factor: at least 1.1");
  EXPECT_EQ(SweepCounts("x", "8K", 2).status().message(),
            "--min: 'x' is no size; write bytes, as 65536, 64K, 25M or 1G");
}

}  // namespace
}  // namespace lockstep
