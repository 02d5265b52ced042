#include "coordinator/state/step_fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/stable_random.h"

namespace lockstep {
namespace {

StepRecord Record(int64_t step, int rank) {
  StepRecord record;
  record.set_step(step);
  record.set_start(1000 + step * 0.1 + rank * 0.001);
  record.set_step_s(0.1 + rank * 0.01);
  record.set_forward_s(0.05);
  record.set_comm_exposed_s(0.02);
  record.set_comm_busy_s(0.04);
  record.set_comm_overlap_s(0.01 * (rank + 1));
  record.set_arrival(1000 + step * 0.1 + (rank == 1 ? 0.09 : 0.05));
  record.set_loss_sum(4.0 * (rank + 1));
  record.set_samples(4);
  record.set_lr(0.1);
  record.set_grad_bytes(1000);
  record.set_wire_bytes(600);
  return record;
}

StepBatch Batch(std::vector<StepRecord> records) {
  StepBatch batch;
  for (StepRecord& record : records) *batch.add_steps() = std::move(record);
  return batch;
}

TEST(StepFoldTest, AStepIsReadyOnceEveryRankReported) {
  StepFold fold(2, 3);
  fold.Add(0, Batch({Record(1, 0)}));
  EXPECT_TRUE(fold.Take().empty());
  fold.Add(1, Batch({Record(1, 1)}));
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.steps.size(), 1u);
  const StepRow& row = rows.steps[0];
  EXPECT_EQ(row.mean.step(), 1);
  EXPECT_EQ(row.incarnation, 3);
  EXPECT_NEAR(row.mean.step_s(), 0.105, 1e-12);
  EXPECT_NEAR(row.step_max_s, 0.11, 1e-12);
  EXPECT_NEAR(row.mean.forward_s(), 0.05, 1e-12);
  EXPECT_EQ(row.mean.samples(), 8);
  EXPECT_NEAR(row.loss, 12.0 / 8, 1e-12);
  EXPECT_EQ(row.mean.grad_bytes(), 1000);
  EXPECT_EQ(row.mean.wire_bytes(), 1200);
  EXPECT_NEAR(row.overlap_ratio, 0.03 / 0.08, 1e-12);
  EXPECT_NEAR(row.time, 1000.1, 1e-9);
  EXPECT_EQ(row.last_rank, 1);
  EXPECT_EQ(rows.rank_steps.size(), 2u);
  EXPECT_TRUE(fold.Take().empty());
}

TEST(StepFoldTest, AReportThatComesTwiceCountsOnce) {
  StepFold fold(2, 1);
  fold.Add(0, Batch({Record(1, 0)}));
  fold.Add(0, Batch({Record(1, 0)}));
  EXPECT_TRUE(fold.Take().empty()) << "the other rank has not reported";
  fold.Add(1, Batch({Record(1, 1), Record(1, 1)}));
  fold.Add(1, Batch({Record(1, 1)}));
  fold.Add(0, Batch({Record(1, 0)}));
  EXPECT_EQ(fold.Take().steps.size(), 1u);
  EXPECT_TRUE(fold.Flush().empty()) << "a late copy opened the step anew";
}

TEST(StepFoldTest, ReportsOutOfOrderFoldTheSame) {
  std::vector<std::pair<int, StepRecord>> reports;
  for (int step = 1; step <= 50; ++step) {
    for (int rank = 0; rank < 4; ++rank) reports.emplace_back(rank, Record(step, rank));
  }
  StableRandom random(5);
  for (size_t i = reports.size() - 1; i > 0; --i) std::swap(reports[i], reports[random.Below(i + 1)]);
  StepFold fold(4, 1);
  for (const auto& [rank, record] : reports) fold.Add(rank, Batch({record}));
  TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.steps.size(), 50u);
  std::sort(rows.steps.begin(), rows.steps.end(),
            [](const StepRow& a, const StepRow& b) { return a.mean.step() < b.mean.step(); });
  for (int step = 1; step <= 50; ++step) {
    EXPECT_EQ(rows.steps[step - 1].mean.step(), step);
    EXPECT_NEAR(rows.steps[step - 1].mean.step_s(), 0.115, 1e-12);
  }
  EXPECT_TRUE(fold.Flush().empty());
}

