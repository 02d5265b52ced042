#include "coordinator/state/run_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

JournalDriver Training(const RunConfig& config = SmallConfig()) {
  JournalDriver run(Started(config));
  run.Join(0);
  run.Join(1);
  run.GrantAll();
  return run;
}

TEST(RunStateTest, TheFirstEvaluationAndEveryBetterOneAreBest) {
  JournalDriver run = Training();
  const auto first = run.Evaluate(Evaluated(10, 0.5));
  EXPECT_EQ(Rules(first), "checkpoint/best");
  EXPECT_EQ(first[0].reason(), "accuracy 0.5000 is the first");
  EXPECT_TRUE(run.state.VerdictAt(10)->best());
  EXPECT_TRUE(run.state.VerdictAt(10)->checkpoint());
  EXPECT_FALSE(run.state.VerdictAt(10)->stop());
  const auto second = run.Evaluate(Evaluated(20, 0.6));
  ASSERT_EQ(Rules(second), "checkpoint/best");
  EXPECT_EQ(second[0].reason(), "accuracy 0.6000 is better than 0.5000 at step 10");
  EXPECT_EQ(run.state.best_step(), 20);
}

TEST(RunStateTest, ATieIsNotBest) {
  JournalDriver run = Training();
  run.Evaluate(Evaluated(10, 0.5));
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(20, 0.5))), "");
  EXPECT_EQ(run.state.best_step(), 10);
  EXPECT_FALSE(run.state.VerdictAt(20)->checkpoint());
}

TEST(RunStateTest, VerdictIsNotThereBeforeTheEvaluation) {
  JournalDriver run = Training();
  run.Evaluate(Evaluated(10, 0.5));
  EXPECT_TRUE(absl::IsNotFound(run.state.VerdictAt(20).status()));
  EXPECT_TRUE(absl::IsNotFound(run.state.VerdictAt(9).status()));
}

TEST(RunStateTest, StopsAtTheLastEpochByTheVerdict) {
  JournalDriver run = Training();
  run.Evaluate(Evaluated(10, 0.5));
  run.Evaluate(Evaluated(20, 0.6));
  const auto made = run.Evaluate(Evaluated(30, 0.7));
  ASSERT_EQ(Rules(made), "checkpoint/best stop/max_epochs");
  EXPECT_EQ(made[1].reason(), "epoch 3 of max_epochs 3 is done, at step 30");
  EXPECT_EQ(made[1].directive(), 0) << "the verdict carries it";
  EXPECT_TRUE(run.state.VerdictAt(30)->stop());
  EXPECT_EQ(run.state.ExitCode(), 0);
}

TEST(RunStateTest, StopsAtMaxSteps) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_max_steps(15);
  JournalDriver run = Training(config);
  run.Evaluate(Evaluated(10, 0.5));
  const auto made = run.Evaluate(Evaluated(15, 0.4));
  ASSERT_EQ(Rules(made), "stop/max_steps");
  EXPECT_EQ(made[0].reason(), "step 15 of max_steps 15 is done");
  EXPECT_TRUE(run.state.VerdictAt(15)->checkpoint()) << "a checkpoint before every stop";
}

TEST(RunStateTest, TargetAndPatienceGoBeforeThePlansEnd) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_target(0.7);
  JournalDriver run = Training(config);
  run.Evaluate(Evaluated(10, 0.5));
  run.Evaluate(Evaluated(20, 0.6));
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(30, 0.7))), "checkpoint/best stop/target");
  config.mutable_convergence()->set_patience(2);
  JournalDriver patient = Training(config);
  patient.Evaluate(Evaluated(10, 0.5));
  patient.Evaluate(Evaluated(20, 0.4));
  EXPECT_EQ(Rules(patient.Evaluate(Evaluated(30, 0.4))), "stop/patience");
}

TEST(RunStateTest, ASignalDuringTheEvaluationStopsWithItsVerdict) {
  JournalDriver run = Training();
  const auto made = run.AskToStop(true);
  ASSERT_EQ(Rules(made), "stop/signal");
  EXPECT_EQ(made[0].directive(), 1);
  EXPECT_EQ(made[0].reason(), "asked for by SIGINT to lockstep run");
  EXPECT_EQ(made[0].step(), 5);
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(10, 0.5))), "checkpoint/best");
  EXPECT_TRUE(run.state.VerdictAt(10)->stop());
  EXPECT_TRUE(run.state.VerdictAt(10)->checkpoint());
}

TEST(RunStateTest, ASignalExits3OnceThereIsACheckpoint) {
  JournalDriver run = Training();
  run.AskToStop(true);
  EXPECT_EQ(run.state.ExitCode(), 1);
  run.Due(0);
  run.Commit(0);
  EXPECT_EQ(run.state.ExitCode(), 3);
}

