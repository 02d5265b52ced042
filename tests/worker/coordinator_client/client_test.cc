#include "worker/coordinator_client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "tests/worker/coordinator_client/fake_coordinator.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Messages = std::vector<WorkerMessage>;

constexpr absl::Duration kLong = absl::Seconds(60);

std::string Text(const absl::Status& status) { return std::string(status.message()); }

StepRecord Record(int64_t step) {
  StepRecord record;
  record.set_step(step);
  return record;
}

int64_t Seconds(int64_t since_ns) { return (MonotonicNanos() - since_ns) / 1'000'000'000; }

// Until the reading thread has taken note of something.
template <typename Condition>
bool Eventually(Condition condition) {
  const int64_t start_ns = MonotonicNanos();
  while (!condition()) {
    if (Seconds(start_ns) > 60) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(GetRunTest, TriesAgainUntilTheCoordinatorHasStarted) {
  // Until the first attempt has been seen, somebody else has the port, who hangs up.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const int yes = 1;  // else the connections that it has had keep the port for a while
  ASSERT_EQ(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ClientOptions options;
  options.address = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  options.credentials.token = "0123456789abcdef";
  options.connect_timeout = kLong;
  absl::StatusOr<GetRunReply> run;
  std::thread worker([&] { run = GetRun(options); });
  close(accept(listener, nullptr, nullptr));
  close(listener);
  FakeCoordinator coordinator(ntohs(address.sin_port));
  worker.join();
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->config_digest(), "digest");
}

TEST(GetRunTest, SaysWhereNobodyAnswers) {
  int port = 0;
  { port = FakeCoordinator().port(); }
  ClientOptions options;
  options.address = absl::StrCat("127.0.0.1:", port);
  options.connect_timeout = absl::Milliseconds(300);
  EXPECT_EQ(GetRun(options).status(),
            absl::DeadlineExceededError(absl::StrCat("the coordinator at ", options.address,
                                                     " cannot be reached after 300ms; check that lockstep serve runs "
                                                     "there and that --coordinator is its address")));
}

TEST(GetRunTest, AWrongTokenIsRefusedAtOnceWithTheCoordinatorsWords) {
  FakeCoordinator coordinator;
  ClientOptions options = coordinator.client();
  options.credentials.token = "another";
  EXPECT_EQ(GetRun(options).status(), absl::UnauthenticatedError(absl::StrCat("the coordinator at ", options.address,
                                                                              ": this is not the run's token")));
}

TEST(GetRunTest, GoesPastAProxyThatTheEnvironmentNames) {
  FakeCoordinator coordinator;
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  setenv("grpc_proxy", "http://127.0.0.1:1", 1);
  ClientOptions options = coordinator.client();
  options.connect_timeout = absl::Seconds(5);
  const absl::StatusOr<GetRunReply> run = GetRun(options);
  unsetenv("http_proxy");
  unsetenv("grpc_proxy");
  EXPECT_TRUE(run.ok()) << run.status();
}

TEST(JoinTest, RefusalsKeepTheirCodeAndTheirWords) {
  for (const auto code : {grpc::StatusCode::FAILED_PRECONDITION, grpc::StatusCode::ALREADY_EXISTS,
                          grpc::StatusCode::OUT_OF_RANGE, grpc::StatusCode::UNAUTHENTICATED}) {
    FakeCoordinator coordinator;
    coordinator.join_status = grpc::Status(code, "your build is a, the coordinator's is b");
    const absl::Status status = Join(coordinator.client(), JoinRequest()).status();
    EXPECT_EQ(static_cast<int>(status.code()), static_cast<int>(code));
    EXPECT_EQ(Text(status), absl::StrCat("the coordinator at ", coordinator.client().address,
                                         ": your build is a, the coordinator's is b"));
  }
}

TEST(LinkTest, SaysWhoItIsAtOnceAndThatItIsAliveAgainAndAgain) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  ASSERT_TRUE(coordinator.Until([](const Messages& messages) { return messages.size() >= 5; }));
  for (const WorkerMessage& message : coordinator.Messages()) {
    EXPECT_EQ(message.rank(), 3);
    EXPECT_EQ(message.incarnation(), 2);
    EXPECT_TRUE(message.has_heartbeat());
  }
  link->GrantedThrough(17);
  EXPECT_TRUE(coordinator.Until([](const Messages& messages) { return messages.back().heartbeat().step() == 17; }));
}

TEST(LinkTest, AsksForMoreOnceWhenHalfIsUsed) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  for (int64_t step = 0; step <= 100; ++step) {
    EXPECT_EQ(link->GrantedThrough(step), 100);
    if (step != 49) continue;
    ASSERT_TRUE(coordinator.Until([](const Messages& messages) { return messages.back().heartbeat().step() == 49; }));
    EXPECT_TRUE(coordinator.Messages(WorkerMessage::kGrantRequest).empty());
  }
  ASSERT_TRUE(coordinator.Until([](const Messages& messages) { return messages.back().heartbeat().step() == 100; }));
  const Messages requests = coordinator.Messages(WorkerMessage::kGrantRequest);
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].grant_request().through_step(), 100);
  coordinator.SayGrant(101, 200);
  ASSERT_TRUE(link->WaitForGrant(101, kLong).ok());
  EXPECT_EQ(link->GrantedThrough(150), 200);
  ASSERT_TRUE(coordinator.Until([&](const Messages& messages) { return messages.back().heartbeat().step() == 150; }));
  EXPECT_EQ(coordinator.Messages(WorkerMessage::kGrantRequest).size(), 2u);
}

