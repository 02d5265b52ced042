// The coordinator without sockets: what workers are told, and when a run ends.
#include "coordinator/service/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "coordinator/state/explain.h"
#include "tests/coordinator/service/service_testing.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(CoreTest, EveryCallIsUnavailableBeforeTheStart) {
  CoreFixture run;
  EXPECT_TRUE(absl::IsUnavailable(run.core->GetRun().status()));
  EXPECT_TRUE(absl::IsUnavailable(run.core->Join(GoodJoin(0, 2)).status()));
  EXPECT_TRUE(absl::IsUnavailable(run.core->Attach(0, 1, &run.links[0])));
  EXPECT_TRUE(absl::IsUnavailable(run.core->RequestStop({}).status()));
  EXPECT_TRUE(absl::IsUnavailable(run.core->RequestCheckpoint({}).status()));
  EXPECT_TRUE(absl::IsUnavailable(run.core->BeginUpload({}).status()));
  EXPECT_EQ(run.core->GetStatus(0).phase(), "starting");
}

TEST(CoreTest, AJoinIsAnsweredWithTheFirstGrant) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  const auto reply = run.core->Join(GoodJoin(0, 2));
  ASSERT_EQ(reply.status(), absl::OkStatus());
  EXPECT_EQ(reply->grant().first_step(), 1);
  EXPECT_EQ(reply->grant().through_step(), 8);
  EXPECT_EQ(reply->grant().final_step(), 20);
  EXPECT_DOUBLE_EQ(reply->heartbeat_s(), 0.25);
  EXPECT_TRUE(absl::IsAlreadyExists(run.core->Join(GoodJoin(0, 2)).status()));
}

TEST(CoreTest, WhatTheWorkersComputeWithAndWhatSlowsThemIsSaidOnce) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  for (int rank = 0; rank < 2; ++rank) {
    JoinRequest request = GoodJoin(rank, 2);
    request.set_compute("LibTorch 1.13.1, BLAS reference");
    request.set_warning("the reference BLAS is loaded");
    ASSERT_EQ(run.core->Join(request).status(), absl::OkStatus());
  }
  const StatusReply status = run.core->GetStatus(0);
  std::vector<std::string> notes;
  for (const Event& event : status.events()) notes.push_back(event.note());
  EXPECT_THAT(notes, ElementsAre("all 2 workers have joined (LibTorch 1.13.1, BLAS reference)",
                                 "node1: the reference BLAS is loaded"));
}

TEST(CoreTest, GrantsAreRenewedToTheEndOfThePlan) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kGrant).grant().first_step(), 9);
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kGrant).grant().through_step(), 16);
  EXPECT_THAT(run.links[0].Last(CoordinatorMessage::kGrant).grant().evaluate_at(), ElementsAre(10));
  EXPECT_EQ(run.links[1].Count(CoordinatorMessage::kGrant), 0) << "it has not asked";
  const size_t journaled = run.journal.size();
  run.AskForMore(1, 8);
  EXPECT_EQ(run.links[1].Last(CoordinatorMessage::kGrant).grant().through_step(), 16);
  EXPECT_EQ(run.journal.size(), journaled) << "granted already";
  run.AskForMore(0, 16);
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kGrant).grant().through_step(), 20);
  run.AskForMore(0, 20);
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kGrant), 2) << "there is nothing beyond the end";
}

TEST(CoreTest, TheVerdictGoesToRankZero) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus());
  ASSERT_EQ(run.links[0].Count(CoordinatorMessage::kVerdict), 1);
  const Verdict& verdict = run.links[0].Last(CoordinatorMessage::kVerdict).verdict();
  EXPECT_EQ(verdict.step(), 10);
  EXPECT_TRUE(verdict.best());
  EXPECT_FALSE(verdict.stop());
  EXPECT_EQ(run.links[1].Count(CoordinatorMessage::kVerdict), 0) << "rank 0 gives it to the others";
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus()) << "sent again, answered again, counted once";
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kVerdict), 2);
  EXPECT_FALSE(run.Evaluate(7, 0.5).ok());
}

TEST(CoreTest, TheDecisionIsJournaledBeforeTheVerdictIsSent) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus());
  run.AskForMore(0, 16);
  ASSERT_EQ(run.Evaluate(20, 0.6), absl::OkStatus());
  EXPECT_TRUE(run.links[0].Last(CoordinatorMessage::kVerdict).verdict().stop());
  EXPECT_EQ(run.journal.back().decision().rule(), "max_epochs");
  EXPECT_TRUE(UnexplainedDecisions(run.journal)->empty());
}

