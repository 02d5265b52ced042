#include "worker/coordinator_client/report_ring.h"

#include <gtest/gtest.h>

#include <thread>

#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kAll = int64_t{1} << 40;

StepRecord Record(int64_t step) {
  StepRecord record;
  record.set_step(step);
  return record;
}

TEST(ReportRingTest, HandsRecordsOverInOrder) {
  ReportRing ring(4);
  StepBatch batch;
  EXPECT_FALSE(ring.TakeInto(&batch, kAll));
  for (int64_t step = 1; step <= 10; ++step) {
    StepRecord record = Record(step);
    ring.Put(&record);
    batch.Clear();
    ASSERT_TRUE(ring.TakeInto(&batch, kAll));
    ASSERT_EQ(batch.steps_size(), 1);
    ASSERT_EQ(batch.steps(0).step(), step);
  }
  EXPECT_EQ(batch.dropped(), 0);
}

TEST(ReportRingTest, CountsWhatItDropsWhenFullAndKeepsTheOlder) {
  ReportRing ring(4);
  for (int64_t step = 1; step <= 7; ++step) {
    StepRecord record = Record(step);
    ring.Put(&record);
  }
  StepBatch batch;
  ASSERT_TRUE(ring.TakeInto(&batch, kAll));
  ASSERT_EQ(batch.steps_size(), 4);
  EXPECT_EQ(batch.steps(3).step(), 4);
  EXPECT_EQ(batch.dropped(), 3);
}

TEST(ReportRingTest, BatchesEndAtTheirSize) {
  ReportRing ring(64);
  for (int64_t step = 1; step <= 50; ++step) {
    StepRecord record = Record(step);
    record.add_collectives()->set_name(std::string(1000, 'x'));
    ring.Put(&record);
  }
  int records = 0;
  for (StepBatch batch; ring.TakeInto(&batch, 10000); batch.Clear()) {
    EXPECT_LE(batch.ByteSizeLong(), 12000u);
    records += batch.steps_size();
  }
  EXPECT_EQ(records, 50);
}

TEST(ReportRingTest, EveryRecordArrivesOnceOrIsCountedWhenTwoThreadsRunFreely) {
  constexpr int64_t kRecords = 100000;
  ReportRing ring(64);
  std::thread trainer([&ring] {
    StepRecord record;
    for (int64_t step = 1; step <= kRecords; ++step) {
      record.set_step(step);
      ring.Put(&record);
      record.Clear();
    }
  });
  StepBatch batch;
  int64_t last = 0, records = 0;
  const int64_t until_ns = MonotonicNanos() + 60'000'000'000;
  while (records + batch.dropped() < kRecords && MonotonicNanos() < until_ns) {
    batch.Clear();
    ring.TakeInto(&batch, 4096);
    for (const StepRecord& record : batch.steps()) {
      ASSERT_GT(record.step(), last);
      last = record.step();
      ++records;
    }
  }
  trainer.join();
  EXPECT_EQ(records + batch.dropped(), kRecords);
}

}  // namespace
}  // namespace lockstep