TEST(LinkTest, EventsComeWithTheGrants) {
  FakeCoordinator coordinator;
  coordinator.join_reply.mutable_grant()->add_evaluate_at(100);
  coordinator.join_reply.mutable_grant()->add_checkpoint_at(50);
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  EXPECT_TRUE(link->EvaluationDue(100));
  EXPECT_FALSE(link->EvaluationDue(50));
  EXPECT_TRUE(link->CheckpointDue(50));
  EXPECT_EQ(link->final_step(), 1000);
  link->GrantedThrough(50);
  EXPECT_TRUE(link->CheckpointDue(50)) << "the step that was just completed";
}

TEST(LinkTest, WaitingBeyondThePlanIsAnErrorAtOnce) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  EXPECT_EQ(link->WaitForGrant(1001, kLong), absl::OutOfRangeError("step 1001 lies beyond the plan's last, 1000"));
}

TEST(LinkTest, SilenceIsADeadlineThatNamesTheAddressAndIsNotFinal) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  const absl::Status status = link->WaitForGrant(101, absl::Milliseconds(200));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(status), StartsWith(absl::StrCat("step 101 is not granted: the coordinator at ",
                                                    coordinator.client().address, " has been silent for ")));
  coordinator.SayGrant(101, 200);
  EXPECT_TRUE(link->WaitForGrant(101, kLong).ok());
  EXPECT_EQ(link->WaitForVerdict(100, absl::Milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(LinkTest, DirectivesAreHeldInOrderAndOnce) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  EXPECT_EQ(link->HeldDirective(), 0);
  CoordinatorMessage message;
  for (const int64_t number : {1, 1, 2, 2, 3}) {
    message.mutable_directive()->set_number(number);
    message.mutable_directive()->mutable_stop()->set_rule(absl::StrCat("rule ", number));
    coordinator.Say(message);
  }
  ASSERT_TRUE(Eventually([&] { return link->HeldDirective() == 3; }));
  for (const int64_t number : {1, 2, 3}) {
    EXPECT_EQ(link->GetDirective(number).number(), number);
    EXPECT_EQ(link->GetDirective(number).stop().rule(), absl::StrCat("rule ", number));
  }
}

TEST(LinkTest, TheVerdictOfTheAskedStepIsReturned) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  CoordinatorMessage message;
  for (const int64_t step : {50, 100}) {
    message.mutable_verdict()->set_step(step);
    message.mutable_verdict()->set_stop(step == 100);
    coordinator.Say(message);
  }
  const absl::StatusOr<Verdict> verdict = link->WaitForVerdict(100, kLong);
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_EQ(verdict->step(), 100);
  EXPECT_TRUE(verdict->stop());
}

