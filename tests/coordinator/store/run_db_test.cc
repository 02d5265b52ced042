#include "coordinator/store/run_db.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/data/plan.h"
#include "tests/coordinator/store/run_db_testing.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

using absl::StatusCode;

TEST(RunDbTest, HasTheTablesAndColumnsOfTheDesign) {
  // DESIGN.md, section 4, word by word; a public interface.
  const std::map<std::string, std::string> tables = {
      {"step",
       "step, epoch, time, loss, samples, lr, step_s, data_wait_s, forward_s, backward_s, comm_exposed_s, optimizer_s, "
       "other_s, step_max_s, comm_busy_s, comm_wait_s, comm_transfer_s, overlap_ratio, comm_interval_s, last_rank, "
       "grad_bytes, wire_bytes, incarnation, survived"},
      {"rank_step",
       "step, rank, start, step_s, data_wait_s, forward_s, backward_s, comm_exposed_s, optimizer_s, other_s, "
       "comm_busy_s, comm_wait_s, comm_transfer_s, comm_interval_s, grad_bytes, wire_bytes, incarnation, survived"},
      {"collective",
       "step, seq, name, grad_bytes, wire_bytes, algorithm, first_arrival, last_arrival, end, last_rank, algbw, busbw, "
       "incarnation, survived"},
      {"epoch", "epoch, steps, samples, fingerprint, expected_fingerprint, seconds, incarnation, survived"},
      {"evaluation", "step, epoch, split, metric, value, incarnation, survived"},
      {"decision", "time, step, kind, rule, reason"},
      {"checkpoint", "step, path, bytes, snapshot_s, write_s, committed"},
      {"communication", "bytes, algorithm, seconds, chosen, structure, source, incarnation"},
      {"rank", "rank, incarnation, host, pid, cores, joined, left, why"}};
  const StoreFolder folder;
  Open(folder / "run.db");
  for (const auto& [table, columns] : tables) {
    const std::vector<std::string> there =
        absl::StrSplit(Query(folder / "run.db", "SELECT name FROM pragma_table_info('" + table + "')"), ' ');
    for (const std::string& column : std::vector<std::string>(absl::StrSplit(columns, ", "))) {
      EXPECT_NE(std::find(there.begin(), there.end(), column), there.end()) << table << "." << column;
    }
  }
}

TEST(RunDbTest, ShowsWhatWasMeasuredOfCommunicationOrElseTheWaysOrElseTheStructure) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  auto db = Open(path);
  Story story(db.get());
  CommunicationChosen chosen = ChosenCommunication(1);
  story.Start(1);
  story.Take(chosen);
  chosen.clear_measured();
  chosen.set_incarnation(2);
  chosen.set_source("setting");
  story.Start(2);
  story.Take(chosen);
  chosen.clear_ways();
  chosen.set_incarnation(3);
  chosen.set_structure("shared");
  story.Start(3);
  story.Take(chosen);
  const auto rows = [&](int incarnation) {
    return Query(path, absl::StrCat("SELECT bytes||':'||algorithm||':'||IFNULL(seconds, 'null')||':'||chosen||':'||"
                                    "structure||':'||source FROM communication WHERE incarnation = ",
                                    incarnation, " ORDER BY bytes, algorithm"));
  };
  EXPECT_EQ(rows(1), "16384:direct:0.0007:0:replicated:measured 16384:gather:0.0004:1:replicated:measured");
  EXPECT_EQ(rows(2), "0:gather:null:1:replicated:setting 32769:ring:null:1:replicated:setting");
  EXPECT_EQ(rows(3), "0:shared:null:1:shared:setting");
}