TEST(StepFoldTest, AStepThatARankNeverReportsIsFoldedFromWhatIsThere) {
  StepFold fold(2, 1);
  fold.Add(0, Batch({Record(1, 0)}));
  for (int step = 2; step <= StepFold::kMaxOpenSteps; ++step) {
    fold.Add(0, Batch({Record(step, 0)}));
    fold.Add(1, Batch({Record(step, 1)}));
  }
  EXPECT_EQ(fold.Take().steps.size(), size_t{StepFold::kMaxOpenSteps - 1});
  fold.Add(0, Batch({Record(StepFold::kMaxOpenSteps + 1, 0)}));
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.steps.size(), 1u);
  EXPECT_EQ(rows.steps[0].mean.step(), 1);
  EXPECT_NEAR(rows.steps[0].mean.step_s(), 0.1, 1e-12);
  fold.Add(1, Batch({Record(1, 1)}));
  EXPECT_TRUE(fold.Take().empty()) << "too late to count";
}

TEST(StepFoldTest, FlushFoldsWhatIsOpen) {
  StepFold fold(2, 1);
  fold.Add(1, Batch({Record(7, 1), Record(8, 1)}));
  EXPECT_EQ(fold.Flush().steps.size(), 2u);
  EXPECT_TRUE(fold.Flush().empty());
}

TEST(StepFoldTest, AHundredRanksKeepASampleAndTheLastFewAndThoseThatUpdateLongest) {
  StepFold fold(100, 1);
  for (int rank = 0; rank < 100; ++rank) {  // those that are kept anyway arrive last, but for one
    StepRecord record = Record(1, 0);
    record.set_arrival(rank == 97 ? 500 : rank % 2 == 0 ? 200 + rank : 100 - rank);
    record.set_optimizer_s(rank == 71 || rank == 5 ? 0.03 : 0.01);
    fold.Add(rank, Batch({record}));
  }
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.steps.size(), 1u);
  EXPECT_EQ(rows.steps[0].last_rank, 97);
  EXPECT_EQ(rows.steps[0].mean.samples(), 400);
  std::vector<int> odd;
  for (const RankStepRow& row : rows.rank_steps) {
    if (row.rank % 2 == 1) odd.push_back(row.rank);
    EXPECT_EQ(row.rank == 97, row.record.arrival() == 500);
  }
  EXPECT_EQ(rows.rank_steps.size(), odd.size() + 50) << "every second rank";
  EXPECT_THAT(odd, testing::ElementsAre(1, 3, 5, 7, 9, 11, 13, 71, 97)) << "of the others the last, and 71's update";
}

TEST(StepFoldTest, WaitingForAnUpdateIsWaitingWhateverTheClocksTell) {
  for (const double clock_error_s : {0.0, 1.0}) {
    StepFold fold(2, 1);
    for (int rank = 0; rank < 2; ++rank) {
      StepRecord record = Record(1, rank);
      record.set_comm_busy_s(0.04 + 0.01 * rank);
      record.set_update_wait_s(0.004);
      record.set_comm_wait_s(0.01 * rank + 0.004);
      record.set_comm_transfer_s(0.04);
      record.set_clock_error_s(clock_error_s);
      fold.Add(rank, Batch({record}));
    }
    const TelemetryRows rows = fold.Take();
    ASSERT_EQ(rows.rank_steps.size(), 2u);
    for (int rank = 0; rank < 2; ++rank) {
      EXPECT_NEAR(rows.rank_steps[rank].record.comm_wait_s(), 0.01 * rank + 0.004, 1e-12) << clock_error_s;
      EXPECT_NEAR(rows.rank_steps[rank].record.comm_transfer_s(), 0.04, 1e-12) << clock_error_s;
    }
    EXPECT_NEAR(rows.steps[0].mean.comm_wait_s(), 0.009, 1e-12) << clock_error_s;
  }
}

TEST(StepFoldTest, UpTo64RanksAllAreKept) {
  StepFold fold(64, 1);
  for (int rank = 0; rank < 64; ++rank) fold.Add(rank, Batch({Record(1, 0)}));
  EXPECT_EQ(fold.Take().rank_steps.size(), 64u);
}