TEST(LinkTest, AnAbortEndsEveryWaitWithItsReason) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  EXPECT_TRUE(link->Alive().ok());
  CoordinatorMessage message;
  message.mutable_abort()->set_reason("rank 1 was lost");
  absl::Status waited;
  std::thread trainer([&] { waited = link->WaitForGrant(101, kLong); });
  coordinator.Say(message);
  trainer.join();
  EXPECT_EQ(waited, absl::CancelledError("rank 1 was lost"));
  EXPECT_EQ(link->Alive(), absl::CancelledError("rank 1 was lost"));
  EXPECT_EQ(link->WaitForVerdict(1, kLong).status(), absl::CancelledError("rank 1 was lost"));
}

TEST(LinkTest, WaitingForAnAbortEndsWithItOrAtTheDeadline) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  link->WaitForAbort(absl::Milliseconds(1));
  EXPECT_TRUE(link->Alive().ok());
  CoordinatorMessage message;
  message.mutable_abort()->set_reason("loss is not finite at step 17 on rank 1");
  coordinator.Say(message);
  link->WaitForAbort(kLong);
  EXPECT_EQ(link->Alive(), absl::CancelledError("loss is not finite at step 17 on rank 1"));
}

TEST(LinkTest, UrgentMessagesGoInOrderAfterTheRecordsBeforeThem) {
  FakeCoordinator coordinator;
  coordinator.join_reply.set_heartbeat_s(60);  // the longest period: what goes at once is not waited for
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  for (int64_t step = 1; step <= 3; ++step) link->Report(Record(step));
  EpochDone done;
  done.set_steps(3);
  link->SendEpochDone(done);
  link->SendEvaluation(EvaluationResult());
  link->SendCheckpointDue(CheckpointDue());
  link->SendStopRequested(StopRequested());
  link->SendFailed(Failed());
  ASSERT_TRUE(coordinator.Until([](const Messages& messages) { return messages.back().has_failed(); }));
  std::vector<WorkerMessage::KindCase> kinds;
  for (const WorkerMessage& message : coordinator.Messages()) {
    if (!message.has_heartbeat()) kinds.push_back(message.kind_case());
  }
  EXPECT_THAT(kinds, testing::ElementsAre(WorkerMessage::kReports, WorkerMessage::kEpochDone, WorkerMessage::kEvaluated,
                                          WorkerMessage::kCheckpointDue, WorkerMessage::kStopRequested,
                                          WorkerMessage::kFailed));
}

TEST(LinkTest, RecordsThatFindTheRingFullAreCounted) {
  FakeCoordinator coordinator;
  ClientOptions options = coordinator.client();
  options.report_slots = 8;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker(options);
  for (int64_t step = 1; step <= 5000; ++step) link->Report(Record(step));
  link->Leave(Leaving(), kLong);
  int64_t steps = 0, last = 0;
  const Messages batches = coordinator.Messages(WorkerMessage::kReports);
  ASSERT_FALSE(batches.empty());
  for (const WorkerMessage& message : batches) {
    for (const StepRecord& record : message.reports().steps()) {
      EXPECT_GT(record.step(), last);
      last = record.step();
      ++steps;
    }
  }
  EXPECT_GT(batches.back().reports().dropped(), 0);
  EXPECT_EQ(steps + batches.back().reports().dropped(), 5000);
}

TEST(LinkTest, LeavingSendsAllThatIsLeftInSmallBatchesAndItsReasonLast) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  for (int64_t step = 1; step <= 300; ++step) {
    StepRecord record = Record(step);
    for (int k = 0; k < 200; ++k) record.add_collectives()->set_name(std::string(100, 'x'));
    link->Report(std::move(record));
  }
  Leaving leaving;
  leaving.set_step(300);
  leaving.set_why("done");
  const int64_t start_ns = MonotonicNanos();
  link->Leave(leaving, kLong);
  EXPECT_LT(Seconds(start_ns), 30);
  int64_t steps = 0;
  for (const WorkerMessage& message : coordinator.Messages(WorkerMessage::kReports)) {
    EXPECT_LT(message.ByteSizeLong(), size_t{1} << 20);
    for (const StepRecord& record : message.reports().steps()) {
      EXPECT_EQ(record.step(), ++steps);
      EXPECT_EQ(record.collectives_size(), 200);
    }
  }
  EXPECT_EQ(steps, 300);
  EXPECT_EQ(coordinator.Messages().back().leaving().why(), "done");
}

