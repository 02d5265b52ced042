#include "coordinator/store/run_record.h"

#include <gtest/gtest.h>

#include "tests/coordinator/store/run_db_testing.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

std::unique_ptr<RunRecord> Record(const std::string& path) {
  auto record = OpenRunRecord(path);
  EXPECT_TRUE(record.ok()) << record.status();
  return record.ok() ? *std::move(record) : nullptr;
}

TelemetryRows Sampled(int64_t step, int incarnation) {
  TelemetryRows rows;
  for (int rank = 0; rank < 2; ++rank) {
    rows.spans.push_back(SpanOf(step, rank, incarnation, 0));
    rows.spans.push_back(SpanOf(step, rank, incarnation, 1, /*seq=*/3));
  }
  return rows;
}

// It is read, and written on.
TEST(RunRecordTest, ARunFromBeforeWaitsForUpdatesWereRecordedGoesOn) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  ASSERT_TRUE(Open(path)->Write(Steps(1, 2, 1)).ok());
  {
    std::string warning;
    auto former =
        Database::OpenToWrite(path, kRunDbIdentity, kRunDbSchema, Database::Durability::kMostCommits, &warning);
    ASSERT_TRUE(former.ok()) << former.status();
    ASSERT_TRUE((*former)->Execute("ALTER TABLE rank_step DROP COLUMN update_wait_s").ok());
  }
  const auto waits = [&] {
    std::vector<double> all;
    const auto record = Record(path);
    EXPECT_TRUE(
        record->EachRankStep(1, 1, 3, [&](const RankStepRow& row) { all.push_back(row.record.update_wait_s()); }).ok());
    return all;
  };
  EXPECT_EQ(waits(), std::vector<double>(4, -1));
  ASSERT_TRUE(Open(path)->Write(Steps(3, 3, 1)).ok());
  const double known = RankStep(3, 0, 1).record.update_wait_s();
  EXPECT_EQ(waits(), (std::vector<double>{-1, -1, -1, -1, known, known}));
}

TEST(RunRecordTest, WhatWasWrittenIsReadBackFieldByField) {
  const StoreFolder folder;
  const auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write(Steps(1, 3, 1)).ok());
  TelemetryRows sampled_rows = Sampled(2, 1);
  sampled_rows.messages.push_back({2, 3, 1, 0, 1, 0, 4096, 1.5, 2.5, 3.5});
  ASSERT_TRUE(db->Write(sampled_rows).ok());
  const auto record = Record(folder / "run.db");
  ASSERT_NE(record, nullptr);

  std::vector<StepRow> steps;
  ASSERT_TRUE(record->EachStep(1, 2, 9, [&](const StepRow& row) { steps.push_back(row); }).ok());
  ASSERT_EQ(steps.size(), 2u);
  const StepRow expected = Step(2, 1);
  EXPECT_EQ(steps[0].mean.step(), 2);
  EXPECT_EQ(steps[0].time, expected.time);
  EXPECT_EQ(steps[0].mean.backward_s(), expected.mean.backward_s());
  EXPECT_EQ(steps[0].mean.other_s(), expected.mean.other_s());
  EXPECT_EQ(steps[0].loss, expected.loss);
  EXPECT_EQ(steps[0].step_max_s, expected.step_max_s);
  EXPECT_EQ(steps[0].overlap_ratio, expected.overlap_ratio);
  EXPECT_EQ(steps[0].mean.comm_transfer_s(), expected.mean.comm_transfer_s());
  EXPECT_EQ(steps[0].mean.clock_error_s(), expected.mean.clock_error_s());

  std::vector<RankStepRow> ranks;
  ASSERT_TRUE(record->EachRankStep(1, 3, 3, [&](const RankStepRow& row) { ranks.push_back(row); }).ok());
  ASSERT_EQ(ranks.size(), 2u);
  EXPECT_EQ(ranks[1].rank, 1);
  EXPECT_EQ(ranks[1].record.comm_exposed_s(), RankStep(3, 1, 1).record.comm_exposed_s());
  EXPECT_EQ(ranks[1].record.input_decode_s(), RankStep(3, 1, 1).record.input_decode_s());
  EXPECT_EQ(ranks[1].record.input_ready(), 3);
  EXPECT_EQ(ranks[1].record.clock_error_s(), RankStep(3, 1, 1).record.clock_error_s());
  EXPECT_EQ(ranks[1].record.update_wait_s(), RankStep(3, 1, 1).record.update_wait_s());

  std::vector<CollectiveRow> collectives;
  ASSERT_TRUE(record->EachCollective(1, 1, 1, [&](const CollectiveRow& row) { collectives.push_back(row); }).ok());
  ASSERT_EQ(collectives.size(), 1u);
  EXPECT_EQ(collectives[0].name, "bucket.2");
  EXPECT_EQ(collectives[0].busbw, 17);
  EXPECT_EQ(collectives[0].wait_s, 18);
  EXPECT_EQ(collectives[0].transfer_s, 19);
  EXPECT_EQ(collectives[0].timing, Timing::kDurations);

  std::vector<SpanRow> spans;
  ASSERT_TRUE(record->EachSpan(1, 2, [&](const SpanRow& row) { spans.push_back(row); }).ok());
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0].span.name(), "forward");
  EXPECT_EQ(spans[0].span.flops(), 1e6);
  EXPECT_EQ(spans[0].seq, -1);
  EXPECT_EQ(spans[3].rank, 1);
  EXPECT_EQ(spans[3].seq, 3);
  EXPECT_EQ(spans[3].arrival, 1.25);
  EXPECT_EQ(spans[3].span.thread(), TRACE_THREAD_COMMUNICATION);

  std::vector<MessageRow> messages;
  ASSERT_TRUE(record->EachMessage(1, 2, [&](const MessageRow& row) { messages.push_back(row); }).ok());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].step, 2);
  EXPECT_EQ(messages[0].seq, 3);
  EXPECT_EQ(messages[0].from, 1);
  EXPECT_EQ(messages[0].to, 0);
  EXPECT_EQ(messages[0].bytes, 4096);
  EXPECT_EQ(messages[0].sent, 1.5);
  EXPECT_EQ(messages[0].ready, 2.5);
  EXPECT_EQ(messages[0].came, 3.5);

  const auto sampled = record->SampledSteps(1, 9);
  ASSERT_TRUE(sampled.ok()) << sampled.status();
  ASSERT_EQ(sampled->size(), 1u);
  EXPECT_EQ(sampled->front().step, 2);
}