TEST(RunStateTest, ARequestedStopExits0) {
  JournalDriver run = Training();
  const auto made = run.AskToStop(false);
  ASSERT_EQ(Rules(made), "stop/request");
  ASSERT_EQ(run.state.directives().size(), 1u);
  EXPECT_EQ(run.state.directives()[0].stop().rule(), "request");
  EXPECT_EQ(run.state.ExitCode(), 0);
  EXPECT_EQ(Rules(run.AskToStop(true)), "") << "the first stop counts";
}

TEST(RunStateTest, AStopBeforeAnyWorkerJoinsIsDecided) {
  JournalDriver run(Started(SmallConfig()));
  EXPECT_EQ(Rules(run.AskToStop(true)), "stop/signal");
  EXPECT_EQ(run.state.present(), 0);
}

TEST(RunStateTest, MaxTimeStopsByADirective) {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_max_time(60);
  JournalDriver run = Training(config);
  Update update;
  update.mutable_time_reached()->set_seconds(60.04);
  update.mutable_time_reached()->set_step(12);
  const auto made = run.Fact(update);
  ASSERT_EQ(Rules(made), "stop/max_time");
  EXPECT_EQ(made[0].reason(), "60.0 s of max_time 60.0 s have passed");
  EXPECT_EQ(made[0].directive(), 1);
}

TEST(RunStateTest, NonFiniteLossFailsTheRun) {
  JournalDriver run = Training();
  const auto made = run.Fail(17, 1, "", true);
  ASSERT_EQ(Rules(made), "stop/non_finite");
  EXPECT_EQ(made[0].reason(), "loss is not finite at step 17 on rank 1");
  EXPECT_TRUE(made[0].failure());
  EXPECT_EQ(run.state.ExitCode(), 1);
  EXPECT_EQ(Rules(run.Fail(17, 0, "", true)), "") << "the first word counts";
}

TEST(RunStateTest, BadInputIsSaidAsItIsAndHasExitCode2) {
  JournalDriver run = Training();
  Update update;
  update.mutable_failed()->set_rank(1);
  update.mutable_failed()->set_what("optimizer.groups[0].pattern 'x' matches no parameter");
  update.mutable_failed()->set_bad_input(true);
  const auto made = run.Fact(update);
  ASSERT_EQ(Rules(made), "stop/failure");
  EXPECT_EQ(made[0].reason(), "optimizer.groups[0].pattern 'x' matches no parameter");
  EXPECT_EQ(run.state.ExitCode(), 2);
}

TEST(RunStateTest, AFailureTakesThePlaceOfAnotherStop) {
  JournalDriver run = Training();
  run.AskToStop(true);
  run.Due(0);
  run.Commit(0);
  const auto made = run.Fail(6, 1, "MPI_Wait: no answer in 30 s");
  ASSERT_EQ(Rules(made), "stop/failure");
  EXPECT_EQ(made[0].reason(), "rank 1 failed at step 6: MPI_Wait: no answer in 30 s");
  EXPECT_EQ(run.state.ExitCode(), 1);
}

TEST(RunStateTest, RanksThatAFailureIsAboutAreNamedWithTheirHosts) {
  JournalDriver run = Training();
  Update update;
  update.mutable_failed()->set_step(6);
  update.mutable_failed()->set_what("barrier 'x' (number 9) has waited 30s: ranks 0, 1 do not answer");
  update.mutable_failed()->add_about(0);
  update.mutable_failed()->add_about(1);
  update.mutable_failed()->add_about(7);  // has not joined
  EXPECT_EQ(run.Fact(update)[0].reason(),
            "rank 0 failed at step 6: barrier 'x' (number 9) has waited 30s: ranks 0, 1 do not answer; "
            "rank 0 is on node1 (pid 4242), rank 1 on node1 (pid 4242)");
}

TEST(RunStateTest, ARankThatOthersNameIsABetterReasonThanItsLoss) {
  JournalDriver run = Training();
  Update lost, failed;
  lost.mutable_worker_left()->set_rank(1);
  lost.mutable_worker_left()->set_incarnation(1);
  lost.mutable_worker_left()->set_why("its connection broke after step 5");
  lost.mutable_worker_left()->set_lost(true);
  failed.mutable_failed()->set_step(6);
  failed.mutable_failed()->set_what("rank 1 does not answer");
  failed.mutable_failed()->add_about(1);
  ASSERT_TRUE(run.Write(lost).ok());
  const auto made = run.Fact(failed);
  ASSERT_EQ(Rules(made), "stop/failure");
  EXPECT_EQ(made[0].reason(), "rank 0 failed at step 6: rank 1 does not answer; rank 1 is on node1 (pid 4242)");
}