TEST(CoreTest, TheChoiceOfCommunicationIsJournaledOnceFromRankZero) {
  CoreFixture run;
  run.StartTraining();
  EXPECT_FALSE(run.core->GetRun()->has_communication());
  WorkerMessage message = CoreFixture::From(1);
  CommunicationChosen* const chosen = message.mutable_communication_chosen();
  chosen->set_incarnation(1);
  chosen->set_world(2);
  chosen->set_structure("shared");
  chosen->set_source("setting");
  chosen->set_said("communication: shared");
  EXPECT_TRUE(absl::IsInvalidArgument(run.Send(message).status())) << "rank 0 speaks for all";
  message.set_rank(0);
  ASSERT_EQ(run.Send(message).status(), absl::OkStatus());
  EXPECT_EQ(run.journal.back().communication_chosen().structure(), "shared");
  EXPECT_THAT(run.Notes(), HasSubstr("communication: shared\n"));
  EXPECT_FALSE(run.core->GetRun()->has_communication()) << "this launch has made it itself";
  EXPECT_TRUE(absl::IsAlreadyExists(run.Send(message).status()));
}

TEST(CoreTest, WhoAttendsLateIsToldWhatWasAnnounced) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  ASSERT_TRUE(run.core->Join(GoodJoin(0, 2)).ok());
  run.JoinAndAttend(1);
  run.core->AskToStop("lockstep stop", false);
  ASSERT_EQ(run.core->Attach(0, 1, &run.links[0]), absl::OkStatus());
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kDirective).directive().number(), 1);
  EXPECT_EQ(run.links[1].Last(CoordinatorMessage::kDirective).directive().stop().rule(), "request");
  FakeLink second;
  EXPECT_TRUE(absl::IsAlreadyExists(run.core->Attach(0, 1, &second)));
}

TEST(CoreTest, EndsOnceEveryRankHasLeft) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  run.AskForMore(0, 16);
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus());
  ASSERT_EQ(run.Evaluate(20, 0.6), absl::OkStatus());
  run.Leave(0);
  run.core->Tick();
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  run.Leave(1);
  run.core->Tick();
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 0);
  EXPECT_EQ(run.core->ended().why(), "epoch 2 of max_epochs 2 is done, at step 20");
  EXPECT_EQ(run.core->GetStatus(0).phase(), "ended");
  EXPECT_TRUE(run.journal.back().has_run_ended());
}

TEST(CoreTest, ALostWorkerAbortsTheOthersAndEndsTheRun) {
  CoreFixture run;
  run.StartTraining();
  run.Beat(1, 7);
  run.core->Detach(1, &run.links[1]);
  const std::string why = "rank 1 on node1 (pid 101) was lost: its connection broke after step 7";
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(), why);
  run.core->Tick();
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration())) << "rank 0 is still leaving";
  run.Leave(0);
  run.core->Tick();
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 1);
  EXPECT_EQ(run.core->ended().why(), why);
}

TEST(CoreTest, AfterALossNobodyIsWaitedForLongerThan3Seconds) {
  CoreFixture run;
  run.StartTraining();
  run.core->Detach(1, &run.links[1]);
  run.Pass(absl::Seconds(2));
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  run.Pass(absl::Seconds(1));
  EXPECT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
}

TEST(CoreTest, ASilentWorkerIsLost) {
  CoreFixture run;
  run.StartTraining();
  for (int second = 0; second < 20; ++second) {
    run.Beat(0, 3);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kAbort), 0);
  run.Beat(0, 3);
  run.Pass(absl::Seconds(1));
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(),
            "rank 1 on node1 (pid 101) was lost: nothing was heard of it for 20 s after step 0");
  EXPECT_TRUE(run.links[1].dropped);
}

TEST(CoreTest, ACoordinatorThatWasHeldUpBlamesNobody) {
  CoreFixture run;
  run.StartTraining();
  run.Pass(absl::Seconds(3));
  run.clock.Advance(absl::Minutes(10));  // stopped by SIGSTOP, as a person does who looks at something
  run.core->Tick();
  run.Pass(absl::Seconds(15));
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kAbort), 0);
  run.Pass(absl::Seconds(10));
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kAbort) + run.links[0].dropped, 1);
}

TEST(CoreTest, WhoDoesNotJoinInTimeIsNamed) {
  CoreFixture run(ServiceConfig(), 4);
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  for (int rank = 0; rank < 3; ++rank) run.JoinAndAttend(rank);
  for (int second = 0; second < 120; ++second) {
    for (int rank = 0; rank < 3; ++rank) run.Beat(rank, 0);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(),
            "rank 3 of 4 has not joined within 120 s: 3 of 4 workers have started");
}

