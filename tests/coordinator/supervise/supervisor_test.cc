#include "coordinator/supervise/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/file.h"
#include "coordinator/supervise/aftermath.h"
#include "coordinator/supervise/runtime_record.h"
#include "coordinator/supervise/token.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kHere[] = "tests/coordinator/supervise/";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return (std::stringstream() << file.rdbuf()).str();
}

// Waits for `condition`, for at most `limit`.
bool Await(const std::function<bool()>& condition, absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    poll(nullptr, 0, 5);
  }
  return true;
}

class FakeView : public SupervisorView {
 public:
  absl::Status OnReady(const std::string& address, pid_t coordinator) override {
    address_ = address;
    coordinator_ = coordinator;
    return ready_answer_;
  }
  void OnStarted() override {
    if (on_started_) on_started_();
  }
  std::vector<std::string> AwaitedHosts() override { return awaited_; }
  void OnNotice(const std::string& line) override {
    notices_.push_back(line);
    if (on_notice_) on_notice_();
  }
  void OnRunEnded() override { ++ended_; }
  void CleanUp() override {
    ++cleaned_up_;
    // The coordinator is there unless it was the one to die; nobody else is.
    left_at_clean_up_ = ProcessesWithVariable(kTokenVariable, token_);
    if (on_clean_up_) on_clean_up_();
  }

  std::function<void()> on_started_, on_notice_, on_clean_up_;
  absl::Status ready_answer_;
  std::string address_;
  pid_t coordinator_ = 0;
  std::vector<std::string> notices_, awaited_;
  int ended_ = 0, cleaned_up_ = 0;
  std::string token_;
  std::vector<pid_t> left_at_clean_up_;
};

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() : signals_(*SignalWatch::Start()), token_(*MakeToken()) { view_.token_ = token_; }
  ~SupervisorTest() override {
    for (const pid_t pid : Processes()) kill(pid, SIGKILL);
  }

  SupervisorOptions Options(const std::string& coordinator, const std::string& mpirun) {
    SupervisorOptions options;
    options.coordinator.argv = {absl::StrCat(kHere, "fake_coordinator.sh"), coordinator, folder_ / "notes"};
    options.coordinator.environment = {{kTokenVariable, token_}};
    options.coordinator_log = options.coordinator.output = folder_ / "coordinator.log";
    options.mpirun_log = folder_ / "mpirun.log";
    options.mpirun = [this, mpirun](const std::string&) {
      ChildOptions child;
      child.argv = {absl::StrCat(kHere, "fake_mpirun.sh"), mpirun};
      child.environment = {{kTokenVariable, token_}};
      child.output = folder_ / "mpirun.log";
      child.parent_death_signal = SIGTERM;
      return child;
    };
    options.settle_timeout = options.kill_grace = absl::Milliseconds(300);
    options.finalize_timeout = absl::Milliseconds(300);
    return options;
  }

  SupervisedEnd Supervise(SupervisorOptions options) {
    const absl::Time begin = absl::Now();
    view_.cleaned_up_ = 0;
    SupervisedEnd end = Supervisor(std::move(options), &signals_, &view_).Run();
    took_ = absl::Now() - begin;
    EXPECT_TRUE(Processes().empty()) << "a process is left";
    EXPECT_EQ(view_.cleaned_up_, 1);
    return end;
  }

  // Until the coordinator, mpirun and its two workers are there, mpirun with its trap set.
  void AwaitWorkers() const {
    EXPECT_TRUE(
        Await([&] { return ReadAll(folder_ / "mpirun.log").find("up") != std::string::npos; }, absl::Seconds(10)));
  }
  std::vector<pid_t> Processes() const { return ProcessesWithVariable(kTokenVariable, token_); }
  std::string Notes() const { return ReadAll(folder_ / "notes"); }
  std::string LogPath(const std::string& name) const { return folder_ / name; }

  TempFolder folder_;
  SignalWatch signals_;
  const std::string token_;
  FakeView view_;
  absl::Duration took_;
};

