#include "worker/train/step_times.h"

#include <gtest/gtest.h>

#include <vector>

namespace lockstep {
namespace {

constexpr int64_t kMs = 1'000'000;

Span Collective(int32_t seq, const char* name, int64_t begin_ms, int64_t end_ms) {
  Span span;
  span.seq = seq;
  span.name = name;
  span.bytes = 100;
  span.wire_bytes = 60;
  span.start_ns = span.begin_ns = begin_ms * kMs;
  span.end_ns = end_ms * kMs;
  return span;
}

// data 10, forward 20, backward 50, exposed 30, optimizer 15, other 5 ms.
StepMoments Moments() {
  StepMoments moments;
  moments.start = 1000 * kMs;
  moments.data = 1010 * kMs;
  moments.forward = 1030 * kMs;
  moments.backward = 1080 * kMs;
  moments.arrival = 1079 * kMs;
  moments.exposed = 1110 * kMs;
  moments.optimizer = 1125 * kMs;
  moments.end = 1130 * kMs;
  return moments;
}

TEST(IntervalsTest, MergeJoinsWhatTouchesAndDropsWhatIsEmpty) {
  const std::vector<Interval> merged = Merge({{5, 7}, {1, 3}, {3, 4}, {6, 6}, {6, 9}, {20, 21}});
  ASSERT_EQ(merged.size(), 3u);
  EXPECT_EQ(merged[0].end, 4);
  EXPECT_EQ(merged[1].begin, 5);
  EXPECT_EQ(merged[1].end, 9);
  EXPECT_EQ(Length(merged), 3 + 4 + 1);
}

TEST(IntervalsTest, OverlapIsCountedOnce) {
  EXPECT_EQ(OverlapLength({{0, 10}, {20, 30}}, {{5, 25}, {28, 40}}), 5 + 5 + 2);
  EXPECT_EQ(OverlapLength({{0, 10}}, {}), 0);
}

TEST(StepTimesTest, PartsAddUpToTheStep) {
  StepRecord record;
  int64_t previous = 0;
  FillTimes(Moments(), {}, 0, WallClock(), &previous, &record);
  EXPECT_DOUBLE_EQ(record.data_wait_s(), 0.010);
  EXPECT_DOUBLE_EQ(record.forward_s(), 0.020);
  EXPECT_DOUBLE_EQ(record.backward_s(), 0.050);
  EXPECT_DOUBLE_EQ(record.comm_exposed_s(), 0.030);
  EXPECT_DOUBLE_EQ(record.optimizer_s(), 0.015);
  EXPECT_DOUBLE_EQ(record.other_s(), 0.005);
  EXPECT_DOUBLE_EQ(record.step_s(), 0.130);
  EXPECT_EQ(record.comm_busy_s(), 0);
}

TEST(StepTimesTest, BusyIsTheUnionAndOverlapItsShareDuringCompute) {
  StepRecord record;
  int64_t previous = 0;
  const std::vector<Span> spans = {Collective(0, "bucket.0", 1040, 1060), Collective(1, "bucket.1", 1050, 1100),
                                   Collective(2, "tail", 1105, 1108)};
  FillTimes(Moments(), spans, /*last_arrival=*/1.089, WallClock(), &previous, &record);
  EXPECT_DOUBLE_EQ(record.comm_busy_s(), 0.063);
  EXPECT_DOUBLE_EQ(record.comm_overlap_s(), 0.040);
  EXPECT_NEAR(record.comm_wait_s(), 0.010, 1e-9);
  EXPECT_NEAR(record.comm_transfer_s(), 0.053, 1e-9);
  EXPECT_EQ(record.wire_bytes(), 120);  // the tail is no gradient
  EXPECT_EQ(record.comm_interval_s(), 0);
  EXPECT_EQ(previous, 1040 * kMs);
}

TEST(StepTimesTest, WaitingForAnUpdateIsNoTransfer) {
  StepRecord record;
  int64_t previous = 0;
  StepMoments moments = Moments();
  moments.awaited = 7 * kMs;
  FillTimes(moments, {Collective(0, "bucket.window", 1089, 1100)}, /*last_arrival=*/1.082, WallClock(), &previous,
            &record);
  EXPECT_NEAR(record.update_wait_s(), 0.007, 1e-9);
  EXPECT_NEAR(record.comm_wait_s(), 0.003 + 0.007, 1e-9);
  EXPECT_NEAR(record.comm_transfer_s(), 0.008, 1e-9);
}

TEST(StepTimesTest, UntilItGoesOnFromAMeetingWithoutDataARankWaits) {
  StepRecord record;
  int64_t previous = 0;
  StepMoments moments = Moments();
  moments.met = 1092 * kMs;  // the last came at 1082, and this rank woke up late
  FillTimes(moments, {Collective(0, "bucket.window", 1092, 1100), Collective(1, "tail", 1079, 1092)},
            /*last_arrival=*/1.082, WallClock(), &previous, &record);
  EXPECT_NEAR(record.comm_wait_s(), 0.013, 1e-9);
  EXPECT_NEAR(record.comm_transfer_s(), 0.008, 1e-9);
}

TEST(StepTimesTest, TheIntervalIsFromOneStepsFirstCollectiveToTheNexts) {
  StepRecord record;
  int64_t previous = 900 * kMs;
  FillTimes(Moments(), {Collective(0, "bucket.0", 1040, 1060)}, 0, WallClock(), &previous, &record);
  EXPECT_DOUBLE_EQ(record.comm_interval_s(), 0.140);
  EXPECT_EQ(record.comm_wait_s(), 0);
}

TEST(StepTimesTest, CollectivesAreRecordedOnRank0sClock) {
  StepRecord record;
  Span span = Collective(3, "bucket.1", 1050, 1100);
  span.algorithm = "ring";
  span.messages = {{5, true, 8, 64, 1060 * kMs, 0}, {1, false, 9, 32, 1055 * kMs, 1070 * kMs}};
  FillCollectives({span}, /*rank=*/2, WallClock{500 * kMs, 0}, &record);
  ASSERT_EQ(record.collectives_size(), 1);
  EXPECT_EQ(record.collectives(0).seq(), 3);
  EXPECT_EQ(record.collectives(0).algorithm(), "ring");
  EXPECT_EQ(record.collectives(0).grad_bytes(), 100);
  EXPECT_DOUBLE_EQ(record.collectives(0).arrival(), 1.550);
  EXPECT_DOUBLE_EQ(record.collectives(0).end(), 1.600);
  ASSERT_EQ(record.collectives(0).messages_size(), 2);
  const MessageRecord &out = record.collectives(0).messages(0), &in = record.collectives(0).messages(1);
  EXPECT_EQ(out.from(), 2);
  EXPECT_EQ(out.to(), 5);
  EXPECT_EQ(out.tag(), 8);
  EXPECT_DOUBLE_EQ(out.ready(), 1.560);
  EXPECT_EQ(out.came(), 0);
  EXPECT_EQ(in.from(), 1);
  EXPECT_EQ(in.to(), 2);
  EXPECT_EQ(in.bytes(), 32);
  EXPECT_DOUBLE_EQ(in.came(), 1.570);
}

}  // namespace
}  // namespace lockstep