TEST(RunRecordTest, WhatWasRolledBackIsNoPartOfTheRun) {
  const StoreFolder folder;
  const auto db = Open(folder / "run.db");
  Story story(db.get());
  story.Start(1);
  ASSERT_TRUE(db->Write(Steps(1, 10, 1)).ok());
  ASSERT_TRUE(db->Write(Sampled(8, 1)).ok());
  story.Start(2, 6);
  ASSERT_TRUE(db->Write(Steps(7, 12, 2)).ok());
  const auto record = Record(folder / "run.db");
  ASSERT_NE(record, nullptr);
  const auto outline = record->ReadOutline();
  ASSERT_TRUE(outline.ok()) << outline.status();
  ASSERT_EQ(outline->stretches.size(), 2u);
  EXPECT_EQ(outline->stretches[0].last, 6);
  EXPECT_EQ(outline->stretches[1].first, 7);
  EXPECT_EQ(outline->stretches[1].incarnation, 2);
  EXPECT_NEAR(*record->RolledBack(1, 12), 4 * 1.02, 1e-9);
  EXPECT_NEAR(*record->RolledBack(8, 9), 2 * 1.02, 1e-9);
  EXPECT_EQ(*record->RolledBack(1, 6), 0);
  EXPECT_TRUE(record->SampledSteps(1, 100)->empty());
}

TEST(RunRecordTest, ClocksAreTheLastOfEachRank) {
  const StoreFolder folder;
  const auto db = Open(folder / "run.db");
  TelemetryRows rows;
  for (const double time : {10.0, 20.0}) {
    for (int rank = 0; rank < 2; ++rank) {
      ClockRow& row = rows.clocks.emplace_back();
      row.rank = rank;
      row.incarnation = 1;
      row.clock.set_time(time);
      row.clock.set_offset_s(rank * time);
      row.clock.set_error_s(1e-6 * time);
    }
  }
  rows.dropped.push_back({1, 1, 5, 0});
  rows.dropped.push_back({1, 1, 7, 3});
  ASSERT_TRUE(db->Write(rows).ok());
  const auto record = Record(folder / "run.db");
  const auto clocks = record->Clocks();
  ASSERT_TRUE(clocks.ok()) << clocks.status();
  ASSERT_EQ(clocks->size(), 2u);
  EXPECT_EQ((*clocks)[1].clock.offset_s(), 20);
  EXPECT_DOUBLE_EQ((*clocks)[1].clock.error_s(), 20e-6);
  const auto dropped = record->Dropped();
  ASSERT_TRUE(dropped.ok()) << dropped.status();
  ASSERT_EQ(dropped->size(), 1u) << "counted since the launch";
  EXPECT_EQ(dropped->front().records, 7);
  EXPECT_EQ(dropped->front().spans, 3);
}

}  // namespace
}  // namespace lockstep
