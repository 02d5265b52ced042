#include "coordinator/supervise/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "coordinator/supervise/signals.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

ChildOptions Shell(const std::string& script) {
  ChildOptions child;
  child.argv = {"sh", "-c", script};
  return child;
}

std::string OutputOf(const std::string& script, const std::string& input = "") {
  const absl::StatusOr<Captured> captured = RunAndCapture(Shell(script), input, absl::Seconds(20));
  return captured.ok() ? captured->output : std::string(captured.status().message());
}

TEST(ProcessTest, AChildGetsItsInputAndItsOutputComesBack) {
  EXPECT_EQ(OutputOf("cat; echo out", "in "), "in out\n");
  const std::string large(1 << 20, 'x');
  EXPECT_EQ(OutputOf("cat", large), large);
}

TEST(ProcessTest, AChildThatDoesNotReadItsInputIsNoError) {
  EXPECT_EQ(OutputOf("echo done", std::string(1 << 20, 'x')), "done\n");
}

TEST(ProcessTest, TheExitCodeComesBack) {
  const absl::StatusOr<Captured> captured = RunAndCapture(Shell("exit 2"), "", absl::Seconds(20));
  ASSERT_TRUE(captured.ok());
  EXPECT_EQ(captured->exit_code, 2);
}

TEST(ProcessTest, AChildThatTakesTooLongIsKilled) {
  const absl::Status status = RunAndCapture(Shell("sleep 300"), "", absl::Milliseconds(100)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(ProcessTest, AProgramThatIsNotThereIsNotFound) {
  ChildOptions child;
  child.argv = {"no-such-program"};
  const absl::Status status = StartChild(child).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "starting no-such-program: No such file or directory");
}

TEST(ProcessTest, AChildHasAGroupOfItsOwnAndNoBlockedSignals) {
  const absl::StatusOr<SignalWatch> signals = SignalWatch::Start();
  ASSERT_TRUE(signals.ok());
  EXPECT_EQ(OutputOf("ps -o pgid= -p $$ | tr -d ' ' | grep -qx $$ && echo own"), "own\n");
  EXPECT_EQ(OutputOf("grep SigBlk /proc/self/status"), "SigBlk:\t0000000000000000\n");
}

TEST(ProcessTest, VariablesAreAddedAndReplaced) {
  ChildOptions child = Shell("echo $HOME $ADDED");
  child.environment = {{"HOME", "/nowhere"}, {"ADDED", "a=b c"}};
  const absl::StatusOr<Captured> captured = RunAndCapture(child, "", absl::Seconds(20));
  ASSERT_TRUE(captured.ok());
  EXPECT_EQ(captured->output, "/nowhere a=b c\n");
}

TEST(ProcessTest, OutputIsAppendedToTheFile) {
  const TempFolder folder;
  std::ofstream(folder / "log") << "before\n";
  ChildOptions child = Shell("echo out; echo err >&2");
  child.output = folder / "log";
  const absl::StatusOr<pid_t> pid = StartChild(child);
  ASSERT_TRUE(pid.ok());
  int status = 0;
  ASSERT_EQ(waitpid(*pid, &status, 0), *pid);
  std::ifstream file(folder / "log");
  EXPECT_EQ((std::stringstream() << file.rdbuf()).str(), "before\nout\nerr\n");
}

TEST(ProcessTest, ExitsAreDescribedInWords) {
  EXPECT_EQ(DescribeExit(0), "ended with exit code 0");
  EXPECT_EQ(DescribeExit(3 << 8), "ended with exit code 3");
  EXPECT_EQ(DescribeExit(SIGBUS), "was killed by SIGBUS");
  EXPECT_EQ(DescribeExit(SIGRTMIN + 1), "was killed by signal 35");
}

}  // namespace
}  // namespace lockstep