TEST(StepFoldTest, CollectivesAreMatchedOverRanks) {
  StepFold fold(2, 1);
  for (int rank = 0; rank < 2; ++rank) {
    StepRecord record = Record(1, rank);
    for (int seq = 0; seq < 2; ++seq) {
      CollectiveRecord* one = record.add_collectives();
      one->set_seq(seq);
      one->set_name(seq == 0 ? "bucket.0" : "tail");
      one->set_grad_bytes(1000);
      one->set_wire_bytes(500);
      one->set_arrival(10 + seq + (rank == seq ? 0.5 : 0.25));
      one->set_end(10 + seq + 0.75);
    }
    fold.Add(rank, Batch({record}));
  }
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.collectives.size(), 2u);
  EXPECT_EQ(rows.collectives[0].last_rank, 0);
  EXPECT_EQ(rows.collectives[1].last_rank, 1);
  const CollectiveRow& bucket = rows.collectives[0];
  EXPECT_EQ(bucket.name, "bucket.0");
  EXPECT_EQ(bucket.wire_bytes, 1000);
  EXPECT_DOUBLE_EQ(bucket.first_arrival, 10.25);
  EXPECT_DOUBLE_EQ(bucket.last_arrival, 10.5);
  EXPECT_DOUBLE_EQ(bucket.algbw, 1000 / 0.25);
  EXPECT_DOUBLE_EQ(bucket.busbw, 1000 / 0.25 * 2 * 1 / 2);
  EXPECT_EQ(rows.rank_steps[0].record.collectives_size(), 0);
}

TEST(StepFoldTest, WhatACollectiveStandsBehindAnotherIsNoTransfer) {
  StepFold fold(2, 1);
  for (int rank = 0; rank < 2; ++rank) {
    StepRecord record = Record(1, rank);
    for (int seq = 0; seq < 3; ++seq) {  // handed over at once, a second each
      CollectiveRecord* one = record.add_collectives();
      one->set_seq(seq);
      one->set_name(seq < 2 ? "bucket" : "tail");
      one->set_grad_bytes(1000);
      one->set_arrival(10 + 0.25 * rank);
      one->set_end(seq < 2 ? 11.25 + seq : 10.5);
    }
    fold.Add(rank, Batch({record}));
  }
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.collectives.size(), 3u);
  for (int seq = 0; seq < 2; ++seq) {
    EXPECT_DOUBLE_EQ(rows.collectives[seq].wait_s, 0.125);
    EXPECT_DOUBLE_EQ(rows.collectives[seq].transfer_s, 1);
    EXPECT_DOUBLE_EQ(rows.collectives[seq].algbw, 1000);
  }
  EXPECT_DOUBLE_EQ(rows.collectives[2].transfer_s, 0.25) << "tails overtake";
}

// Both ranks number the messages of each tag in their own order; what the receiver tells last may have been sent first.
TEST(StepFoldTest, MessagesAreMatchedByTagAndOrder) {
  StepFold fold(2, 4);
  const auto add = [](CollectiveRecord* one, int from, int to, int tag, double ready, double came) {
    MessageRecord* message = one->add_messages();
    message->set_from(from);
    message->set_to(to);
    message->set_tag(tag);
    message->set_bytes(100 * tag);
    message->set_ready(ready);
    message->set_came(came);
  };
  StepRecord sender = Record(1, 0), receiver = Record(1, 1);
  CollectiveRecord *out = sender.add_collectives(), *in = receiver.add_collectives();
  out->set_seq(5);
  in->set_seq(5);
  add(out, 0, 1, 1, 10.0, 0);
  add(out, 0, 1, 2, 10.1, 0);
  add(out, 0, 1, 1, 10.2, 0);
  add(in, 0, 1, 2, 9.0, 11.0);
  add(in, 0, 1, 1, 9.1, 11.1);
  add(in, 0, 1, 1, 9.2, 11.2);
  add(in, 0, 1, 1, 9.3, 11.3);  // its sender's record holds no more
  fold.Add(1, Batch({receiver}));
  fold.Add(0, Batch({sender}));
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.messages.size(), 4u);
  const std::vector<double> sent = {10.1, 10.0, 10.2, 0};
  for (int i = 0; i < 4; ++i) {
    const MessageRow& row = rows.messages[i];
    EXPECT_EQ(row.step, 1);
    EXPECT_EQ(row.seq, 5);
    EXPECT_EQ(row.incarnation, 4);
    EXPECT_EQ(row.number, i);
    EXPECT_EQ(row.from, 0);
    EXPECT_EQ(row.to, 1);
    EXPECT_EQ(row.bytes, i == 0 ? 200 : 100);
    EXPECT_DOUBLE_EQ(row.sent, sent[i]);
    EXPECT_DOUBLE_EQ(row.ready, 9.0 + 0.1 * i);
    EXPECT_DOUBLE_EQ(row.came, 11.0 + 0.1 * i);
  }
}

