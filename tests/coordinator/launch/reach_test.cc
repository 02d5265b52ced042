#include "coordinator/launch/reach.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>

#include "common/base/file.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(20);

// An agent that goes nowhere: the host's name is dropped.
const Agent kHere = {{"sh", "-c", "shift; exec \"$@\"", "agent"}};

class ReachTest : public testing::Test {
 protected:
  ReachTest() : scratch_(*HostScratchPath()) {}
  ~ReachTest() override { std::filesystem::remove_all(scratch_); }
  HostNeeds Needs(const std::string& program = "sh") {
    HostNeeds needs;
    needs.worker_program = program;
    needs.scratch = scratch_;
    needs.credentials = "{\"token\": \"it's $HOME `x`\"}";
    return needs;
  }

  const std::string scratch_;
};

// sh -c '…' agent HOST sh -s: "$1" is the host.
TEST_F(ReachTest, AHostIsMadeReadyAndCleared) {
  const auto facts = PrepareHosts({"a", "b"}, {false, true}, kHere, Needs(), kTimeout);
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_EQ(facts->size(), 2u);
  EXPECT_EQ(facts->at(0).machine, facts->at(1).machine);
  EXPECT_GE(facts->at(0).cores, 1);
  struct stat info {};
  ASSERT_EQ(stat(HostCredentialsPath(scratch_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(*FileSystem::Real()->Read(HostCredentialsPath(scratch_)), "{\"token\": \"it's $HOME `x`\"}\n");
  ASSERT_EQ(stat(scratch_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);

  ChildOptions left;
  left.argv = {"sleep", "300"};
  left.environment = {{"TMPDIR", scratch_}};
  const auto pid = StartChild(left);
  ASSERT_TRUE(pid.ok());
  ClearHosts({"a", "b"}, {false, true}, kHere, scratch_, kTimeout);
  EXPECT_FALSE(std::filesystem::exists(scratch_));
  EXPECT_TRUE(ProcessesWithVariable("TMPDIR", scratch_).empty());
}

TEST_F(ReachTest, AFolderOfADeadRunIsTakenAwayAndThatOfALiveOneStays) {
  const std::string dead = *HostScratchPath(), live = *HostScratchPath();
  const std::string young = *HostScratchPath();  // of a run that is being started
  for (const std::string& folder : {dead, live, young}) std::filesystem::create_directory(folder);
  const auto long_ago = std::filesystem::file_time_type::clock::now() - std::chrono::hours(2);
  for (const std::string& folder : {dead, live}) std::filesystem::last_write_time(folder, long_ago);
  ChildOptions runs;
  runs.argv = {"sleep", "300"};
  runs.environment = {{"TMPDIR", live}};
  ASSERT_TRUE(StartChild(runs).ok());
  ASSERT_TRUE(PrepareHosts({"a"}, {true}, kHere, Needs(), kTimeout).ok());
  EXPECT_FALSE(std::filesystem::exists(dead));
  EXPECT_TRUE(std::filesystem::exists(live));
  EXPECT_TRUE(std::filesystem::exists(young));
  for (const std::string& folder : {live, young}) ClearHosts({"a"}, {true}, kHere, folder, kTimeout);
}

TEST_F(ReachTest, TheWorkerIsUnderOnePathWhereverItIs) {
  HostNeeds needs = Needs("cat");
  ASSERT_TRUE(PrepareHosts({"a"}, {true}, kHere, needs, kTimeout).ok());
  EXPECT_EQ(std::filesystem::canonical(HostWorkerPath(scratch_)).filename(), "cat");
  needs.worker_of = {{"a", "/bin/false"}};
  ASSERT_TRUE(PrepareHosts({"a"}, {true}, kHere, needs, kTimeout).ok());
  EXPECT_EQ(std::filesystem::canonical(HostWorkerPath(scratch_)).filename(), "false");
  ClearHosts({"a"}, {true}, kHere, scratch_, kTimeout);
}

TEST_F(ReachTest, WhatAHostLacksIsSaidWithItsName) {
  const auto none = PrepareHosts({"a"}, {false}, kHere, Needs("/no/such/lockstep-worker"), kTimeout);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(none.status().message(), HasSubstr("host a: /no/such/lockstep-worker is not there"));
  EXPECT_FALSE(std::filesystem::exists(scratch_)) << "a run that does not begin leaves nothing";
}

TEST_F(ReachTest, AHostThatCannotBeReachedIsNamedWithSshsOwnWords) {
  const Agent refused = {{"sh", "-c", "echo 'noise'; echo \"$1: Permission denied (publickey).\"; exit 255", "agent"}};
  const auto facts = PrepareHosts({"a", "b"}, {true, false}, refused, Needs(), kTimeout);
  EXPECT_THAT(facts.status().message(),
              HasSubstr("host b cannot be reached without a prompt: b: Permission denied (publickey).; try: "));
  EXPECT_FALSE(std::filesystem::exists(scratch_));
}

TEST_F(ReachTest, AHostThatDoesNotAnswerHasADeadline) {
  const Agent hangs = {{"sh", "-c", "exec sleep 300", "agent"}};
  const auto facts = PrepareHosts({"a"}, {false}, hangs, Needs(), absl::Milliseconds(300));
  EXPECT_THAT(facts.status().message(), HasSubstr("host a gave no answer within 300ms"));
}

TEST_F(ReachTest, AQuestionEndsOnceTheHostHasAnswered) {
  const auto end_of = [](const std::string& agent, absl::Duration within) {
    return RunAndCapture(HostQuestion("a", {{"sh", "-c", agent, "agent"}}), "", within).status();
  };
  EXPECT_TRUE(end_of("[ \"$*\" = 'a true' ]", kTimeout).ok());
  EXPECT_TRUE(end_of("exit 1", kTimeout).ok()) << "an answer, too";
  EXPECT_TRUE(absl::IsDeadlineExceeded(end_of("exit 255", absl::Milliseconds(1500)))) << "ssh's own";
  EXPECT_TRUE(absl::IsDeadlineExceeded(end_of("sleep 300", absl::Milliseconds(300))));
}

}  // namespace
}  // namespace lockstep