TEST_F(SupervisorTest, ARunThatEndsAsItShouldHasExitCode0) {
  const SupervisedEnd end = Supervise(Options("end", "exit-0"));
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.why, "");
  EXPECT_TRUE(end.started);
  EXPECT_EQ(view_.address_, "127.0.0.1:4711");
  EXPECT_EQ(view_.ended_, 1);
  EXPECT_THAT(view_.left_at_clean_up_, ElementsAre(view_.coordinator_));
  EXPECT_EQ(Notes(), "done \n");
}

TEST_F(SupervisorTest, ARunThatFailsSaysWhyInTheCoordinatorsWords) {
  const SupervisedEnd end = Supervise(Options("fail", "exit-1"));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.why, "loss is not finite at step 12 on rank 1");
}

TEST_F(SupervisorTest, ACoordinatorThatRefusesHandsItsExitCodeOn) {
  const SupervisedEnd end = Supervise(Options("refuse", "sleep"));
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_EQ(end.why, "config.yaml:3: bad");
  EXPECT_FALSE(end.started);
}

TEST_F(SupervisorTest, ARunThatWasOverBeforeStartsNoWorkers) {
  view_.on_started_ = [] { ADD_FAILURE() << "mpirun was started"; };
  const SupervisedEnd end = Supervise(Options("over", "exit-1"));
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.why, "");
  EXPECT_TRUE(end.started);
  EXPECT_EQ(view_.ended_, 1);
  EXPECT_EQ(view_.address_, "");
}

TEST_F(SupervisorTest, ACoordinatorThatNeverAnswersIsGivenUp) {
  SupervisorOptions options = Options("mute", "sleep");
  options.ready_timeout = absl::Milliseconds(200);
  const SupervisedEnd end = Supervise(std::move(options));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.why, HasSubstr("was not ready within 200ms; see "));
}

TEST_F(SupervisorTest, ACoordinatorThatLeavesAtOnceIsNamed) {
  const SupervisedEnd end = Supervise(Options("leave", "sleep"));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.why, HasSubstr("ended with exit code 7; see "));
}

TEST_F(SupervisorTest, TheCoordinatorsDeathTakesMpirunAlongAndIsNamedByItsSignal) {
  for (const auto& [number, name] : {std::pair(SIGKILL, "SIGKILL"), std::pair(SIGSEGV, "SIGSEGV"),
                                     std::pair(SIGABRT, "SIGABRT"), std::pair(SIGTERM, "SIGTERM")}) {
    view_.on_started_ = [this, number = number] { kill(view_.coordinator_, number); };
    const SupervisedEnd end = Supervise(Options("serve", "sleep"));
    EXPECT_EQ(end.exit_code, 1);
    EXPECT_EQ(end.why, absl::StrCat("the coordinator (pid ", view_.coordinator_, ") was killed by ", name));
    EXPECT_LT(took_, absl::Seconds(5));
  }
}

TEST_F(SupervisorTest, AnMpirunThatIgnoresSigtermIsKilledWithItsWorkers) {
  view_.on_started_ = [this] {
    AwaitWorkers();
    kill(view_.coordinator_, SIGKILL);
  };
  const SupervisedEnd end = Supervise(Options("serve", "stubborn"));
  EXPECT_THAT(end.why, HasSubstr("was killed by SIGKILL"));
  EXPECT_LT(took_, absl::Seconds(5));
}

TEST_F(SupervisorTest, WorkersThatMpirunLeavesBehindAreKilled) {
  view_.on_started_ = [this] {
    AwaitWorkers();
    kill(view_.coordinator_, SIGKILL);
  };
  Supervise(Options("serve", "abandon"));  // Supervise checks that nothing is left
  EXPECT_LT(took_, absl::Seconds(5));
}

TEST_F(SupervisorTest, ALostWorkerIsNamedByWhatMpirunSays) {
  const SupervisedEnd end = Supervise(Options("serve", "lost"));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.why, "worker 1 (pid 4242) was killed by SIGKILL");
  EXPECT_THAT(Notes(), HasSubstr("abort worker 1 (pid 4242) was killed by SIGKILL"));
}