TEST(LinkTest, ACoordinatorThatStandsStillHoldsNobodyUpAndGetsEverythingLater) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  coordinator.Read(false);
  const int64_t start_ns = MonotonicNanos();
  for (int64_t step = 1; step <= 100; ++step) {
    StepRecord record = Record(step);
    record.add_collectives()->set_name(std::string(20000, 'x'));  // more than a connection takes unread
    link->Report(std::move(record));
    EXPECT_EQ(link->GrantedThrough(step), 100);
    EXPECT_TRUE(link->Alive().ok());
  }
  EXPECT_LT(Seconds(start_ns), 30);
  EXPECT_EQ(link->WaitForGrant(101, absl::Milliseconds(100)).code(), absl::StatusCode::kDeadlineExceeded);
  coordinator.Read(true);
  const auto steps_in = [](const Messages& messages) {
    int64_t steps = 0;
    for (const WorkerMessage& message : messages) steps += message.reports().steps_size();
    return steps;
  };
  const auto requests_in = [](const Messages& messages) {
    return std::count_if(messages.begin(), messages.end(),
                         [](const WorkerMessage& m) { return m.has_grant_request(); });
  };
  // A heartbeat after all of it: nothing more is on its way.
  ASSERT_TRUE(coordinator.Until([&](const Messages& messages) {
    return messages.back().has_heartbeat() && steps_in(messages) >= 100 && requests_in(messages) >= 1;
  }));
  EXPECT_EQ(steps_in(coordinator.Messages()), 100);
  EXPECT_EQ(requests_in(coordinator.Messages()), 1);
}

TEST(LinkTest, LeavingACoordinatorThatStandsStillEndsInTime) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  coordinator.Read(false);
  const int64_t start_ns = MonotonicNanos();
  link->Leave(Leaving(), absl::Milliseconds(200));
  EXPECT_GE(MonotonicNanos() - start_ns, 200'000'000);
  link.reset();
  EXPECT_LT(Seconds(start_ns), 30);
}

TEST(LinkTest, ADeadCoordinatorEndsWaitsAtOnceButNotTraining) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  ASSERT_TRUE(coordinator.Until([](const Messages& messages) { return !messages.empty(); }));
  coordinator.Die();
  const int64_t start_ns = MonotonicNanos();
  const absl::Status status = link->WaitForGrant(101, kLong);
  EXPECT_LT(Seconds(start_ns), 30);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(status), HasSubstr(absl::StrCat("the coordinator at ", coordinator.client().address, " is gone: ")));
  EXPECT_TRUE(link->Alive().ok());
  EXPECT_EQ(link->GrantedThrough(60), 100);
  EXPECT_TRUE(link->WaitForGrant(100, kLong).ok());
  EXPECT_EQ(link->WaitForVerdict(60, kLong).status().code(), absl::StatusCode::kUnavailable);
  link->Report(Record(61));
  link->SendEpochDone(EpochDone());
  link->Leave(Leaving(), kLong);
  EXPECT_LT(Seconds(start_ns), 30);
}

TEST(LinkTest, AStreamThatIsRefusedTellsTheWorkerToLeave) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  coordinator.EndStream(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "incarnation 2 is over"));
  const absl::Status expected = absl::CancelledError(
      absl::StrCat("the coordinator at ", coordinator.client().address, " refuses this worker: incarnation 2 is over"));
  EXPECT_EQ(link->WaitForGrant(101, kLong), expected);
  EXPECT_EQ(link->Alive(), expected);
}

}  // namespace
}  // namespace lockstep
