#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include "common/base/stable_random.h"
#include "common/data/plan.h"
#include "coordinator/store/run_db.h"
#include "tests/coordinator/store/run_db_testing.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

TEST(RunDbReaderTest, ReadsAFolderThatCannotBeWritten) {
  const StoreFolder folder;
  ASSERT_TRUE(Open(folder / "run.db")->Write(Steps(1, 5, 1)).ok());
  folder.Writable(false);
  const AsAnybody anybody;
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 5);
}

TEST(RunDbReaderTest, ReadsALiveRunOfSomebodyElse) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write(Steps(1, 5, 1)).ok());
  folder.Writable(false);
  const AsAnybody anybody;
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 5);
}

TEST(RunDbReaderTest, ReadsACopyThatWasMadeWhileTheCoordinatorWrote) {
  for (const bool writable : {true, false}) {
    const StoreFolder folder, copy;
    auto db = Open(folder / "run.db");
    ASSERT_TRUE(db->Write(Steps(1, 5, 1)).ok());
    folder.CopyTo(copy);
    ASSERT_TRUE(db->Write(Steps(6, 9, 1)).ok());
    copy.Writable(writable);
    const AsAnybody anybody;
    EXPECT_EQ(FiguresOf(copy / "run.db").steps, 5);
  }
}

TEST(RunDbReaderTest, ReadsAFileInWalModeWithoutItsLogInAFolderThatCannotBeWritten) {
  const StoreFolder folder, copy;
  auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write(Steps(1, 5, 1)).ok());
  auto other = *Database::OpenToWrite(folder / "run.db", kRunDbIdentity, kRunDbSchema,
                                      Database::Durability::kMostCommits, nullptr);
  ASSERT_TRUE(other->Execute("PRAGMA wal_checkpoint(TRUNCATE)").ok());
  std::filesystem::copy_file(folder / "run.db", copy / "run.db");
  copy.Writable(false);
  const AsAnybody anybody;
  EXPECT_EQ(FiguresOf(copy / "run.db").steps, 5);
}

TEST(RunDbReaderTest, DoesNotWaitForAWriterInATransaction) {
  const StoreFolder folder;
  ASSERT_TRUE(Open(folder / "run.db")->Write(Steps(1, 5, 1)).ok());
  auto writer = *Database::OpenToWrite(folder / "run.db", kRunDbIdentity, kRunDbSchema,
                                       Database::Durability::kMostCommits, nullptr);
  auto transaction = *Transaction::Begin(writer.get());
  ASSERT_TRUE(writer->Execute("DELETE FROM step").ok());
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 5);
  ASSERT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 0);
}

TEST(RunDbReaderTest, SeesOneMomentAndNeverGoesBackWhileTheCoordinatorWrites) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int64_t step = 1; step <= 600; step += 3) EXPECT_TRUE(db->Write(Steps(step, step + 2, 1)).ok());
    done = true;
  });
  auto reader = *OpenRunDbReader(folder / "run.db");
  int64_t last = 0;
  for (bool more = true; more;) {
    more = !done;
    const auto figures = reader->Figures();
    ASSERT_TRUE(figures.ok()) << figures.status();
    EXPECT_GE(figures->steps, last);
    EXPECT_EQ(figures->steps % 3, 0);
    last = figures->steps;
  }
  writer.join();
  EXPECT_EQ(last, 600);
}

TEST(RunDbReaderTest, ARunWithoutStepsHasFiguresOfZero) {
  const StoreFolder folder;
  Open(folder / "run.db");
  const RunFigures figures = FiguresOf(folder / "run.db");
  EXPECT_EQ(figures.steps, 0);
  EXPECT_EQ(figures.samples_per_s, 0);
  EXPECT_EQ(figures.slowest_rank, -1);
  EXPECT_FALSE(figures.time_to_target_s.has_value());
  ASSERT_EQ(figures.parts.size(), 7u);
  EXPECT_EQ(figures.parts[6].p95_s, 0);
}

