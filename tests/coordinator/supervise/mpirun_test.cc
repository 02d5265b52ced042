#include "coordinator/supervise/mpirun.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

MpirunOptions Options() {
  MpirunOptions options;
  options.workers = 2;
  options.threads = 3;
  options.worker_program = "/opt/lockstep-worker";
  options.arguments = {"--coordinator", "127.0.0.1:4711"};
  options.token = "c0ffee";
  options.scratch = "/dev/shm/scratch";
  options.output = "log/mpirun.log";
  options.cores = 6;
  return options;
}

TEST(MpirunCommandTest, TheTokenIsInTheEnvironmentAlone) {
  const ChildOptions child = MpirunCommand(Options());
  EXPECT_THAT(child.argv, Not(Contains(HasSubstr("c0ffee"))));
  EXPECT_THAT(child.environment, Contains(Pair("LOCKSTEP_TOKEN", "c0ffee")));
  EXPECT_THAT(absl::StrJoin(child.argv, " "), HasSubstr("-x LOCKSTEP_TOKEN "));
}

TEST(MpirunCommandTest, WorkersGetTheirThreadsAndTheirAddress) {
  const ChildOptions child = MpirunCommand(Options());
  EXPECT_THAT(child.environment, Contains(Pair("OMP_NUM_THREADS", "3")));
  EXPECT_THAT(child.environment, Contains(Pair("OPENBLAS_NUM_THREADS", "3")));
  EXPECT_THAT(absl::StrJoin(child.argv, " "), HasSubstr("/opt/lockstep-worker --coordinator 127.0.0.1:4711"));
  EXPECT_EQ(child.parent_death_signal, SIGTERM);
}

TEST(MpirunCommandTest, FilesOfOpenMpiLieInTheScratchFolder) {
  const std::string line = absl::StrJoin(MpirunCommand(Options()).argv, " ");
  EXPECT_THAT(line, HasSubstr("--mca orte_tmpdir_base /dev/shm/scratch "));
  EXPECT_THAT(line, HasSubstr("--mca btl_vader_backing_directory /dev/shm/scratch "));
}

TEST(MpirunCommandTest, IdleWorkersYieldOnlyWhenThereAreTooFewCores) {
  MpirunOptions options = Options();
  EXPECT_THAT(MpirunCommand(options).argv, Not(Contains("mpi_yield_when_idle")));
  options.cores = 5;
  EXPECT_THAT(MpirunCommand(options).argv, Contains("mpi_yield_when_idle"));
}

TEST(MpirunCommandTest, SeveralHostsAreReachedOverTheirOwnNetworkAlone) {
  MpirunOptions options = Options();
  options.hosts = {{"a", 2}, {"10.1.0.2", 4}};
  options.networks = {"10.1.0.0/24"};
  options.agent = {"ssh", "-o", "BatchMode=yes"};
  options.prefix = {"nsenter", "--net=x"};
  options.bind = true;
  options.environment = {{"LOCKSTEP_CREDENTIALS", "/dev/shm/x/credentials"}};
  options.token.clear();
  const ChildOptions child = MpirunCommand(options);
  const std::string line = absl::StrJoin(child.argv, " ");
  EXPECT_THAT(line,
              StartsWith("nsenter --net=x mpirun -np 2 --host a:2,10.1.0.2:4 --map-by slot:PE=3 --bind-to core "));
  EXPECT_THAT(line, HasSubstr("--mca oob_tcp_if_include 10.1.0.0/24 --mca btl_tcp_if_include 10.1.0.0/24 "));
  EXPECT_THAT(child.argv, Contains("ssh -o BatchMode=yes"));
  EXPECT_THAT(line, HasSubstr("-x LOCKSTEP_CREDENTIALS "));
  EXPECT_THAT(child.environment, Contains(Pair("LOCKSTEP_CREDENTIALS", "/dev/shm/x/credentials")));
  EXPECT_THAT(child.argv, Not(Contains("mpi_yield_when_idle")));
  options.bind = false;
  options.yield = true;
  const std::string crowded = absl::StrJoin(MpirunCommand(options).argv, " ");
  EXPECT_THAT(crowded, HasSubstr("--map-by slot --bind-to none "));
  EXPECT_THAT(crowded, HasSubstr("mpi_yield_when_idle 1"));
}