TEST(RunDbTest, EveryValueOfAStepLiesInItsOwnColumn) {
  const StoreFolder folder;
  ASSERT_TRUE(Open(folder / "run.db")->Write({{Step(7, 2)}, {}, {}}).ok());
  const std::map<std::string, std::string> expected = {{"step", "7"},
                                                       {"epoch", "3"},
                                                       {"time", "1.18"},
                                                       {"loss", "1.19"},
                                                       {"samples", "64"},
                                                       {"lr", "1.16"},
                                                       {"step_s", "1.02"},
                                                       {"data_wait_s", "1.03"},
                                                       {"forward_s", "1.04"},
                                                       {"backward_s", "1.05"},
                                                       {"comm_exposed_s", "1.06"},
                                                       {"optimizer_s", "1.07"},
                                                       {"other_s", "1.08"},
                                                       {"step_max_s", "1.2"},
                                                       {"comm_busy_s", "1.09"},
                                                       {"comm_wait_s", "1.11"},
                                                       {"comm_transfer_s", "1.12"},
                                                       {"overlap_ratio", "1.21"},
                                                       {"comm_interval_s", "1.13"},
                                                       {"last_rank", "1"},
                                                       {"grad_bytes", "1001"},
                                                       {"wire_bytes", "1002"},
                                                       {"grad_norm", "1.17"},
                                                       {"timing", "arrivals"},
                                                       {"clock_error_s", "1.22"},
                                                       {"incarnation", "2"},
                                                       {"survived", "1"}};
  for (const auto& [column, value] : expected) {
    EXPECT_EQ(Query(folder / "run.db", "SELECT " + column + " FROM step"), value) << column;
  }
  EXPECT_EQ(Query(folder / "run.db", "SELECT COUNT(*) FROM pragma_table_info('step')"), absl::StrCat(expected.size()));
}

TEST(RunDbTest, EveryValueOfARanksStepLiesInItsOwnColumn) {
  const StoreFolder folder;
  ASSERT_TRUE(Open(folder / "run.db")->Write({{}, {RankStep(7, 5, 2)}, {}}).ok());
  const std::map<std::string, std::string> expected = {{"step", "7"},
                                                       {"rank", "5"},
                                                       {"start", "1.01"},
                                                       {"step_s", "1.02"},
                                                       {"data_wait_s", "1.03"},
                                                       {"forward_s", "1.04"},
                                                       {"backward_s", "1.05"},
                                                       {"comm_exposed_s", "1.06"},
                                                       {"optimizer_s", "1.07"},
                                                       {"other_s", "1.08"},
                                                       {"epoch", "3"},
                                                       {"loss", "1.15"},
                                                       {"samples", "64"},
                                                       {"arrival", "1.14"},
                                                       {"comm_busy_s", "1.09"},
                                                       {"comm_overlap_s", "1.1"},
                                                       {"comm_wait_s", "1.11"},
                                                       {"comm_transfer_s", "1.12"},
                                                       {"comm_interval_s", "1.13"},
                                                       {"grad_bytes", "1001"},
                                                       {"wire_bytes", "1002"},
                                                       {"input_read_s", "1.23"},
                                                       {"input_decode_s", "1.24"},
                                                       {"input_ready", "3"},
                                                       {"clock_error_s", "1.22"},
                                                       {"incarnation", "2"},
                                                       {"survived", "1"},
                                                       {"update_wait_s", "1.25"}};
  for (const auto& [column, value] : expected) {
    EXPECT_EQ(Query(folder / "run.db", "SELECT " + column + " FROM rank_step"), value) << column;
  }
  EXPECT_EQ(Query(folder / "run.db", "SELECT COUNT(*) FROM pragma_table_info('rank_step')"),
            absl::StrCat(expected.size()));
}

