#include "coordinator/store/run_db_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "tests/coordinator/store/run_db_testing.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A run of 2 ranks and epochs of 5 steps, 640 samples each: a launch that was killed after step 13, and one that went
// on from step 10 to the end at 20.
class RunDbCheckTest : public testing::Test {
 protected:
  RunDbCheckTest() : journal_(NewMemoryJournal()) {}

  static TelemetryRows Rows(int64_t first, int64_t last, int incarnation) {
    TelemetryRows rows = Steps(first, last, incarnation);
    for (StepRow& row : rows.steps) row.mean.set_samples(128);
    return rows;
  }

  void Record(int64_t cut_at = 13, int exit_code = 0) {
    auto db = Open(path_);
    Story story(db.get(), journal_.get());
    story.Start(1);
    for (const int rank : {0, 1}) story.Join(rank, "a", 5);
    EXPECT_TRUE(db->Write(Rows(1, cut_at, 1)).ok());
    for (const int epoch : {0, 1}) Epoch(&story, epoch);
    story.Take(Checkpoint(9));
    story.Start(2, 10);
    for (const int rank : {0, 1}) story.Join(rank, "a", 9);
    story.Take(ChosenCommunication(2));
    EXPECT_TRUE(db->Write(Rows(11, 20, 2)).ok());
    for (const int epoch : {2, 3}) Epoch(&story, epoch);
    story.Take(StopByTarget(20));
    for (const int rank : {0, 1}) story.Leave(rank, 10, 20);
    story.End(exit_code);
  }
  void Epoch(Story* story, int epoch) {
    story->Take(lockstep::Epoch(epoch, 5));
    story->Take(Evaluation((epoch + 1) * 5, 0.1 * epoch));
  }
  void Execute(const std::string& sql) {
    auto database =
        Database::OpenToWrite(path_, kRunDbIdentity, kRunDbSchema, Database::Durability::kMostCommits, nullptr);
    ASSERT_TRUE(database.ok()) << database.status();
    ASSERT_EQ((*database)->Execute(sql.c_str()), absl::OkStatus());
  }
  RunDbCheck Check() {
    const auto check = CheckRunDb(path_, journal_.get());
    EXPECT_EQ(check.status(), absl::OkStatus());
    return check.ok() ? *check : RunDbCheck();
  }
  std::string Wrong() {
    const RunDbCheck check = Check();
    return absl::StrCat(absl::StrJoin(check.different, "; "), " | ", absl::StrJoin(check.uncounted, "; "));
  }

  const StoreFolder folder_;
  const std::string path_ = folder_ / "run.db";
  std::unique_ptr<Journal> journal_;
};

TEST_F(RunDbCheckTest, WhatWasRecordedPasses) {
  Record();
  const RunDbCheck check = Check();
  EXPECT_THAT(check.different, IsEmpty());
  EXPECT_THAT(check.uncounted, IsEmpty());
  EXPECT_EQ(check.behind, 0);
  EXPECT_EQ(check.steps, 20);
  EXPECT_EQ(check.cut_off, 0);
  EXPECT_EQ(check.rows, 4 + 4 * 2 + 1 + 1 + 4 + 2)
      << "epochs, evaluations of two metrics, a decision, a checkpoint, ranks, two ways at a size";
}