TEST(MpirunCommandTest, OtherHostsGetWhatChangesHowLibrariesCompute) {
  setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
  setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  setenv("OMP_NUM_THREADS", "7", 1);
  MpirunOptions options = Options();
  const std::string here = absl::StrJoin(MpirunCommand(options).argv, " ");
  options.hosts = {{"a", 2}};
  const ChildOptions child = MpirunCommand(options);
  const std::string there = absl::StrJoin(child.argv, " ");
  for (const char* name : {"NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}) unsetenv(name);
  EXPECT_THAT(there, HasSubstr("-x NVIDIA_TF32_OVERRIDE "));
  EXPECT_THAT(there, Not(HasSubstr("CUDA_VISIBLE_DEVICES"))) << "which devices it shows is a host's own matter";
  EXPECT_THAT(there, HasSubstr("-x OMP_NUM_THREADS "));
  EXPECT_EQ(there.find("OMP_NUM_THREADS"), there.rfind("OMP_NUM_THREADS")) << "once";
  EXPECT_THAT(child.environment, Contains(Pair("OMP_NUM_THREADS", "3")));
  EXPECT_THAT(here, Not(HasSubstr("NVIDIA_TF32_OVERRIDE"))) << "processes here have it anyway";
}

TEST(ParseMpirunOutputTest, FindsTheWorkerThatASignalKilled) {
  const std::optional<WorkerDeath> death = ParseMpirunOutput(
      "step 12\n--------------------------------------------------------------------------\n"
      "mpirun noticed that process rank 1 with PID 123 on node host exited on signal 9 (Killed).\n"
      "--------------------------------------------------------------------------\n");
  ASSERT_TRUE(death.has_value());
  EXPECT_EQ(DescribeWorkerDeath(*death), "worker 1 (pid 123) was killed by SIGKILL");
}

TEST(ParseMpirunOutputTest, FindsItWhereTheLineIsWrapped) {
  const std::optional<WorkerDeath> death = ParseMpirunOutput(
      "mpirun noticed that process rank 0 with PID 7 on node a-host-with-quite-a-long-name exited on\nsignal 11 "
      "(Segmentation fault).\n");
  ASSERT_TRUE(death.has_value());
  EXPECT_EQ(DescribeWorkerDeath(*death), "worker 0 (pid 7) was killed by SIGSEGV");
}

TEST(ParseMpirunOutputTest, FindsTheWorkerThatEndedWithAnError) {
  const std::optional<WorkerDeath> death = ParseMpirunOutput(
      "mpirun detected that one or more processes exited with non-zero status, thus causing\n"
      "the job to be terminated. The first process to do so was:\n\n  Process name: [[50373,1],3]\n  Exit code:    "
      "2\n");
  ASSERT_TRUE(death.has_value());
  EXPECT_EQ(DescribeWorkerDeath(*death), "worker 3 ended with exit code 2");
}

TEST(WorkersOwnWordsTest, AreTheFirstLineThatAWorkerWrote) {
  EXPECT_EQ(WorkersOwnWords("noise\nlockstep-worker: rank 1 on a: no data\nlockstep-worker: rank 0 on a: lost\n"),
            "rank 1 on a: no data");
  EXPECT_EQ(WorkersOwnWords("mpirun says lockstep-worker: something"), "");
}

TEST(AgentsOwnWordsTest, AreWhatSshCouldNotDo) {
  EXPECT_EQ(AgentsOwnWords("noise\nssh: connect to host b port 22: Connection timed out\r\nORTE was unable\n"),
            "ssh: connect to host b port 22: Connection timed out");
  EXPECT_EQ(AgentsOwnWords("an agent (ssh: rsh) is not there\n"), "");
}

TEST(LostHostTest, IsTheOneWhoseDaemonDoesNotAnswer) {
  EXPECT_EQ(
      LostHost("ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[4734,0],0] on node host1\n"
               "  Remote daemon: [[4734,0],1] on node 10.77.0.2\n\nThis is usually due to"),
      "10.77.0.2");
  EXPECT_EQ(LostHost("  Remote daemon: [[4734,0],1] on node 10.77.0.2\n"), "");
}

TEST(ParseMpirunOutputTest, FindsNothingInOtherOutput) {
  EXPECT_FALSE(ParseMpirunOutput("").has_value());
  EXPECT_FALSE(ParseMpirunOutput("process rank one with PID none exited on signal").has_value());
  EXPECT_FALSE(ParseMpirunOutput("process rank 99999999999999999999 with PID 1 exited on signal 9").has_value());
}

}  // namespace
}  // namespace lockstep