TEST(RunStateTest, TheCoordinatorsOwnFailureIsTheWholeSentence) {
  JournalDriver run = Training();
  EXPECT_EQ(run.Fail(0, -1, "rank 3 of 4 has not joined within 2m")[0].reason(),
            "rank 3 of 4 has not joined within 2m");
}

TEST(RunStateTest, ALostWorkerFailsTheRun) {
  JournalDriver run = Training();
  const auto made = run.Leave(1, "its connection broke after step 7", true);
  ASSERT_EQ(Rules(made), "stop/worker_lost");
  EXPECT_EQ(made[0].reason(), "rank 1 on node1 (pid 4242) was lost: its connection broke after step 7");
  EXPECT_EQ(run.state.ExitCode(), 1);
  EXPECT_EQ(run.state.present(), 1);
}

TEST(RunStateTest, NobodyLeavesARunThatGoesOn) {
  JournalDriver run = Training();
  EXPECT_EQ(run.Leave(1, "no word from the coordinator", false)[0].reason(),
            "rank 1 on node1 (pid 4242) left before the run's end: no word from the coordinator");
  JournalDriver stopping = Training();
  stopping.AskToStop(false);
  EXPECT_EQ(Rules(stopping.Leave(1, "done", false)), "");
  EXPECT_EQ(stopping.state.ExitCode(), 0);
}

TEST(RunStateTest, CheckpointsFollowTheSchedule) {
  JournalDriver run = Training();
  EXPECT_EQ(run.Due(0)[0].reason(), "the initial weights");
  EXPECT_TRUE(run.state.IsCheckpointDue(0));
  run.Commit(0);
  EXPECT_FALSE(run.state.IsCheckpointDue(0));
  EXPECT_EQ(run.state.last_checkpoint(), 0);
  const auto made = run.Due(10);
  EXPECT_EQ(Rules(made), "checkpoint/epoch_end");
  EXPECT_EQ(made[0].reason(), "the end of epoch 1");
}

TEST(RunStateTest, OneCheckpointForSeveralReasons) {
  JournalDriver run = Training();
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(10, 0.5))), "checkpoint/best");
  EXPECT_TRUE(run.state.IsCheckpointDue(10));
  EXPECT_TRUE(absl::IsAlreadyExists(run.state.CheckCheckpointDue(10)));
  run.Commit(10);
  EXPECT_FALSE(run.state.CheckCheckpointDue(10).ok()) << "committed is committed";
}

TEST(RunStateTest, ACheckpointThatNothingAsksForIsNotDue) {
  JournalDriver run = Training();
  EXPECT_EQ(run.state.CheckCheckpointDue(7).message(), "nothing asks for a checkpoint at step 7");
  EXPECT_EQ(run.state.CheckCheckpointDue(7).code(), absl::StatusCode::kFailedPrecondition);
  run.AskToStop(false);
  EXPECT_EQ(Rules(run.Due(7)), "checkpoint/stop");
}

TEST(RunStateTest, ARequestedCheckpointIsTakenWhereTheRanksObey) {
  JournalDriver run = Training();
  const auto made = run.AskForCheckpoint();
  ASSERT_EQ(Rules(made), "checkpoint/request");
  EXPECT_EQ(made[0].directive(), 1);
  EXPECT_TRUE(run.state.directives()[0].has_checkpoint());
  EXPECT_TRUE(run.state.checkpoint_on_its_way());
  EXPECT_EQ(Rules(run.Due(7)), "") << "it was decided when it was asked for";
  EXPECT_TRUE(run.state.IsCheckpointDue(7));
  run.Commit(7);
  EXPECT_FALSE(run.state.checkpoint_on_its_way());
  EXPECT_FALSE(run.state.CheckCheckpointDue(8).ok()) << "one request, one checkpoint";
}

TEST(RunStateTest, AProblemIsAWarning) {
  JournalDriver run = Training();
  Update update;
  update.mutable_problem()->set_rule("checkpoint");
  update.mutable_problem()->set_what("disk full");
  EXPECT_EQ(Rules(run.Fact(update)), "warning/checkpoint");
  EXPECT_FALSE(run.state.stop());
}

TEST(RunStateTest, GrantsReachAheadToThePlansEnd) {
  RunConfig config = SmallConfig();
  config.mutable_control()->set_grant_steps(8);
  JournalDriver run(Started(config));
  EXPECT_EQ(run.state.NextGrantThrough(0), 8);
  Update update;
  update.mutable_granted()->set_through_step(8);
  run.Fact(update);
  EXPECT_EQ(run.state.NextGrantThrough(0), 8) << "what is granted stays granted";
  EXPECT_EQ(run.state.NextGrantThrough(8), 16);
  EXPECT_EQ(run.state.NextGrantThrough(1000), 16) << "a worker holds what was granted, whatever it says";
  update.mutable_granted()->set_through_step(28);
  run.Fact(update);
  EXPECT_EQ(run.state.NextGrantThrough(28), 30);
  EXPECT_EQ(run.state.MakeGrant(25).first_step(), 26);
  EXPECT_EQ(run.state.MakeGrant(25).through_step(), 28);
}

