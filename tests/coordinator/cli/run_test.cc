#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/coordinator/cli/program.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

bool Await(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(20)) {
  const absl::Time deadline = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    poll(nullptr, 0, 10);
  }
  return true;
}

int WaitFor(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class RunTest : public ::testing::Test {
 protected:
  RunTest() { program_.MakeInputs(); }
  Program program_;
};

TEST_F(RunTest, ADryRunShowsConfigAndPlanAndCreatesNothing) {
  const std::vector<std::string> before = program_.List();
  const Outcome outcome = program_.Run({"run", "c.yaml", "--workers", "3", "--dry-run"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("global_batch_size: 30\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   samples           100 to train, 20 to validate\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   steps             4 an epoch, 8 in all\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   batch             30 samples a step over 3 workers, 10 each\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   bytes of a batch  23.6 kB\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   parameters        7,850\n"));
  EXPECT_THAT(outcome.out, HasSubstr("#   gradient bytes    31.4 kB\n"));
  EXPECT_EQ(program_.List(), before);
}

TEST_F(RunTest, WhatADryRunShowsIsAConfigThatResolvesToItself) {
  const Outcome first = program_.Run({"run", "c.yaml", "--workers", "3", "--dry-run"});
  program_.Write("resolved.yaml", first.out);
  EXPECT_EQ(program_.Run({"run", "resolved.yaml", "--dry-run"}).out, first.out);
}

TEST_F(RunTest, CudaWithoutADeviceIsRefused) {
  const Outcome outcome = program_.Run({"run", "c.yaml", "--set", "device=cuda"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err,
            "lockstep: device: cuda was asked for, but LibTorch sees no CUDA device here; use --set device=cpu, or "
            "auto\n");
  EXPECT_THAT(program_.List("runs"), IsEmpty());
}

TEST_F(RunTest, AFolderThatIsNotEmptyIsRefused) {
  const Outcome outcome = program_.Run({"run", "c.yaml", "--out", "digits"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "lockstep: digits: is not empty; name a new or empty folder with --out\n");
}

TEST_F(RunTest, WhatALaunchLeftThatWasCutOffBeforeItBeganIsTakenUp) {
  program_.SetVariable("FAKE_MPIRUN", "exit-5");
  program_.Write("r/config.yaml", "cut off in the mid");
  program_.Write("r/log/coordinator.log", "");
  EXPECT_EQ(program_.Run({"run", "c.yaml", "--out", "r"}).exit_code, 1) << "it began";
  EXPECT_THAT(program_.List("r"), ::testing::IsSupersetOf({"config.yaml", "journal.db"}));
  program_.Write("s/config.yaml", "");
  program_.Write("s/notes", "mine");
  EXPECT_EQ(program_.Run({"run", "c.yaml", "--out", "s"}).exit_code, 2);
  EXPECT_EQ(program_.Read("s/notes"), "mine");
}

TEST_F(RunTest, AWrongSettingStartsNothing) {
  const Outcome outcome = program_.Run({"run", "c.yaml", "--set", "optimizer.lrr=1"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("did you mean"));
  EXPECT_THAT(program_.List("runs"), IsEmpty());
}

TEST_F(RunTest, AnMpirunThatFailsEndsTheRunWithOneLineAndLeavesNothing) {
  program_.SetVariable("FAKE_MPIRUN", "exit-5");
  const Outcome outcome = program_.Run({"run", "c.yaml", "--out", "r"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, ::testing::MatchesRegex(
                               "lockstep: mpirun \\(pid [0-9]+\\) ended with exit code 5 before the run was over; see "
                               "r/log/mpirun.log; no checkpoint yet; start it afresh with: lockstep run --resume r\n"));
  EXPECT_THAT(program_.Processes(), IsEmpty());
  EXPECT_THAT(program_.List("r"), ::testing::IsSupersetOf({"config.yaml", "journal.db", "log", "run.db"}));
}

TEST_F(RunTest, ARunIsFoundAndRefusedWhileItIsLiveAndGoneWithItsSupervisor) {
  program_.SetVariable("FAKE_MPIRUN", "stay");
  const pid_t pid = program_.Start({"run", "c.yaml", "--out", "runs/r"});
  ASSERT_TRUE(Await([&] { return program_.Run({"status", "r"}).out.find("starting") != std::string::npos; }));
  EXPECT_THAT(program_.Run({"runs"}).out, HasSubstr("live"));
  EXPECT_THAT(program_.Run({"status", "r", "--json"}).out, HasSubstr("\"phase\": \"starting\""));
  const Outcome again = program_.Run({"run", "--resume", "r"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_EQ(again.err, "lockstep: runs/r: is live; stop it first with: lockstep stop runs/r\n");

  std::string arguments;
  for (const pid_t process : program_.Processes()) {
    std::ifstream file(absl::StrCat("/proc/", process, "/cmdline"));
    arguments += (std::stringstream() << file.rdbuf()).str();
  }
  EXPECT_THAT(arguments, ::testing::Not(::testing::ContainsRegex("[0-9a-f]{64}")));

  kill(pid, SIGKILL);
  EXPECT_EQ(WaitFor(pid), 128 + SIGKILL);
  EXPECT_TRUE(Await([&] { return program_.Processes().empty(); }, absl::Seconds(5)));
  EXPECT_THAT(program_.Run({"runs"}).out, HasSubstr("resumable"));
  EXPECT_EQ(program_.Run({"stop", "r"}).err,
            "lockstep: runs/r: is not live on this machine; no checkpoint yet; start it afresh with: lockstep run "
            "--resume runs/r\n");
}

TEST_F(RunTest, TwoSignalsEndItAtOnce) {
  program_.SetVariable("FAKE_MPIRUN", "stay");
  const pid_t pid = program_.Start({"run", "c.yaml", "--out", "runs/r"});
  ASSERT_TRUE(Await([&] { return program_.Run({"status", "r"}).out.find("starting") != std::string::npos; }));
  kill(pid, SIGINT);
  ASSERT_TRUE(Await([&] { return program_.Read("out").find("stopping after a checkpoint") != std::string::npos; }));
  kill(pid, SIGINT);
  EXPECT_EQ(WaitFor(pid), 1);
  EXPECT_THAT(program_.Processes(), IsEmpty());
}

TEST_F(RunTest, ServeByHandSaysWhatToTypeAndKeepsTheTokenToItself) {
  const pid_t pid = program_.Start({"serve", "c.yaml", "--workers", "1", "--out", "runs/r"});
  ASSERT_TRUE(Await([&] { return absl::StrContains(program_.Read("out"), "--coordinator 127.0.0.1:"); }));
  const std::string said = program_.Read("out");
  EXPECT_THAT(said, HasSubstr(" lockstep-worker --coordinator 127.0.0.1:"));
  const std::string root = geteuid() == 0 ? " --allow-run-as-root" : "";
  const std::string before = "mpirun -np 1 --bind-to none" + root + " -x LOCKSTEP_CREDENTIALS=";
  const size_t begin = said.find(before) + before.size();
  const std::string token_file = said.substr(begin, said.find(' ', begin) - begin);
  struct stat info {};
  ASSERT_EQ(stat(token_file.c_str(), &info), 0) << token_file;
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_THAT(program_.Run({"status", "r"}).out, HasSubstr("starting"));
  kill(pid, SIGTERM);
  ASSERT_TRUE(Await([&] { return absl::StrContains(program_.Read("out"), "again to stop at once"); }));
  kill(pid, SIGINT);
  EXPECT_EQ(WaitFor(pid), 1);
  EXPECT_NE(stat(token_file.c_str(), &info), 0);
}

TEST(ListenTest, AnAddressThatCannotBeListenedOnIsOneLineAndLeavesNothing) {
  Program program;
  program.MakeInputs();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"foo", "not an address to listen on"},           {":80", "not an address to listen on"},
      {"127.0.0.1:", "not an address to listen on"},    {"127.0.0.1:99999", "not an address to listen on"},
      {"127.0.0.1:-1", "not an address to listen on"},  {"127.0.0.1:4x", "not an address to listen on"},
      {"192.0.2.1:0", "is no address of this machine"},  // kept for documentation: nobody has it
  };
  for (const auto& [listen, word] : cases) {
    const Outcome outcome = program.Run({"serve", "c.yaml", "--listen", listen, "--out", "runs/x"});
    EXPECT_EQ(outcome.exit_code, 2) << listen;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith(absl::StrCat("lockstep: --listen ", listen, ": ", word)));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(program.path("runs/x")));
  }
}

TEST(OutTest, AFolderThatCannotBeWrittenToIsOneLineThatSaysWhatToDo) {
  Program program;
  program.MakeInputs();
  program.Write("file", "x");
  for (const std::string out : {"file", "file/below", "/proc/x"}) {
    const Outcome outcome = program.Run({"run", "c.yaml", "--out", out});
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("name another folder with --out\n"));
  }
  EXPECT_EQ(program.Read("file"), "x");
}

TEST(ConfigTest, WhatDoesNotGoWithTheDataIsNamedWithItsPlace) {
  Program program;
  program.MakeInputs();
  program.Write("c.yaml",
                absl::StrCat(program.Read("c.yaml"), "\nschedule:\n  name: cosine\n  warmup_steps: 100000\n"));
  const std::string text = program.Read("c.yaml");
  const auto line = std::count(text.begin(), text.end(), '\n');
  EXPECT_THAT(program.Run({"run", "c.yaml", "--dry-run"}).err,
              StartsWith(absl::StrCat("lockstep: c.yaml:", line, ": schedule.warmup_steps is 100000, ")));
  const Outcome overridden =
      program.Run({"run", "c.yaml", "--dry-run", "--set", "schedule.warmup_steps=0", "--set", "model.outputs=3"});
  EXPECT_THAT(overridden.err, StartsWith("lockstep: --set model.outputs: is 3, but the data have 10 classes"));
  EXPECT_EQ(overridden.exit_code, 2);
}

}  // namespace
}  // namespace lockstep