TEST_F(SupervisorTest, WhatAnEarlierLaunchLeftInTheLogIsNotBelieved) {
  std::ofstream(LogPath("mpirun.log")) << "process rank 0 with PID 1 on node x exited on signal 9 (Killed).\n";
  const SupervisedEnd end = Supervise(Options("serve", "exit-5"));
  EXPECT_THAT(end.why, HasSubstr("ended with exit code 5 before the run was over; see "));
}

TEST_F(SupervisorTest, AHostThatDoesNotAnswerBeforeItsRanksHaveJoinedEndsTheRun) {
  view_.awaited_ = {"a", "b"};
  SupervisorOptions options = Options("serve", "sleep");
  options.hosts = {[this](const std::string& host) {
                     ChildOptions child;
                     child.argv = {"sleep", host == "b" ? "300" : "0"};
                     child.environment = {{kTokenVariable, token_}};
                     return child;
                   },
                   absl::Milliseconds(300)};
  const SupervisedEnd end = Supervise(std::move(options));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.why, "host b was lost before its ranks had joined: it gave no answer within 300ms");
  EXPECT_THAT(Notes(), HasSubstr(absl::StrCat("abort ", end.why)));
  EXPECT_LT(took_, absl::Seconds(5));
}

TEST_F(SupervisorTest, AHostThatAnswersIsWaitedFor) {
  view_.awaited_ = {"a"};
  SupervisorOptions options = Options("serve", "sleep");
  int questions = 0;
  options.hosts = {[&](const std::string&) {
                     if (++questions == 5) kill(getpid(), SIGINT);
                     ChildOptions child;
                     child.argv = {"true"};
                     return child;
                   },
                   absl::Milliseconds(300)};
  const SupervisedEnd end = Supervise(std::move(options));
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(questions, 5);
}

TEST_F(SupervisorTest, AnMpirunThatIsNotThereIsSaidSo) {
  SupervisorOptions options = Options("serve", "sleep");
  options.mpirun = [](const std::string&) {
    ChildOptions child;
    child.argv = {"no-such-mpirun"};
    return child;
  };
  const SupervisedEnd end = Supervise(std::move(options));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.why, HasSubstr("starting no-such-mpirun: No such file or directory; install Open MPI"));
}

TEST_F(SupervisorTest, AnMpirunThatHangsAfterTheRunsEndIsEnded) {
  const SupervisedEnd end = Supervise(Options("end", "stubborn"));
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_THAT(view_.notices_, Contains(HasSubstr("did not leave within 300ms of the run's end")));
  EXPECT_LT(took_, absl::Seconds(5));
}

TEST_F(SupervisorTest, ASignalAsksForAStopAfterACheckpoint) {
  for (const auto& [number, name] : {std::pair(SIGINT, "SIGINT"), std::pair(SIGTERM, "SIGTERM")}) {
    view_.on_started_ = [number = number] { kill(getpid(), number); };
    const SupervisedEnd end = Supervise(Options("serve", "sleep"));
    EXPECT_EQ(end.exit_code, 3);
    EXPECT_THAT(view_.notices_, Contains("stopping after a checkpoint; again to stop at once"));
    EXPECT_THAT(Notes(), HasSubstr(absl::StrCat("stop ", name, " to lockstep run")));
  }
}

TEST_F(SupervisorTest, ASignalBeforeTheCoordinatorIsReadyIsNotLost) {
  kill(getpid(), SIGINT);
  const SupervisedEnd end = Supervise(Options("serve", "sleep"));
  EXPECT_EQ(end.exit_code, 3);
}

TEST_F(SupervisorTest, ASecondSignalEndsEverythingAtOnce) {
  view_.on_started_ = [this] {
    AwaitWorkers();
    kill(getpid(), SIGINT);
  };
  view_.on_notice_ = [] { kill(getpid(), SIGTERM); };
  const SupervisedEnd end = Supervise(Options("deaf", "stubborn"));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.why, "stopped at once by a second signal (SIGTERM)");
  EXPECT_LT(took_, absl::Seconds(5));
}