TEST(StepFoldTest, RecentLooksAFewSecondsBack) {
  StepFold fold(1, 1);
  EXPECT_EQ(fold.recent().step, 0);
  for (int step = 1; step <= 100; ++step) {
    StepRecord record = Record(step, 0);
    record.set_loss_sum(step <= 50 ? 400 : 4);
    fold.Add(0, Batch({record}));
  }
  const StepFold::Recent recent = fold.recent();
  EXPECT_EQ(recent.step, 100);
  EXPECT_NEAR(recent.loss, 1, 1e-12) << "the last three seconds are the last thirty steps";
  EXPECT_NEAR(recent.step_s, 0.1, 1e-12);
  EXPECT_NEAR(recent.samples_per_s, 40, 1e-9);
  EXPECT_NEAR(recent.exposed_fraction, 0.2, 1e-12);
}

TEST(StepFoldTest, RowsThatNobodyTakesAreBounded) {
  StepFold fold(1, 1);
  for (int step = 1; step <= StepFold::kMaxReady + 10; ++step) fold.Add(0, Batch({Record(step, 0)}));
  EXPECT_EQ(fold.dropped(), 10);
  const TelemetryRows rows = fold.Take();
  EXPECT_EQ(rows.steps.size(), size_t{StepFold::kMaxReady});
  ASSERT_EQ(rows.dropped.size(), 1u);
  EXPECT_EQ(rows.dropped[0].records, 10);
}

TEST(StepFoldTest, AtTheEndARecordBeforeAnotherOfItsRankIsMissing) {
  StepFold fold(2, 1);
  for (int step = 1; step <= 3; ++step) fold.Add(0, Batch({Record(step, 0)}));
  fold.Add(1, Batch({Record(2, 1)}));
  const TelemetryRows rows = fold.Flush();
  ASSERT_EQ(rows.dropped.size(), 1u);
  EXPECT_EQ(rows.dropped[0].rank, 1);
  EXPECT_EQ(rows.dropped[0].records, 1) << "the first; the third may be on its way";
}

TEST(StepFoldTest, RecordsThatDoNotComeInTimeCountAsDropped) {
  StepFold fold(2, 1);
  for (int step = 1; step <= StepFold::kMaxOpenSteps + 5; ++step) {
    fold.Add(0, Batch({Record(step, 0)}));
    if (step > 3) fold.Add(1, Batch({Record(step, 1)}));
  }
  fold.Add(1, Batch({Record(1, 1)}));  // late
  StepBatch batch;
  batch.set_dropped(2);  // of those three: the third was lost on its way
  fold.Add(1, batch);
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.dropped.size(), 1u);
  EXPECT_EQ(rows.dropped[0].rank, 1);
  EXPECT_EQ(rows.dropped[0].records, 3);
  EXPECT_EQ(fold.dropped(), 3);
}

TEST(StepFoldTest, DroppedRecordsOfTheRanksAddUp) {
  StepFold fold(2, 1);
  StepBatch batch;
  batch.set_dropped(3);
  fold.Add(0, batch);
  fold.Add(0, batch);
  batch.set_dropped(4);
  fold.Add(1, batch);
  EXPECT_EQ(fold.dropped(), 7);
  fold.Add(1, Batch({Record(9, 1)}));
  EXPECT_EQ(fold.last_step_of(1), 9);
  EXPECT_EQ(fold.last_step_of(0), 0);
}

TEST(StepFoldTest, SpansThatWereLeftOutAreCountedByRank) {
  StepFold fold(2, 1);
  StepRecord record = Record(1, 1);
  record.set_left_out(5);
  fold.Add(1, Batch({record}));
  fold.Add(1, Batch({record}));
  record.set_step(2);
  fold.Add(1, Batch({record}));
  const TelemetryRows rows = fold.Take();
  ASSERT_EQ(rows.dropped.size(), 1u);
  EXPECT_EQ(rows.dropped[0].rank, 1);
  EXPECT_EQ(rows.dropped[0].spans, 10);
  EXPECT_EQ(rows.dropped[0].records, 0);
}

}  // namespace
}  // namespace lockstep