TEST_F(RunDbCheckTest, EveryChangeIsFound) {
  Record();
  const std::string as_it_was = folder_ / "as_it_was";
  std::filesystem::copy_file(path_, as_it_was);
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"DELETE FROM epoch WHERE epoch = 1", "epoch lacks a row: epoch=1"},
      {"UPDATE epoch SET samples = 639 WHERE epoch = 3", "epoch has a row that the journal does not give: epoch=3"},
      {"UPDATE evaluation SET value = 0.9 WHERE step = 20 AND metric = 'accuracy'", "value=0.9"},
      {"UPDATE evaluation SET survived = 0 WHERE step = 5", "survived=0"},
      {"DELETE FROM decision", "decision lacks a row"},
      {"INSERT INTO decision SELECT * FROM decision", "decision has a row"},
      {"UPDATE decision SET reason = 'because'", "reason=because"},
      {"UPDATE checkpoint SET bytes = 1", "bytes=1"},
      {"UPDATE communication SET chosen = 1", "communication has a row that the journal does not give"},
      {"DELETE FROM communication", "communication lacks a row"},
      {"DELETE FROM rank WHERE incarnation = 2", "rank lacks a row"},
      {"DELETE FROM step WHERE step = 3", "step 3 is missing"},
      {"DELETE FROM step WHERE step > 17", "steps 18 to 20 are missing"},
      {"DELETE FROM step", "steps 11 to 20 are missing"},
      {"DELETE FROM rank_step WHERE step = 15 AND rank = 1", "step 15 has 128 samples, and the rows of 1 of 2 ranks"},
      {"DELETE FROM rank_step", "the rows of 0 of 2 ranks"},
      {"UPDATE step SET survived = 1 WHERE step = 12", "step 12 of incarnation 1 is marked as surviving"},
      {"UPDATE step SET survived = 0 WHERE step = 4", "step 4 of incarnation 1 is not marked as surviving"},
      {"UPDATE step SET samples = 130 WHERE step = 7", "step 7 has 130 samples"},
      {"UPDATE rank_step SET samples = 65 WHERE step = 7; UPDATE step SET samples = 130 WHERE step = 7",
       "the steps of epoch 2 have 642 samples together, and it has 640"},
      {"UPDATE step SET incarnation = 7 WHERE step = 20", "of which the journal knows nothing"},
      {"UPDATE shown SET through = 99", "run.db shows update 99 of a journal that ends with update"},
  };
  for (const auto& [sql, word] : changes) {
    Execute(sql);
    EXPECT_THAT(Wrong(), HasSubstr(word)) << sql;
    std::filesystem::copy_file(as_it_was, path_, std::filesystem::copy_options::overwrite_existing);
  }
  EXPECT_EQ(Wrong(), " | ");
}

TEST_F(RunDbCheckTest, ALaunchThatWasKilledMayLackItsLastStepsAndNoOthers) {
  Record(8);  // it went on from step 10: what it measured of 9 and 10 went with it
  EXPECT_EQ(Wrong(), " | ");
  EXPECT_EQ(Check().cut_off, 2);
  EXPECT_EQ(Check().steps, 18);
  Execute("DELETE FROM rank_step WHERE step IN (7, 8) AND rank = 1");
  EXPECT_EQ(Wrong(), " | ");
  EXPECT_EQ(Check().cut_off, 4);
  Execute("DELETE FROM rank_step WHERE step = 5 AND rank = 1");
  EXPECT_THAT(Wrong(), HasSubstr("step 5 has 128 samples"));
  Execute("DELETE FROM step WHERE step = 2");
  EXPECT_THAT(Wrong(), HasSubstr("step 2 is missing"));
}

TEST_F(RunDbCheckTest, ARunThatFailedMayLackItsLastSteps) {
  Record(13, 1);
  Execute("DELETE FROM step WHERE step > 17; DELETE FROM rank_step WHERE step = 17 AND rank = 0");
  EXPECT_EQ(Wrong(), " | ");
  Execute("DELETE FROM step WHERE step = 14");
  EXPECT_THAT(Wrong(), HasSubstr("step 14 is missing"));
}

TEST_F(RunDbCheckTest, ARunDbThatIsBehindIsComparedUpToWhereItStands) {
  Story story(nullptr, journal_.get());
  story.Start(1);
  for (const int rank : {0, 1}) story.Join(rank, "a", 5);
  Epoch(&story, 0);
  {
    auto db = Open(path_);
    ASSERT_TRUE(db->Write(Rows(1, 7, 1)).ok());
    story.ShowAllTo(db.get());
    Epoch(&story, 1);
  }
  const RunDbCheck check = Check();
  EXPECT_EQ(Wrong(), " | ");
  EXPECT_EQ(check.shown_through, 5);
  EXPECT_EQ(check.behind, 2);
  EXPECT_EQ(check.steps, 7);
}

}  // namespace
}  // namespace lockstep