TEST(RunDbTest, EveryOtherRowLiesInItsColumns) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  auto db = Open(path);
  TelemetryRows rows;
  rows.collectives.push_back(Collective(7, 2));
  rows.spans = {SpanOf(7, 1, 2, 0), SpanOf(7, 1, 2, 1, /*seq=*/2)};
  rows.clocks.emplace_back().rank = 1;
  rows.clocks[0].incarnation = 2;
  rows.clocks[0].clock.set_time(5.5);
  rows.clocks[0].clock.set_offset_s(1.5);
  rows.clocks[0].clock.set_drift(2.5);
  rows.clocks[0].clock.set_error_s(3.5);
  rows.clocks[0].clock.set_drift_error(4.5);
  rows.messages.push_back({7, 2, 2, 5, 0, 1, 4096, 1.5, 2.5, 3.5});
  rows.messages.push_back({7, 2, 2, 6, 0, 1, 4096, 0, 2.5, 3.5});
  rows.dropped.push_back({1, 2, 33, 44});
  ASSERT_TRUE(db->Write(rows).ok());
  EXPECT_EQ(
      Query(path,
            "SELECT step||' '||rank||' '||number||' '||thread||' '||name||' '||start||' '||\"end\"||' '||"
            "IFNULL(flops, 'null')||' '||IFNULL(seq, 'null')||' '||IFNULL(arrival, 'null')||' '||incarnation||' '||"
            "survived FROM span"),
      "7 1 0 trainer forward 0.5 0.75 1000000.0 null null 2 1 "
      "7 1 1 communication bucket.0 1.5 1.75 null 2 1.25 2 1");
  EXPECT_EQ(Query(path,
                  "SELECT rank||' '||time||' '||offset_s||' '||drift||' '||error_s||' '||drift_error||' '||"
                  "incarnation FROM clock"),
            "1 5.5 1.5 2.5 3.5 4.5 2");
  EXPECT_EQ(Query(path,
                  "SELECT step||' '||seq||' '||number||' '||\"from\"||' '||\"to\"||' '||bytes||' '||"
                  "IFNULL(sent, 'null')||' '||ready||' '||came||' '||incarnation||' '||survived FROM message"),
            "7 2 5 0 1 4096 1.5 2.5 3.5 2 1 7 2 6 0 1 4096 null 2.5 3.5 2 1");
  EXPECT_EQ(Query(path, "SELECT rank||' '||records||' '||spans||' '||incarnation FROM dropped"), "1 33 44 2");
  Story story(db.get());
  story.Start(2);
  story.Take(Epoch(2, 10));
  story.Take(Evaluation(7, 0.75));
  story.Take(StopByTarget(7), 1000.5);
  story.Take(Checkpoint(7), 1001.5);
  story.Join(1, "node", 1002.5, 4711);
  story.Leave(1, 1003.5);
  EXPECT_EQ(Query(path,
                  "SELECT concat FROM (SELECT step||' '||seq||' '||name||' '||grad_bytes||' '||wire_bytes||' '||"
                  "algorithm||' '||first_arrival||' '||last_arrival||' '||\"end\"||' '||last_rank||' '||algbw||' '||"
                  "busbw||' '||wait_s||' '||transfer_s||' '||timing||' '||incarnation||' '||survived AS concat FROM "
                  "collective)"),
            "7 2 bucket.2 11 12 mpi 13.0 14.0 15.0 1 16.0 17.0 18.0 19.0 durations 2 1");
  EXPECT_EQ(Query(path,
                  "SELECT epoch||' '||steps||' '||samples||' '||fingerprint||' '||expected_fingerprint||' '||"
                  "seconds||' '||incarnation||' '||survived FROM epoch"),
            absl::StrFormat("2 10 640 fedcba9876543210 %016x 12.5 2 1", EpochFingerprint(2, 640)));
  EXPECT_EQ(Query(path,
                  "SELECT step||' '||epoch||' '||split||' '||metric||' '||IFNULL(value, 'null')||' '||samples||' '||"
                  "seconds||' '||incarnation||' '||survived FROM evaluation ORDER BY metric"),
            "7 2 val accuracy 0.75 1000 0.5 2 1 7 2 val loss null 1000 0.5 2 1");
  EXPECT_EQ(Query(path,
                  "SELECT time||' '||step||' '||kind||' '||rule||' '||reason||' '||directive||' '||signal||' '||"
                  "failure FROM decision"),
            "1000.5 7 stop target accuracy 0.98 at step 30 4 0 0");
  EXPECT_EQ(Query(path,
                  "SELECT step||' '||path||' '||bytes||' '||snapshot_s||' '||write_s||' '||committed||' '||best "
                  "FROM checkpoint"),
            "7 checkpoints/step-00000007 99 0.1 0.2 1001.5 0");
  EXPECT_EQ(
      Query(
          path,
          "SELECT rank||' '||incarnation||' '||host||' '||pid||' '||cores||' '||joined||' '||left||' '||why FROM rank"),
      "1 2 node 4711 16 1002.5 1003.5 done");
}