TEST(RunStateTest, StateAtHoldsNothingThatCameLater) {
  JournalDriver run = Training();
  run.Evaluate(Evaluated(10, 0.5));
  run.now += 12;
  run.Evaluate(Evaluated(20, 0.6));
  EXPECT_EQ(run.state.StateAt(CursorAt(10, false)).evaluations_size(), 0);
  EXPECT_EQ(run.state.StateAt(CursorAt(10, false)).best_step(), -1);
  EXPECT_EQ(run.state.StateAt(CursorAt(10, true)).evaluations_size(), 1);
  EXPECT_EQ(run.state.StateAt(CursorAt(15, false)).best_step(), 10);
  const CheckpointState at = run.state.StateAt(CursorAt(20, true));
  EXPECT_EQ(at.best_step(), 20);
  EXPECT_DOUBLE_EQ(at.best_value(), 0.6);
  EXPECT_DOUBLE_EQ(at.elapsed_s(), 12);
  EXPECT_EQ(at.global_batch_size(), 10);
  EXPECT_EQ(at.train_samples(), 100);
  EXPECT_EQ(at.seed(), 7u);
}

TEST(RunStateTest, AResumeRollsBackToItsCheckpoint) {
  JournalDriver run = Training();
  run.Evaluate(Evaluated(10, 0.5));
  const CheckpointState from = run.state.StateAt(CursorAt(10, true));
  run.Evaluate(Evaluated(20, 0.9));
  run.AskToStop(true);
  run.now += 5;
  run.End();
  EXPECT_EQ(Rules(run.Resume(from, SmallConfig())), "");
  EXPECT_EQ(run.state.incarnation(), 2);
  EXPECT_EQ(run.state.evaluations().size(), 1u);
  EXPECT_EQ(run.state.best_step(), 10);
  EXPECT_EQ(run.state.start_step(), 10);
  EXPECT_EQ(run.state.granted_through(), 10);
  EXPECT_EQ(run.state.last_checkpoint(), 10);
  EXPECT_TRUE(run.state.workers().empty());
  EXPECT_TRUE(run.state.directives().empty());
  EXPECT_FALSE(run.state.stop());
  EXPECT_FALSE(run.state.ended());
  EXPECT_DOUBLE_EQ(run.state.ElapsedAt(run.now + 1), 11) << "10 s of the first launch, and one";
  run.GrantAll();
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(20, 0.9))), "checkpoint/best");
}

TEST(RunStateTest, AKilledLaunchCountsUpToItsLastWord) {
  JournalDriver run = Training();
  run.now += 7;
  run.Evaluate(Evaluated(10, 0.5));
  const CheckpointState from = run.state.StateAt(CursorAt(10, true));
  run.now += 1000;
  run.Resume(from, SmallConfig());
  EXPECT_DOUBLE_EQ(run.state.ElapsedAt(run.now), 7);
}

TEST(RunStateTest, AResumeWithNothingLeftToDoStopsAtOnce) {
  JournalDriver run = Training();
  for (int step = 10; step <= 30; step += 10) run.Evaluate(Evaluated(step, 0.5 + step / 100.0));
  const CheckpointState from = run.state.StateAt(CursorAt(30, true));
  run.End();
  EXPECT_EQ(Rules(run.Resume(from, SmallConfig())), "stop/max_epochs");
  run.End();
  RunConfig longer = SmallConfig();
  longer.mutable_convergence()->set_max_epochs(4);
  EXPECT_EQ(Rules(run.Resume(from, longer)), "") << "more epochs may be asked for";
  run.GrantAll();
  EXPECT_EQ(Rules(run.Evaluate(Evaluated(40, 0.9))), "checkpoint/best stop/max_epochs");
}

TEST(RunStateTest, AResumeByAnotherMetricHasAnotherBest) {
  JournalDriver run = Training();
  EvaluationResult first = Evaluated(10, 0.9), second = Evaluated(20, 0.8);
  (*first.mutable_metrics())["loss"] = 0.5;
  (*second.mutable_metrics())["loss"] = 0.4;
  run.Evaluate(first);
  run.Evaluate(second);
  const CheckpointState from = run.state.StateAt(CursorAt(20, true));
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_metric(METRIC_LOSS);
  run.Resume(from, config);
  EXPECT_EQ(run.state.best_step(), 20);
  EXPECT_DOUBLE_EQ(run.state.best_value(), 0.4);
}

}  // namespace
}  // namespace lockstep