// The nearest-rank percentile, by sorting.
double SlowPercentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i) {
    if (static_cast<double>(i + 1) >= p * static_cast<double>(values.size())) return values[i];
  }
  return 0;
}

TEST(RunDbReaderTest, PartsAreWhatBruteForceSays) {
  for (const int64_t steps : {1, 2, 19, 20, 21, 333}) {
    const StoreFolder folder;
    StableRandom random(static_cast<uint64_t>(steps));
    TelemetryRows rows;
    std::vector<double> forwards, step_times;
    double overlap = 0, busy = 0, samples = 0, time = 0;
    for (int64_t step = 1; step <= steps; ++step) {
      StepRow row = Step(step, 1);
      row.mean.set_forward_s(0);
      for (int rank = 0; rank < 3; ++rank) {
        RankStepRow of_rank = RankStep(step, rank, 1);
        of_rank.record.set_forward_s(random.Uniform());
        of_rank.record.set_step_s(1 + random.Uniform());
        forwards.push_back(of_rank.record.forward_s());
        step_times.push_back(of_rank.record.step_s());
        row.mean.set_forward_s(row.mean.forward_s() + of_rank.record.forward_s() / 3);
        rows.rank_steps.push_back(of_rank);
      }
      row.mean.set_step_s((step_times.end()[-1] + step_times.end()[-2] + step_times.end()[-3]) / 3);
      row.mean.set_comm_busy_s(random.Uniform());
      row.overlap_ratio = random.Uniform();
      overlap += row.overlap_ratio * row.mean.comm_busy_s();
      busy += row.mean.comm_busy_s();
      samples += 64;
      time += row.mean.step_s();
      rows.steps.push_back(row);
    }
    ASSERT_TRUE(Open(folder / "run.db")->Write(rows).ok());
    const RunFigures figures = FiguresOf(folder / "run.db");
    const auto mean = [](const std::vector<double>& all) {
      double sum = 0;
      for (const double value : all) sum += value;
      return sum / static_cast<double>(all.size());
    };
    const PartSummary& forward = figures.parts[1];
    EXPECT_EQ(forward.part, "forward");
    EXPECT_NEAR(forward.mean_s, mean(forwards), 1e-12);
    EXPECT_EQ(forward.p50_s, SlowPercentile(forwards, 0.5));
    EXPECT_EQ(forward.p95_s, SlowPercentile(forwards, 0.95));
    EXPECT_NEAR(forward.share, mean(forwards) / mean(step_times), 1e-12);
    EXPECT_EQ(figures.parts[6].part, "step");
    EXPECT_EQ(figures.parts[6].p50_s, SlowPercentile(step_times, 0.5));
    EXPECT_EQ(figures.parts[6].share, 1);
    EXPECT_NEAR(figures.overlap_ratio, overlap / busy, 1e-12);
    EXPECT_NEAR(figures.samples_per_s, samples / time, 1e-9);
    EXPECT_EQ(figures.first_step_time, 1.18);
  }
}

TEST(RunDbReaderTest, FiguresLeaveOutWhatWasRolledBack) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write({{Step(1, 1, 1), Step(2, 1, 100)}, {RankStep(1, 0, 1, 1), RankStep(2, 0, 1, 100)}, {}}).ok());
  Story story(db.get());
  story.Start(1);
  story.Start(2, 1);
  const RunFigures figures = FiguresOf(folder / "run.db");
  EXPECT_NEAR(figures.step_time_s, 1.02, 1e-12);
  EXPECT_NEAR(figures.rolled_back_time_s, 100.02, 1e-12);
  EXPECT_EQ(figures.parts[6].part, "step");
  EXPECT_NEAR(figures.parts[6].mean_s, 1.02, 1e-12);
  EXPECT_NEAR(figures.parts[6].p95_s, 1.02, 1e-12);
}