TEST(CoreTest, ARankThatMayNotJoinIsTheReasonWhyOthersAreLost) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  run.JoinAndAttend(0);
  JoinRequest other = GoodJoin(1, 2);
  other.set_build("0.0.9+other");
  ASSERT_TRUE(absl::IsFailedPrecondition(run.core->Join(other).status()));
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  run.core->Detach(0, &run.links[0]);  // by mpirun, since rank 1 gave up
  run.Pass(absl::Seconds(3));
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_THAT(run.core->ended().why(), HasSubstr("rank 1 on node1 was refused: this worker is build 0.0.9+other"));
}

TEST(CoreTest, WhereThoseWereStartedWhoDoNotJoinIsSaid) {
  CoreFixture run(ServiceConfig(), 4, {"a", "a", "b", "b"});
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  for (int rank = 0; rank < 2; ++rank) run.JoinAndAttend(rank);
  for (int rank = 2; rank < 4; ++rank) ASSERT_EQ(run.core->GetRun().status(), absl::OkStatus());
  for (int second = 0; second < 120; ++second) {
    for (int rank = 0; rank < 2; ++rank) run.Beat(rank, 0);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(),
            "ranks 2, 3 of 4, on b, have not joined within 120 s: all workers have started, and MPI does not bring them together");
}

TEST(CoreTest, ManyWhoDoNotJoinAreCounted) {
  CoreFixture run(ServiceConfig(), 100);
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  run.Pass(absl::Seconds(120));
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().why(), "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 92 more of 100 have not joined within 120 s: no worker has "
            "started");
  EXPECT_EQ(run.core->ended().exit_code(), 1);
}

TEST(CoreTest, AStopBeforeAnyWorkerJoinsEndsTheRun) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  run.core->AskToStop("SIGINT to lockstep run", true);
  run.core->Tick();
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 1) << "there is no checkpoint";
  EXPECT_EQ(run.core->Join(GoodJoin(0, 2)).status().message(),
            "the run has ended: asked for by SIGINT to lockstep run");
}

TEST(CoreTest, AResumeWithNothingLeftToDoEndsAtOnce) {
  CoreFixture run;
  run.started.set_resumed(true);
  run.started.mutable_from()->mutable_cursor()->set_step(20);
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  run.core->Tick();
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 0);
}

TEST(CoreTest, AStopIsRefusedOnceTheRunIsStopping) {
  CoreFixture run;
  run.StartTraining();
  StopRequested request;
  request.set_by("lockstep stop");
  EXPECT_EQ(run.core->RequestStop(request)->said(), "stopping after a checkpoint");
  EXPECT_EQ(run.core->RequestStop(request).status(),
            absl::FailedPreconditionError("the run is already stopping: asked for by lockstep stop"));
  EXPECT_FALSE(run.core->RequestCheckpoint({}).ok());
  EXPECT_EQ(run.core->GetStatus(0).phase(), "stopping");
}

TEST(CoreTest, OneCheckpointAtATimeIsAskedFor) {
  CoreFixture run;
  run.StartTraining();
  CheckpointRequested request;
  request.set_by("lockstep checkpoint");
  EXPECT_EQ(run.core->RequestCheckpoint(request)->said(), "a checkpoint is made in a few steps");
  EXPECT_EQ(run.core->RequestCheckpoint(request)->said(), "a checkpoint is on its way already");
  EXPECT_EQ(run.links[1].Count(CoordinatorMessage::kDirective), 1);
}

TEST(CoreTest, MaxTimeIsReachedByTheClock) {
  RunConfig config = ServiceConfig();
  config.mutable_convergence()->set_max_time(5);
  CoreFixture run(config);
  run.StartTraining();
  run.Pass(absl::Seconds(4));
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kDirective), 0);
  run.Pass(absl::Seconds(1));
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kDirective).directive().stop().rule(), "max_time");
}

TEST(CoreTest, AStopDoesNotWaitForEverForRanksThatComputeAndComeNoFurther) {
  CoreFixture run;
  run.StartTraining();
  const auto pass = [&](int seconds, int64_t step) {
    for (int second = 0; second < seconds; ++second) {
      for (int rank = 0; rank < 2; ++rank) run.Beat(rank, step);
      run.Pass(absl::Seconds(1));
    }
  };
  const auto aborts = [&] { return run.links[0].Count(CoordinatorMessage::kAbort); };
  pass(60, 0);
  run.clock.Advance(absl::Minutes(20));  // the coordinator itself was stopped: that says nothing of the ranks
  pass(300, 1);  // however long a step takes while nobody asks for a stop
  run.core->AskToStop("SIGTERM", /*signal=*/true);
  pass(300, 2);
  EXPECT_EQ(aborts(), 0) << "it came further, and the step before took as long";
  pass(5 * 300 + 10, 2);
  ASSERT_EQ(aborts(), 1);
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(),
            "no rank has come further for 1500 s since the stop (signal): all are there and compute, in step 3 or what "
            "follows step 2");
}

