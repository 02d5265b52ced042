#include "common/base/host_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "absl/time/clock.h"
#include "common/base/file.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

bool IsGone(const std::string& folder, absl::Duration within) {
  const absl::Time until = absl::Now() + within;
  while (std::filesystem::exists(folder) && absl::Now() < until) absl::SleepFor(absl::Milliseconds(20));  // polls
  return !std::filesystem::exists(folder);
}

// A worker of the run, from when it has said that it is there.
class Worker {
 public:
  explicit Worker(const std::string& folder) {
    int said[2];
    EXPECT_EQ(pipe(said), 0);
    pid_ = fork();
    if (pid_ == 0) {
      setenv(kHostFolderVariable, folder.c_str(), 1);
      HoldHostFolder();
      if (write(said[1], "x", 1) == 1) pause();
      _exit(1);
    }
    char byte = 0;
    EXPECT_EQ(read(said[0], &byte, 1), 1);
    close(said[0]);
    close(said[1]);
  }
  ~Worker() { Kill(); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

// A process with the folder in its environment.
pid_t Sleeper(const std::string& folder) {
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("OF_THE_RUN", folder.c_str(), 1);
    execlp("sleep", "sleep", "60", nullptr);
    _exit(1);
  }
  const std::string environment = "/proc/" + std::to_string(pid) + "/environ";
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (FileSystem::Real()->Read(environment).value_or("").find(folder) == std::string::npos) {
    if (absl::Now() > until) break;
    absl::SleepFor(absl::Milliseconds(5));  // between two looks, until the deadline
  }
  return pid;
}

TEST(HostFolderTest, IsRemovedOnceAllWorkersHaveBeenKilled) {
  const TempFolder temp;
  const std::string folder = temp / "lockstep-run-1";
  std::filesystem::create_directories(folder + "/deep");
  Worker first(folder), second(folder);
  first.Kill();
  EXPECT_FALSE(IsGone(folder, absl::Seconds(1)));
  second.Kill();
  EXPECT_TRUE(IsGone(folder, absl::Seconds(20)));
}

TEST(HostFolderTest, StaysForAProcessThatHasItInItsEnvironment) {
  const TempFolder temp;
  const std::string folder = temp / "lockstep-run-1";
  std::filesystem::create_directories(folder);
  const pid_t other = Sleeper(folder);
  Worker(folder).Kill();
  EXPECT_FALSE(IsGone(folder, absl::Seconds(1)));
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  EXPECT_TRUE(IsGone(folder, absl::Seconds(20)));
}

TEST(HostFolderTest, AFolderOfAnotherNameIsNobodysToRemove) {
  const TempFolder temp;
  const std::string folder = temp / "thesis";
  std::filesystem::create_directories(folder);
  Worker(folder).Kill();
  EXPECT_FALSE(IsGone(folder, absl::Seconds(1)));
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

}  // namespace
}  // namespace lockstep