TEST(RunDbReaderTest, TheSlowestRankIsTheOneThatCameLastMostOften) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  TelemetryRows rows = Steps(1, 10, 1);
  const std::vector<int> last = {2, 0, 2, 2, 1, -1, -1, 2, 0, 0};
  for (size_t i = 0; i < last.size(); ++i) rows.steps[i].last_rank = last[i];
  ASSERT_TRUE(db->Write(rows).ok());
  Story story(db.get());
  story.Start(1);
  story.Join(2, "old", 5);
  story.Start(2, 10);
  story.Join(0, "zero", 7);
  story.Join(2, "new", 7);
  const RunFigures figures = FiguresOf(folder / "run.db");
  EXPECT_EQ(figures.slowest_rank, 2);
  EXPECT_EQ(figures.slowest_share, 0.5);
  EXPECT_EQ(figures.slowest_host, "new");
  EXPECT_EQ(figures.ranks, 2);
  EXPECT_EQ(figures.incarnations, 2);
}

TEST(RunDbReaderTest, TimeToTargetLeavesOutTheTimeBetweenLaunches) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  // Launched at 100, left at 130; launched at 500, killed together with the coordinator after a step from 507 to 510;
  // launched at 900, at the target at 950.
  Story story(db.get());
  story.Start(1);
  story.Join(0, "a", 101);
  story.Join(1, "a", 100);
  story.Leave(0, 130);
  story.Leave(1, 129);
  story.Start(2);
  story.Join(0, "a", 500);
  StepRow last = Step(9, 2);
  last.time = 507;
  last.step_max_s = 3;
  ASSERT_TRUE(db->Write({{last}, {}, {}}).ok());
  story.Start(3, 9);
  story.Join(0, "a", 900);
  EXPECT_FALSE(FiguresOf(folder / "run.db").time_to_target_s.has_value());
  story.Take(StopByTarget(30), 950);
  const RunFigures figures = FiguresOf(folder / "run.db");
  ASSERT_TRUE(figures.time_to_target_s.has_value());
  EXPECT_NEAR(*figures.time_to_target_s, 30 + 10 + 50, 1e-6);
}

TEST(RunDbReaderTest, GivesBackEvaluationsDecisionsEpochsAndCheckpoints) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  Decision warning;
  warning.set_kind("warning");
  warning.set_failure(true);
  Story story(db.get());
  story.Start(1);
  story.Take(warning);
  story.Take(StopByTarget(30));
  story.Take(Evaluation(20, 0.9));
  story.Take(Evaluation(10, 0.8));
  story.Take(Epoch(0, 10));
  CheckpointCommitted checkpoint = Checkpoint(20);
  checkpoint.set_best(true);
  story.Take(checkpoint, 8);
  const RunFigures figures = FiguresOf(folder / "run.db");
  ASSERT_EQ(figures.decisions.size(), 2u);
  EXPECT_EQ(figures.decisions[0].ShortDebugString(), warning.ShortDebugString());
  EXPECT_EQ(figures.decisions[1].ShortDebugString(), StopByTarget(30).ShortDebugString());
  ASSERT_EQ(figures.evaluations.size(), 2u);
  EXPECT_EQ(figures.evaluations[1].step(), 20);
  EXPECT_EQ(figures.evaluations[1].metrics().at("accuracy"), 0.9);
  EXPECT_TRUE(std::isnan(figures.evaluations[1].metrics().at("loss")));
  ASSERT_EQ(figures.epochs.size(), 1u);
  EXPECT_EQ(figures.epochs[0].done.ShortDebugString(), Epoch(0, 10).ShortDebugString());
  EXPECT_EQ(figures.epochs[0].expected_fingerprint, EpochFingerprint(0, 640));
  ASSERT_EQ(figures.checkpoints.size(), 1u);
  EXPECT_EQ(figures.checkpoints[0].ShortDebugString(), checkpoint.ShortDebugString());
}

}  // namespace
}  // namespace lockstep