TEST(CoreTest, AbortTellsTheRanksToLeaveAtOnce) {
  CoreFixture run;
  run.StartTraining();
  run.core->Abort("mpirun has ended");
  EXPECT_EQ(run.links[1].Last(CoordinatorMessage::kAbort).abort().reason(), "mpirun has ended");
  run.Pass(absl::Seconds(3));
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 1);
}

TEST(CoreTest, AFailedRunWaitsForThoseWhoAreThereAndNotForWhoIsMissing) {
  CoreFixture run;
  run.StartTraining();
  WorkerMessage message = CoreFixture::From(0);
  message.mutable_failed()->set_what("rank 1 does not answer");
  message.mutable_failed()->add_about(1);
  ASSERT_TRUE(run.Send(message).ok());
  run.core->Tick();
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  run.Leave(0);
  run.core->Tick();
  EXPECT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
}

TEST(CoreTest, NonFiniteLossSaysStepAndRank) {
  CoreFixture run;
  run.StartTraining();
  WorkerMessage message = CoreFixture::From(0);
  message.mutable_failed()->set_non_finite(true);
  message.mutable_failed()->set_step(3);
  message.mutable_failed()->set_rank(1);
  ASSERT_TRUE(run.Send(message).ok());
  run.Leave(0);
  run.Leave(1);
  run.core->Tick();
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().why(), "loss is not finite at step 3 on rank 1");
  EXPECT_EQ(run.core->ended().exit_code(), 1);
}

TEST(CoreTest, OfTheRanksThatAFailureNamesThoseThatDoNotExistAreLeftOut) {
  CoreFixture run;
  run.StartTraining();
  WorkerMessage message = CoreFixture::From(0);
  message.mutable_failed()->set_step(3);
  message.mutable_failed()->set_what("rank 1 does not answer");
  for (const int rank : {-1, 2, 1}) message.mutable_failed()->add_about(rank);
  ASSERT_TRUE(run.Send(message).ok());
  EXPECT_EQ(run.links[1].Last(CoordinatorMessage::kAbort).abort().reason().substr(0, 65),
            "rank 0 failed at step 3: rank 1 does not answer; rank 1 is on nod");
}

TEST(CoreTest, WhatTheWireMustNotSayIsRefused) {
  CoreFixture run;
  run.StartTraining();
  WorkerMessage foreign = CoreFixture::From(1);
  foreign.mutable_heartbeat();
  EXPECT_FALSE(run.core->Receive(0, foreign).ok()) << "another rank's message";
  WorkerMessage old = CoreFixture::From(0);
  old.set_incarnation(0);
  old.mutable_heartbeat();
  EXPECT_FALSE(run.Send(old).ok());
  WorkerMessage ahead = CoreFixture::From(0);
  *ahead.mutable_reports()->add_steps() = SmallRecord(9);
  EXPECT_EQ(run.Send(ahead).status().message(), "a report of step 9, where steps are granted through 8");
  WorkerMessage usurper = CoreFixture::From(1);
  usurper.mutable_evaluated()->set_step(10);
  EXPECT_EQ(run.Send(usurper).status().message(), "rank 1 sent what rank 0 alone sends");
  WorkerMessage epoch = CoreFixture::From(0);
  epoch.mutable_epoch_done()->set_epoch(5);
  EXPECT_FALSE(run.Send(epoch).ok());
  EXPECT_FALSE(run.Send(CoreFixture::From(0)).ok()) << "a message that says nothing";
  EXPECT_TRUE(run.Send(CoreFixture::From(7)).status().ok() == false);
}

