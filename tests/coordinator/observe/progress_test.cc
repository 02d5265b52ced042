#include "coordinator/observe/progress.h"

#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/observe/observe_testing.h"

namespace lockstep {
namespace {

using absl::StrContains;

EpochLine ThirdEpoch() {
  EpochLine line;
  line.set_epoch(2);
  line.set_step(1500);
  line.set_seconds(12.34);
  line.set_loss(0.1234);
  line.set_samples_per_s(4512);
  line.set_exposed_fraction(0.042);
  *line.mutable_evaluation() = Evaluated(1500, 0.9791, 0.0712);
  return line;
}

// Whatever can go wrong with the numbers of a run, at once.
StatusReply Monstrous() {
  StatusReply status = Training();
  status.set_name(std::string(300, 'n'));
  status.set_step(std::numeric_limits<int64_t>::max());
  status.set_final_step(1);
  status.set_epoch(std::numeric_limits<int32_t>::max() - 1);
  status.set_epoch_step(std::numeric_limits<int64_t>::max());
  status.set_loss(std::nan(""));
  status.set_samples_per_s(1e300);
  status.set_eta_epoch_s(1e300);
  status.set_exposed_fraction(std::nan(""));
  status.set_step_s(std::numeric_limits<double>::infinity());
  status.set_elapsed_s(-1);
  return status;
}

TEST(ProgressBarTest, ShowsTheEpochItsBarAndTheFigures) {
  EXPECT_EQ(
      ProgressBar(Training(), 120),
      "epoch 3/10  [================>                     ]  step 1,234  loss 0.1235  12,346 samples/s  ETA 1:23  "
      "exposed 4.2%");
}

TEST(ProgressBarTest, LeavesOutTheLeastTellingOnNarrowTerminals) {
  EXPECT_EQ(ProgressBar(Training(), 80),
            "epoch 3/10  [=====>       ]  step 1,234  loss 0.1235  12,346 samples/s  ETA 1:23");
  EXPECT_EQ(ProgressBar(Training(), 60), "epoch 3/10  [====>      ]  step 1,234  loss 0.1235  ETA 1:23");
  EXPECT_EQ(ProgressBar(Training(), 40), "epoch 3/10  [=====>        ]  step 1,234");
  EXPECT_EQ(ProgressBar(Training(), 12), "epoch 3/10");
  EXPECT_EQ(ProgressBar(Training(), 5), "epoch");
  EXPECT_EQ(ProgressBar(Training(), 0), "");
}

TEST(ProgressBarTest, NeverExceedsTheColumnsAndIsOneLine) {
  StatusReply evaluating = Training(), nothing;
  evaluating.set_phase("evaluating");
  for (const StatusReply& status : {Training(), Monstrous(), evaluating, nothing}) {
    for (int columns = -3; columns <= 200; ++columns) {
      const std::string bar = ProgressBar(status, columns);
      ASSERT_LE(WidthOf(bar), std::max(columns, 0)) << bar;
      ASSERT_FALSE(StrContains(bar, "\n"));
    }
  }
}

TEST(ProgressBarTest, SaysWhoIsMissingBeforeTheFirstStep) {
  StatusReply status;
  status.set_phase("starting");
  status.set_epochs(1);
  status.set_eta_epoch_s(-1);
  status.add_workers()->set_joined(true);
  EXPECT_EQ(ProgressBar(status, 60), "epoch 1/1  [                      ]  starting: 1 of 1 worker");
  status.add_workers();
  EXPECT_EQ(ProgressBar(status, 60), "epoch 1/1  [                     ]  starting: 1 of 2 workers");
}

TEST(ProgressBarTest, DoesNotGuessAnEtaAndShowsALossThatIsNotFinite) {
  StatusReply status = Training();
  status.set_eta_epoch_s(-1);
  status.set_loss(std::nan(""));
  EXPECT_EQ(ProgressBar(status, 70), "epoch 3/10  [===>     ]  step 1,234  loss nan  12,346 samples/s  ETA ?");
}

TEST(ProgressBarTest, IsEmptyAtTheStartOfAnEpochAndFullAtItsEnd) {
  StatusReply status = Training();
  status.set_epoch_step(0);
  EXPECT_TRUE(StrContains(ProgressBar(status, 40), "[              ]"));
  status.set_epoch_step(500);
  EXPECT_TRUE(StrContains(ProgressBar(status, 40), "[==============]"));
}

TEST(ProgressBarTest, TheEpochsNumberStaysWithinTheRun) {
  StatusReply status = Training();
  status.set_epoch(10);
  EXPECT_TRUE(StrContains(ProgressBar(status, 80), "epoch 10/10"));
}

TEST(EpochTextTest, IsOneLineWithTheEvaluation) {
  EXPECT_EQ(
      EpochText(ThirdEpoch()),
      "epoch 3  step 1,500  loss 0.1234  val accuracy 0.9791, loss 0.0712  12.3 s  4,512 samples/s  exposed 4.2%");
}

TEST(EpochTextTest, GoesWithoutAnEvaluation) {
  EpochLine line = ThirdEpoch();
  line.clear_evaluation();
  EXPECT_EQ(EpochText(line), "epoch 3  step 1,500  loss 0.1234  12.3 s  4,512 samples/s  exposed 4.2%");
}

TEST(EventTextTest, EveryKindIsOneLine) {
  Event event;
  EXPECT_EQ(EventText(event), "");
  *event.mutable_epoch() = ThirdEpoch();
  EXPECT_EQ(EventText(event), EpochText(ThirdEpoch()));
  *event.mutable_decision() = Decided("stop", "patience", "no better\naccuracy", 1233);
  EXPECT_EQ(EventText(event), "stop at step 1,233 (patience): no better accuracy");
  CheckpointCommitted& checkpoint = *event.mutable_checkpoint();
  checkpoint.set_step(1500);
  checkpoint.set_path("checkpoints/step-00001500");
  checkpoint.set_bytes(12345678);
  checkpoint.set_snapshot_s(0.01);
  checkpoint.set_write_s(0.11);
  EXPECT_EQ(EventText(event), "checkpoint of step 1,500: checkpoints/step-00001500, 12.3 MB in 0.12 s");
  checkpoint.set_best(true);
  EXPECT_EQ(EventText(event),
            "checkpoint of step 1,500: checkpoints/step-00001500, 12.3 MB in 0.12 s, the best so far");
  event.set_note("worker 1 is late\r\nby 3 s\n");
  EXPECT_EQ(EventText(event), "worker 1 is late by 3 s");
}

TEST(StatusTextTest, IsAPageWithATableOfTheWorkers) {
  EXPECT_EQ(StatusText(Training()),
            R"(run            digits-cnn, in runs/digits-cnn
phase          training, for 2 min 03 s
progress       step 1,234 of 5,000 (24.7%), epoch 3 of 10 (46.8%), its end in 1 min 23 s
loss           0.1235, mean of the last steps
speed          12,346 samples/s, 10.37 ms a step, 4.2% of it exposed communication
evaluation     val accuracy 0.9791, loss 0.0710 at step 1,000
best           accuracy 0.9791 at step 1,000
checkpoint     the last of step 1,000

rank  host             pid   step   behind  silent
   0  node-a          4711  1,234  0 steps  0.10 s
   1  node-b.example  4712  1,233   1 step  2.10 s
)");
}

TEST(StatusTextTest, SaysWhatIsNotThereYet) {
  StatusReply status;
  status.set_name("r");
  status.set_folder("runs/r");
  status.set_phase("starting");
  status.set_eta_epoch_s(-1);
  status.set_best_step(-1);
  status.set_last_checkpoint(-1);
  status.add_workers();
  EXPECT_EQ(StatusText(status), R"(run            r, in runs/r
phase          starting: 0 of 1 worker, for 0.00 s
progress       step 0, epoch 1 (0.0%), its end not known yet
best           none yet
checkpoint     none yet

rank  host  pid  step  behind  silent
   0                0                  not there yet
)");
}

TEST(StatusTextTest, AnEndedRunSaysWhyAndWhoLeft) {
  StatusReply status = Training();
  status.set_phase("ended");
  status.set_exit_code(1);
  status.set_incarnation(2);
  *status.mutable_stop() = Decided("stop", "failure",
                                   "rank 1 on node-b.example was killed by signal 9 (SIGKILL), which "
                                   "the kernel sends where memory runs out",
                                   1233);
  status.mutable_workers(1)->set_left("killed by signal 9");
  const std::string text = StatusText(status);
  EXPECT_TRUE(StrContains(text, "phase          ended, for 2 min 03 s, exit code 1, incarnation 2\n")) << text;
  EXPECT_TRUE(StrContains(text, "stop           at step 1,233 (failure): rank 1 on node-b.example was killed")) << text;
  EXPECT_TRUE(StrContains(text, "left: killed by signal 9\n")) << text;
  EXPECT_FALSE(StrContains(text, "its end")) << text;
  EXPECT_LE(WidestLine(text), 100) << text;
}

TEST(StatusTextTest, StaysWithinAPageForAnyNumbers) {
  StatusReply status = Monstrous();
  status.set_name("n");
  status.mutable_workers(0)->set_host(std::string(200, 'h'));
  status.mutable_workers(0)->set_left(std::string(200, 'w'));
  EXPECT_LE(WidestLine(StatusText(status)), 120) << StatusText(status);
}

TEST(StatusTextTest, OfManyWorkersItShowsThoseThatNeedALook) {
  StatusReply status = Training();
  status.clear_workers();
  for (int rank = 0; rank < 1000; ++rank) {
    WorkerStatus& worker = *status.add_workers();
    worker.set_rank(rank);
    worker.set_joined(rank != 500);
    worker.set_step(rank == 700 ? 90 : 100);
    if (rank == 900) worker.set_left("gone");
  }
  const std::string text = StatusText(status);
  EXPECT_TRUE(StrContains(text, "\n 500 ") && StrContains(text, "\n 700 ") && StrContains(text, "\n 900 ")) << text;
  EXPECT_TRUE(StrContains(text, "… and 936 workers further ahead\n")) << text;
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 80);
}

TEST(StatusJsonTest, IsTheReplyFieldByField) {
  StatusReply status = Training();
  status.set_loss(std::nan(""));
  const nlohmann::json json = nlohmann::json::parse(StatusJson(status));
  EXPECT_EQ(json.at("step"), 1234);
  EXPECT_TRUE(json.at("loss").is_null());
  EXPECT_EQ(json.at("workers").at(1).at("host"), "node-b.example");
  EXPECT_EQ(json.at("last_evaluation").at("metrics").at("accuracy"), 0.9791);
  EXPECT_FALSE(json.contains("stop"));
}

}  // namespace
}  // namespace lockstep
