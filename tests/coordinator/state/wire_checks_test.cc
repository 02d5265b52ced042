// What the state answers to what comes over the wire, and to updates that no correct journal holds.
#include <gtest/gtest.h>

#include <functional>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

JoinRequest GoodJoin(int rank) {
  JoinRequest request;
  request.set_rank(rank);
  request.set_world(2);
  request.set_incarnation(1);
  request.set_config_digest("digest");
  request.set_build("build");
  request.set_host("node1");
  return request;
}

struct JoinCase {
  const char* name;
  std::function<void(JoinRequest*)> change;
  absl::StatusCode code;
  const char* message;
};

class JoinTest : public testing::TestWithParam<JoinCase> {};

TEST_P(JoinTest, IsRefusedWithBothSides) {
  JournalDriver run(Started(SmallConfig()));
  run.Join(1);
  JoinRequest request = GoodJoin(0);
  EXPECT_EQ(run.state.CheckJoin(request), absl::OkStatus());
  GetParam().change(&request);
  EXPECT_EQ(run.state.CheckJoin(request), absl::Status(GetParam().code, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Table, JoinTest,
    testing::Values(
        JoinCase{"NegativeRank", [](JoinRequest* r) { r->set_rank(-1); }, absl::StatusCode::kOutOfRange,
                 "rank -1 is not in [0, 2)"},
        JoinCase{"RankOfNoWorld", [](JoinRequest* r) { r->set_rank(2); }, absl::StatusCode::kOutOfRange,
                 "rank 2 is not in [0, 2)"},
        JoinCase{"World", [](JoinRequest* r) { r->set_world(3); }, absl::StatusCode::kFailedPrecondition,
                 "this worker was started as one of 3, the run has 2 workers: start mpirun with -n 2"},
        JoinCase{"Incarnation", [](JoinRequest* r) { r->set_incarnation(0); }, absl::StatusCode::kFailedPrecondition,
                 "this worker belongs to incarnation 0, the run is in incarnation 1: start the worker "
                 "anew"},
        JoinCase{"Digest", [](JoinRequest* r) { r->set_config_digest("other"); }, absl::StatusCode::kFailedPrecondition,
                 "this worker's config has digest other, the run's has digest: start both from the same "
                 "config"},
        JoinCase{"Build", [](JoinRequest* r) { r->set_build("old"); }, absl::StatusCode::kFailedPrecondition,
                 "this worker is build old, the coordinator is build build: install the same on every "
                 "host"},
        JoinCase{"Twice", [](JoinRequest* r) { r->set_rank(1); }, absl::StatusCode::kAlreadyExists,
                 "rank 1 has joined already, from node1 (pid 4242)"}),
    [](const testing::TestParamInfo<JoinCase>& info) { return info.param.name; });

TEST(WireChecksTest, NobodyJoinsARunThatHasFailedOrEnded) {
  JournalDriver run(Started(SmallConfig()));
  EXPECT_TRUE(absl::IsUnavailable(RunState().CheckJoin(GoodJoin(0))));
  run.Fail(0, -1, "no disk");
  EXPECT_EQ(run.state.CheckJoin(GoodJoin(0)), absl::FailedPreconditionError("the run has failed: no disk"));
  Update ended;
  ended.mutable_run_ended()->set_why("no disk");
  run.Fact(ended);
  EXPECT_EQ(run.state.CheckJoin(GoodJoin(0)), absl::FailedPreconditionError("the run has ended: no disk"));
}

TEST(WireChecksTest, SenderMustBeThere) {
  JournalDriver run(Started(SmallConfig()));
  EXPECT_EQ(run.state.CheckSender(0, 1), absl::FailedPreconditionError("rank 0 has not joined: call Join first"));
  run.Join(0);
  EXPECT_EQ(run.state.CheckSender(0, 1), absl::OkStatus());
  EXPECT_EQ(run.state.CheckSender(0, 2),
            absl::FailedPreconditionError("a message of incarnation 2, the run is in incarnation 1"));
  run.Leave(0, "crashed", true);
  EXPECT_EQ(run.state.CheckSender(0, 1), absl::FailedPreconditionError("rank 0 has left: crashed"));
}

TEST(WireChecksTest, OnlyAnEvaluationThatIsDueCounts) {
  JournalDriver run(Started(SmallConfig()));
  EXPECT_FALSE(run.state.CheckEvaluation(Evaluated(10, 0.5)).ok()) << "not granted yet";
  run.GrantAll();
  EXPECT_EQ(run.state.CheckEvaluation(Evaluated(10, 0.5)), absl::OkStatus());
  EXPECT_EQ(run.state.CheckEvaluation(Evaluated(11, 0.5)),
            absl::FailedPreconditionError("no evaluation is due at step 11"));
  EXPECT_FALSE(run.state.CheckEvaluation(Evaluated(-10, 0.5)).ok());
  EXPECT_FALSE(run.state.CheckEvaluation(Evaluated(40, 0.5)).ok());
  run.Evaluate(Evaluated(10, 0.5));
  EXPECT_TRUE(absl::IsAlreadyExists(run.state.CheckEvaluation(Evaluated(10, 0.5))));
}

struct WrongCase {
  const char* name;
  std::function<void(Update*)> fill;
};

class WrongUpdateTest : public testing::TestWithParam<WrongCase> {};

TEST_P(WrongUpdateTest, IsRefusedAndChangesNothing) {
  JournalDriver run(Started(SmallConfig()));
  run.Join(0);
  Update update;
  update.set_seq(run.state.last_seq() + 1);
  GetParam().fill(&update);
  const int64_t before = run.state.last_seq();
  EXPECT_FALSE(run.state.Check(update).ok());
  EXPECT_FALSE(run.state.Apply(update).ok());
  EXPECT_EQ(run.state.last_seq(), before);
  EXPECT_EQ(run.state.workers().size(), 1u);
  EXPECT_EQ(run.state.granted_through(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Table, WrongUpdateTest,
    testing::Values(
        WrongCase{"AGap", [](Update* u) { u->set_seq(u->seq() + 1), u->mutable_granted()->set_through_step(5); }},
        WrongCase{"NoKind", [](Update*) {}},
        WrongCase{"AnIncarnationTooMany",
                  [](Update* u) {
                    *u->mutable_run_started() = Started(SmallConfig());
                    u->mutable_run_started()->set_incarnation(3);
                  }},
        WrongCase{"NoSamples",
                  [](Update* u) {
                    *u->mutable_run_started() = Started(SmallConfig());
                    u->mutable_run_started()->set_incarnation(2);
                    u->mutable_run_started()->set_train_samples(0);
                  }},
        WrongCase{"JoinsTwice", [](Update* u) { u->mutable_worker_joined()->set_incarnation(1); }},
        WrongCase{"LeavesWithoutJoining",
                  [](Update* u) {
                    u->mutable_worker_left()->set_incarnation(1);
                    u->mutable_worker_left()->set_rank(1);
                  }},
        WrongCase{"GrantBeyondTheEnd", [](Update* u) { u->mutable_granted()->set_through_step(31); }},
        WrongCase{"GrantBackwards", [](Update* u) { u->mutable_granted()->set_through_step(0); }},
        WrongCase{"EvaluationNotDue", [](Update* u) { u->mutable_evaluated()->set_step(3); }},
        WrongCase{"CommitWithoutDecision", [](Update* u) { u->mutable_checkpoint_committed()->set_step(10); }},
        WrongCase{"UnknownDecision", [](Update* u) { u->mutable_decision()->set_kind("dance"); }},
        WrongCase{"DirectiveOutOfOrder",
                  [](Update* u) {
                    u->mutable_decision()->set_kind("stop");
                    u->mutable_decision()->set_directive(2);
                  }}),
    [](const testing::TestParamInfo<WrongCase>& info) { return info.param.name; });

TEST(WrongUpdateTest, NothingComesBeforeTheStartOrAfterTheEnd) {
  RunState fresh;
  Update update;
  update.set_seq(1);
  update.mutable_granted()->set_through_step(1);
  EXPECT_EQ(fresh.Apply(update), absl::InvalidArgumentError("journal update 1: before the run has started"));
  JournalDriver run(Started(SmallConfig()));
  run.End();
  EXPECT_EQ(run.Write(update), absl::InvalidArgumentError("journal update 3: after the run's end"));
}

}  // namespace
}  // namespace lockstep