TEST(CoreTest, ReportsBecomeRowsAndStatus) {
  CoreFixture run;
  run.StartTraining();
  for (int rank = 0; rank < 2; ++rank) {
    WorkerMessage message = CoreFixture::From(rank);
    for (int step = 1; step <= 5; ++step) *message.mutable_reports()->add_steps() = SmallRecord(step);
    ASSERT_TRUE(run.Send(message).ok());
    ASSERT_TRUE(run.Send(message).ok()) << "sent twice";
  }
  const StatusReply status = run.core->GetStatus(0);
  EXPECT_EQ(status.phase(), "training");
  EXPECT_EQ(status.step(), 5);
  EXPECT_EQ(status.epoch_step(), 5);
  EXPECT_EQ(status.steps_per_epoch(), 10);
  EXPECT_DOUBLE_EQ(status.loss(), 1);
  EXPECT_NEAR(status.samples_per_s(), 100, 1e-9);
  EXPECT_NEAR(status.eta_epoch_s(), 0.5, 1e-9);
  EXPECT_EQ(status.workers(1).step(), 5);
  run.recorder->Flush();
  MutexLock lock(&run.rows.mutex);
  EXPECT_EQ(run.rows.steps.size(), 5u);
}

TEST(CoreTest, AnEpochsLineHoldsItsEvaluation) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  WorkerMessage message = CoreFixture::From(0);
  message.mutable_epoch_done()->set_epoch(0);
  message.mutable_epoch_done()->set_samples(100);
  message.mutable_epoch_done()->set_seconds(2);
  message.mutable_epoch_done()->set_loss(0.25);
  ASSERT_TRUE(run.Send(message).ok());
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus());
  std::vector<std::string> kinds;
  const StatusReply status = run.core->GetStatus(0);
  for (const Event& event : status.events()) {
    kinds.push_back(event.has_epoch() ? "epoch" : event.has_decision() ? event.decision().rule() : event.note());
    if (!event.has_epoch()) continue;
    EXPECT_EQ(event.epoch().step(), 10);
    EXPECT_DOUBLE_EQ(event.epoch().samples_per_s(), 50);
    EXPECT_DOUBLE_EQ(event.epoch().loss(), 0.25);
    EXPECT_DOUBLE_EQ(event.epoch().evaluation().metrics().at("accuracy"), 0.5);
  }
  EXPECT_THAT(kinds, ElementsAre("all 2 workers have joined", "epoch", "best"));
  run.recorder->Flush();
  MutexLock lock(&run.rows.mutex);
  EXPECT_TRUE(std::any_of(run.rows.updates.begin(), run.rows.updates.end(),
                          [](const Update& update) { return update.epoch_done().samples() == 100; }));
}

TEST(CoreTest, EventsAfterANumberAreOnlyTheNewOnes) {
  CoreFixture run;
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  for (int i = 0; i < 600; ++i) run.core->Note(absl::StrCat("note ", i));
  const StatusReply all = run.core->GetStatus(0);
  EXPECT_EQ(all.events_size(), 512);
  EXPECT_EQ(all.events(511).number(), 600);
  const StatusReply newer = run.core->GetStatus(599);
  ASSERT_EQ(newer.events_size(), 1);
  EXPECT_EQ(newer.events(0).note(), "note 599");
}

TEST(CoreTest, AWorkersLifeIsARow) {
  CoreFixture run;
  run.StartTraining();
  run.core->AskToStop("x", false);
  run.Leave(1);
  run.recorder->Flush();
  MutexLock lock(&run.rows.mutex);
  std::vector<std::string> lives;
  for (const Update& update : run.rows.updates) {
    if (update.has_worker_joined()) lives.push_back(absl::StrCat("rank ", update.worker_joined().rank(), " joined"));
    if (update.has_worker_left()) lives.push_back(absl::StrCat("rank ", update.worker_left().rank(), " left"));
  }
  EXPECT_THAT(lives, ElementsAre("rank 0 joined", "rank 1 joined", "rank 1 left"));
}

TEST(CoreTest, TenThousandWorkersReportWithoutTheWorldCounting) {
  constexpr int kWorld = 10000;
  CoreFixture run(ServiceConfig(), kWorld);
  ASSERT_EQ(run.core->Begin(run.started), absl::OkStatus());
  for (int rank = 0; rank < kWorld; ++rank) ASSERT_TRUE(run.core->Join(GoodJoin(rank, kWorld)).ok());
  const int64_t start = MonotonicNanos();
  for (int rank = 0; rank < kWorld; ++rank) {
    WorkerMessage message = CoreFixture::From(rank);
    for (int step = 1; step <= 8; ++step) *message.mutable_reports()->add_steps() = SmallRecord(step);
    ASSERT_TRUE(run.Send(message).ok());
  }
  // One second's reports in a second: without sockets, on a busy machine, it is a small part of it.
  EXPECT_LT(MonotonicNanos() - start, 1000000000);
  EXPECT_EQ(run.core->GetStatus(0).step(), 8);
}

}  // namespace
}  // namespace lockstep
