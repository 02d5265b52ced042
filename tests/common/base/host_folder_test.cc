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

// A process of the run that is still there.
pid_t Sleeper(const std::string& folder) {
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("OF_THE_RUN", folder.c_str(), 1);
    execlp("sleep", "sleep", "60", nullptr);
    _exit(1);
  }
  return pid;
}

TEST(HostFolderTest, IsRemovedOnceAllHaveLeft) {
  const TempFolder temp;
  const std::string folder = temp / "lockstep-run-1";
  std::filesystem::create_directories(folder + "/deep");
  const pid_t other = Sleeper(folder);
  ASSERT_GT(other, 0);
  const std::string environment = "/proc/" + std::to_string(other) + "/environ";
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (FileSystem::Real()->Read(environment).value_or("").find(folder) == std::string::npos) {
    ASSERT_LT(absl::Now(), until);
    absl::SleepFor(absl::Milliseconds(5));  // between two looks, until the deadline
  }
  setenv(kHostFolderVariable, folder.c_str(), 1);
  RemoveHostFolderWhenAllHaveLeft();
  unsetenv(kHostFolderVariable);
  EXPECT_FALSE(IsGone(folder, absl::Seconds(1)));
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  EXPECT_TRUE(IsGone(folder, absl::Seconds(20)));
}

TEST(HostFolderTest, AFolderOfAnotherNameIsNobodysToRemove) {
  const TempFolder temp;
  const std::string folder = temp / "thesis";
  std::filesystem::create_directories(folder);
  setenv(kHostFolderVariable, folder.c_str(), 1);
  RemoveHostFolderWhenAllHaveLeft();
  unsetenv(kHostFolderVariable);
  EXPECT_FALSE(IsGone(folder, absl::Seconds(1)));
}

}  // namespace
}  // namespace lockstep