TEST(RunDbTest, WhatIsNotKnownOrNotFiniteIsNull) {
  const StoreFolder folder;
  StepRow row = Step(1, 1);
  row.loss = std::nan("");
  row.mean.set_comm_interval_s(0);
  row.mean.set_grad_norm(0);
  RankStepRow idle = RankStep(1, 0, 1);
  idle.record.set_samples(0);
  auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write({{row}, {idle}, {}}).ok());
  Story story(db.get());
  story.Start(1);
  story.Join(0, "node", 5);
  for (const char* cell : {"loss FROM step", "comm_interval_s FROM step", "grad_norm FROM step", "loss FROM rank_step",
                           "left FROM rank"}) {
    EXPECT_EQ(Query(folder / "run.db", absl::StrCat("SELECT ", cell)), "null") << cell;
  }
}

TEST(RunDbTest, AStepWrittenAgainCountsOnceAndTheLastOneStays) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  auto db = Open(path);
  for (int time = 0; time < 2; ++time) {
    TelemetryRows rows = Steps(1, 5, 1);
    for (StepRow& row : rows.steps) row.loss = 10 + time;
    ASSERT_TRUE(db->Write(rows).ok());
  }
  const std::map<std::string, std::string> counts = {{"step", "5"}, {"rank_step", "10"}, {"collective", "5"}};
  for (const auto& [table, count] : counts) EXPECT_EQ(Query(path, "SELECT COUNT(*) FROM " + table), count) << table;
  EXPECT_EQ(Query(path, "SELECT DISTINCT loss FROM step"), "11.0");
}

TEST(RunDbTest, AnUpdateThatIsShownChangesNothingWhenItComesAgain) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  Story story;
  story.Start(1);
  story.Join(0, "node", 5);
  story.Take(Evaluation(5, 0.5));
  story.Take(Epoch(0, 5));
  story.Take(StopByTarget(5));
  story.Take(StopByTarget(5));
  story.Take(Checkpoint(5));
  story.Leave(0, 6);
  for (int launch = 0; launch < 3; ++launch) {
    auto db = Open(path);
    EXPECT_EQ(db->shown_through(), launch == 0 ? 0 : 8);
    story.ShowAllTo(db.get());
    EXPECT_EQ(db->shown_through(), 8);
  }
  const std::map<std::string, std::string> counts = {
      {"epoch", "1"}, {"evaluation", "2"}, {"decision", "2"}, {"checkpoint", "1"}, {"rank", "1"}};
  for (const auto& [table, count] : counts) EXPECT_EQ(Query(path, "SELECT COUNT(*) FROM " + table), count) << table;
  EXPECT_EQ(Query(path, "SELECT left FROM rank"), "6.0");
}

TEST(RunDbTest, ARunDbThatFellBehindIsBroughtUpToTheJournal) {
  const StoreFolder folder;
  Story story;
  story.Start(1);
  story.Join(0, "a", 5);
  story.Take(Evaluation(10, 0.5));
  story.Take(Evaluation(20, 0.6));
  story.Start(2, 10);
  story.Join(0, "b", 9);
  story.Take(Evaluation(20, 0.7));
  for (size_t shown = 0; shown <= story.updates().size(); ++shown) {
    const std::string path = folder / absl::StrCat(shown, ".db");
    {
      auto db = Open(path);
      for (size_t i = 0; i < shown; ++i) ASSERT_EQ(db->Show(story.updates()[i]), absl::OkStatus());
    }
    story.ShowAllTo(Open(path).get());
    EXPECT_EQ(Query(path,
                    "SELECT step||' '||incarnation||' '||survived||' '||value||';' FROM evaluation "
                    "WHERE metric = 'accuracy' ORDER BY incarnation, step"),
              "10 1 1 0.5; 20 1 0 0.6; 20 2 1 0.7;");
    EXPECT_EQ(Query(path, "SELECT host FROM rank ORDER BY incarnation"), "a b");
  }
}