TEST_F(SupervisorTest, ARunWhoseRecordCannotBeKeptIsNotStarted) {
  view_.ready_answer_ = absl::ResourceExhaustedError("runtime: No space left on device");
  const SupervisedEnd end = Supervise(Options("serve", "sleep"));
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.why, "runtime: No space left on device");
  EXPECT_FALSE(std::filesystem::exists(LogPath("mpirun.log")));
}

TEST_F(SupervisorTest, TheTokenIsInNoCommandLine) {
  view_.on_started_ = [this] {
    AwaitWorkers();
    // A process that is becoming another program has no environment for a moment.
    EXPECT_TRUE(Await([&] { return Processes().size() >= 4; }, absl::Seconds(10)));
    for (const pid_t pid : Processes()) {
      EXPECT_EQ(ReadAll(absl::StrCat("/proc/", pid, "/cmdline")).find(token_), std::string::npos);
    }
    kill(getpid(), SIGINT);
  };
  Supervise(Options("serve", "sleep"));
}

TEST_F(SupervisorTest, KillingTheSupervisorTakesItsChildrenAlong) {
  const pid_t supervisor = fork();
  ASSERT_GE(supervisor, 0);
  if (supervisor == 0) {
    view_.on_started_ = [this] { std::ofstream(LogPath("started")) << "yes"; };
    Supervisor(Options("serve", "sleep"), &signals_, &view_).Run();
    _exit(0);
  }
  ASSERT_TRUE(Await([&] { return !ReadAll(LogPath("started")).empty(); }, absl::Seconds(10)));
  // The coordinator, mpirun and two workers.
  ASSERT_TRUE(Await([&] { return Processes().size() >= 4; }, absl::Seconds(10)));
  kill(supervisor, SIGKILL);
  waitpid(supervisor, nullptr, 0);
  EXPECT_TRUE(Await([&] { return Processes().empty(); }, absl::Seconds(5)));
  EXPECT_TRUE(Await([&] { return Notes().find("supervisor gone") != std::string::npos; }, absl::Seconds(5)));
}

TEST_F(SupervisorTest, KilledWhileItCleansUpTheCoordinatorIsThereToDoIt) {
  const pid_t supervisor = fork();
  ASSERT_GE(supervisor, 0);
  if (supervisor == 0) {
    view_.on_clean_up_ = [] { kill(getpid(), SIGKILL); };
    Supervisor(Options("end", "exit-0"), &signals_, &view_).Run();
    _exit(0);
  }
  int status = 0;
  waitpid(supervisor, &status, 0);
  EXPECT_EQ(DescribeExit(status), "was killed by SIGKILL");
  EXPECT_TRUE(Await([&] { return Notes().find("supervisor gone") != std::string::npos; }, absl::Seconds(5)));
}

TEST_F(SupervisorTest, TheAftermathKillsWhatStaysAndRemovesWhatLies) {
  ChildOptions child;
  child.argv = {"sleep", "300"};
  child.environment = {{kTokenVariable, token_}};
  const absl::StatusOr<pid_t> pid = StartChild(child);
  ASSERT_TRUE(pid.ok());
  const RuntimeRecords records = *RuntimeRecords::OpenAt(folder_ / "runtime");
  RuntimeRecord record;
  record.run_folder = folder_ / "run";
  ASSERT_TRUE(records.Write(record).ok());
  std::filesystem::create_directories(folder_ / "scratch/session");
  CleanUpAfterSupervisor({kTokenVariable, token_}, folder_ / "scratch", record.run_folder, records,
                         absl::Milliseconds(100));
  int status = 0;
  EXPECT_EQ(waitpid(*pid, &status, WNOHANG), *pid);
  EXPECT_EQ(DescribeExit(status), "was killed by SIGKILL");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "scratch"));
  EXPECT_FALSE(std::filesystem::exists(records.RecordPath(record.run_folder)));
}

}  // namespace
}  // namespace lockstep
