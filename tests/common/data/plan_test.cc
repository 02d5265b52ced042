#include "common/data/plan.h"

#include <gtest/gtest.h>

#include <numeric>
#include <tuple>
#include <vector>

namespace lockstep {
namespace {

std::vector<int64_t> StepOf(const MinibatchPlan& plan, int64_t step, int world) {
  std::vector<int64_t> ids;
  for (int rank = 0; rank < world; ++rank) {
    const std::vector<int64_t> slice = plan.Slice(step, rank, world);
    ids.insert(ids.end(), slice.begin(), slice.end());
  }
  return ids;
}

void ExpectEverySampleOnce(const MinibatchPlan& plan, int64_t epoch, int world) {
  std::vector<int> used(plan.samples());
  for (int64_t step = epoch * plan.steps_per_epoch() + 1; step <= (epoch + 1) * plan.steps_per_epoch(); ++step) {
    ASSERT_EQ(plan.EpochOf(step), epoch);
    const std::vector<int64_t> ids = StepOf(plan, step, world);
    ASSERT_EQ(static_cast<int64_t>(ids.size()), plan.SamplesAt(step));
    for (int64_t id : ids) ++used.at(id);
  }
  EXPECT_EQ(used, std::vector<int>(plan.samples(), 1)) << "epoch " << epoch << ", world " << world;
}

TEST(PlanTest, EverySampleOnceWhenWorldDoesNotDivideBatch) {
  for (const int64_t samples : {1, 2, 7, 64, 100, 1001}) {
    for (const int64_t batch : {1, 3, 10, 64, 5000}) {
      const MinibatchPlan plan(samples, batch, 11, true);
      for (const int world : {1, 2, 3, 4, 7, 13}) {
        for (const int64_t epoch : {0, 1, 5}) ExpectEverySampleOnce(plan, epoch, world);
      }
    }
  }
}

TEST(PlanTest, AStepsSamplesDoNotDependOnTheWorld) {
  const MinibatchPlan plan(1001, 64, 3, true);
  for (int64_t step = 1; step <= 3 * plan.steps_per_epoch(); ++step) {
    const std::vector<int64_t> alone = plan.Slice(step, 0, 1);
    for (const int world : {2, 3, 5, 64, 100}) ASSERT_EQ(StepOf(plan, step, world), alone) << "step " << step;
  }
}

TEST(PlanTest, SlicesOfAStepDifferByAtMostOneSample) {
  const MinibatchPlan plan(1000, 100, 3, true);
  for (const int world : {1, 3, 7, 99, 150}) {
    for (int rank = 0; rank < world; ++rank) {
      const auto size = static_cast<int64_t>(plan.Slice(1, rank, world).size());
      EXPECT_GE(size, 100 / world);
      EXPECT_LE(size, 100 / world + 1);
    }
  }
}

TEST(PlanTest, StepsCountFromOneThroughAllEpochs) {
  const MinibatchPlan plan(100, 30, 1, true);
  EXPECT_EQ(plan.steps_per_epoch(), 4);
  using Row = std::tuple<int32_t, int64_t, int64_t, bool>;
  const auto row = [&](int64_t step) {
    return Row(plan.EpochOf(step), plan.EpochStepOf(step), plan.SamplesAt(step), plan.IsLastOfEpoch(step));
  };
  EXPECT_EQ(row(1), Row(0, 1, 30, false));
  EXPECT_EQ(row(4), Row(0, 4, 10, true));
  EXPECT_EQ(row(5), Row(1, 1, 30, false));
  EXPECT_EQ(row(4'000'000'000), Row(999'999'999, 4, 10, true));
}

TEST(PlanTest, ABatchThatDividesTheSamplesLeavesNoShortStep) {
  const MinibatchPlan plan(128, 64, 1, true);
  EXPECT_EQ(plan.steps_per_epoch(), 2);
  EXPECT_EQ(plan.SamplesAt(2), 64);
}

TEST(PlanTest, OrderChangesWithEpochAndSeedAndComesAgain) {
  const MinibatchPlan plan(1000, 1000, 7, true), same(1000, 1000, 7, true), other(1000, 1000, 8, true);
  EXPECT_EQ(plan.Slice(1, 0, 1), same.Slice(1, 0, 1));
  EXPECT_NE(plan.Slice(1, 0, 1), plan.Slice(2, 0, 1));
  EXPECT_NE(plan.Slice(1, 0, 1), other.Slice(1, 0, 1));
}

TEST(PlanTest, WithoutShufflingTheOrderIsTheFiles) {
  const MinibatchPlan plan(10, 4, 7, false);
  EXPECT_EQ(plan.Slice(1, 0, 2), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(plan.Slice(2, 1, 2), (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(plan.Slice(6, 0, 1), (std::vector<int64_t>{8, 9}));
}

// A run is continued from its checkpoint, maybe by a later release.
TEST(PlanTest, OrderStaysAsItIs) {
  EXPECT_EQ(MinibatchPlan(1000, 4, 1, true).Slice(1, 0, 1), (std::vector<int64_t>{195, 540, 154, 898}));
}

TEST(ShareTest, SharesAreContiguousCompleteAndEven) {
  for (const int64_t samples : {int64_t{0}, int64_t{1}, int64_t{10}, int64_t{1001}, int64_t{1} << 62}) {
    for (const int world : {1, 2, 3, 7, 1000, 100000}) {
      int64_t next = 0;
      for (int rank = 0; rank < world; ++rank) {
        const Range share = ShareOf(samples, rank, world);
        ASSERT_EQ(share.begin, next);
        ASSERT_GE(share.end - share.begin, samples / world);
        ASSERT_LE(share.end - share.begin, samples / world + 1);
        next = share.end;
      }
      ASSERT_EQ(next, samples);
    }
  }
}

TEST(FingerprintTest, AnEpochsStepsAddUpToItWhateverTheWorld) {
  const MinibatchPlan plan(1001, 64, 5, true);
  for (const int world : {1, 3}) {
    uint64_t sum = 0;
    for (int64_t step = plan.steps_per_epoch() + 1; step <= 2 * plan.steps_per_epoch(); ++step) {
      for (int64_t id : StepOf(plan, step, world)) sum += SampleFingerprint(1, id);
    }
    EXPECT_EQ(sum, EpochFingerprint(1, 1001));
  }
}

TEST(FingerprintTest, NoticesAMissingADoubleAndAForeignSample) {
  const uint64_t whole = EpochFingerprint(0, 100);
  for (int64_t id = 0; id < 100; ++id) {
    EXPECT_NE(whole - SampleFingerprint(0, id), whole);
    EXPECT_NE(whole + SampleFingerprint(0, id), whole);
    EXPECT_NE(whole - SampleFingerprint(0, id) + SampleFingerprint(0, (id + 1) % 100), whole);
    EXPECT_NE(whole - SampleFingerprint(0, id) + SampleFingerprint(0, 100 + id), whole);
    EXPECT_NE(whole - SampleFingerprint(0, id) + SampleFingerprint(1, id), whole) << "of another epoch";
  }
}

// Fingerprints are recorded, and verified by later releases.
TEST(FingerprintTest, StaysAsItIs) {
  EXPECT_EQ(EpochFingerprint(0, 1000), 0xdebb9ff622a1a5ddu);
  EXPECT_EQ(EpochFingerprint(7, 1000), 0x5a707ea3071e81b3u);
}

}  // namespace
}  // namespace lockstep