TEST(RunDbTest, RollBackMarksWhatCameAfterTheStepInEarlierIncarnations) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  auto db = Open(path);
  ASSERT_TRUE(db->Write(Steps(1, 20, 1)).ok());
  Story story(db.get());
  story.Start(1);
  for (const int epoch : {0, 1, 2, 3}) story.Take(Epoch(epoch, 5));
  for (const int step : {5, 10, 15, 20}) story.Take(Evaluation(step, 0.5));
  story.Start(2, 12);
  ASSERT_TRUE(db->Write(Steps(13, 14, 2)).ok());
  EXPECT_EQ(Query(path, "SELECT MAX(step) FROM step WHERE survived AND incarnation = 1"), "12");
  EXPECT_EQ(Query(path, "SELECT MAX(step) FROM rank_step WHERE survived AND incarnation = 1"), "12");
  EXPECT_EQ(Query(path, "SELECT MAX(step) FROM collective WHERE survived AND incarnation = 1"), "12");
  EXPECT_EQ(Query(path, "SELECT epoch FROM epoch WHERE survived"), "0 1");
  EXPECT_EQ(Query(path, "SELECT DISTINCT step FROM evaluation WHERE survived"), "5 10");
  EXPECT_EQ(Query(path, "SELECT step FROM step WHERE survived AND incarnation = 2"), "13 14");
  const RunFigures figures = FiguresOf(path);
  EXPECT_EQ(figures.steps, 14);
  EXPECT_EQ(figures.rolled_back_steps, 8);
  EXPECT_NEAR(figures.rolled_back_time_s, 8 * 1.02, 1e-9);
}

TEST(RunDbTest, ARowThatComesLateDoesNotUndoTheRollBack) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  ASSERT_TRUE(db->Write(Steps(1, 20, 1)).ok());
  Story story(db.get());
  story.Start(1);
  story.Start(2, 12);
  ASSERT_TRUE(db->Write(Steps(11, 22, 1)).ok());
  EXPECT_EQ(Query(folder / "run.db", "SELECT MAX(step) FROM step WHERE survived"), "12");
}

TEST(RunDbTest, WhatALaterIncarnationEvaluatesAgainCountsOnce) {
  const StoreFolder folder;
  auto db = Open(folder / "run.db");
  Story story(db.get());
  for (const int incarnation : {1, 2}) {
    story.Start(incarnation, incarnation == 1 ? 0 : 10);
    story.Take(Evaluation(10, 0.5));
    story.Take(Epoch(1, 5));
  }
  const RunFigures figures = FiguresOf(folder / "run.db");
  EXPECT_EQ(figures.evaluations.size(), 1u);
  EXPECT_EQ(figures.epochs.size(), 1u);
}

TEST(RunDbTest, AWriteThatFailsLeavesNothingOfItself) {
  const StoreFolder folder;
  const std::string path = folder / "run.db";
  auto db = Open(path);
  ASSERT_TRUE(db->Write(Steps(1, 1, 1)).ok());
  auto other = *Database::OpenToWrite(path, kRunDbIdentity, kRunDbSchema, Database::Durability::kMostCommits, nullptr);
  ASSERT_TRUE(
      other->Execute("CREATE TRIGGER t BEFORE INSERT ON step WHEN NEW.step = 8 BEGIN SELECT RAISE(ABORT, 'no'); END")
          .ok());
  EXPECT_TRUE(Fails(db->Write(Steps(2, 9, 1)), StatusCode::kAlreadyExists, {"run.db", "no"}));
  EXPECT_EQ(Query(path, "SELECT COUNT(*) FROM step"), "1");
  EXPECT_TRUE(db->Write(Steps(2, 7, 1)).ok());
  EXPECT_EQ(Query(path, "SELECT COUNT(*) FROM step"), "7");
}

TEST(RunDbTest, GoesOnWhereAnEarlierCoordinatorStopped) {
  const StoreFolder folder;
  ASSERT_TRUE(Open(folder / "run.db")->Write(Steps(1, 5, 1)).ok());
  ASSERT_TRUE(Open(folder / "run.db")->Write(Steps(4, 9, 1)).ok());
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 9);
}

TEST(RunDbTest, LeavesOneFileWhenItCloses) {
  const StoreFolder folder;
  {
    auto db = Open(folder / "run.db");
    ASSERT_TRUE(db->Write(Steps(1, 5, 1)).ok());
    EXPECT_EQ(folder.FileCount(), 3);
  }
  EXPECT_EQ(folder.FileCount(), 1);
  EXPECT_EQ(FiguresOf(folder / "run.db").steps, 5);
  EXPECT_EQ(folder.FileCount(), 1);
}

}  // namespace
}  // namespace lockstep
