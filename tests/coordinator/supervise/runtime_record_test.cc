#include "coordinator/supervise/runtime_record.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "coordinator/supervise/process.h"
#include "coordinator/supervise/scratch.h"
#include "coordinator/supervise/token.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

int ModeOf(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? static_cast<int>(info.st_mode & 07777) : -1;
}

class RuntimeRecordsTest : public ::testing::Test {
 protected:
  RuntimeRecordsTest() : records_(*RuntimeRecords::OpenAt(folder_ / "runtime")) {
    std::filesystem::create_directory(folder_ / "run");
  }

  RuntimeRecord Record(const ProcessId& coordinator) {
    RuntimeRecord record;
    record.run_folder = folder_ / "run";
    record.address = "127.0.0.1:4711";
    record.token = "c0ffee";
    record.coordinator = coordinator;
    return record;
  }

  TempFolder folder_;
  RuntimeRecords records_;
};

TEST_F(RuntimeRecordsTest, ALiveRunIsFoundByItsFolderHoweverThatIsWritten) {
  ASSERT_TRUE(records_.Write(Record(IdentifyProcess(getpid()))).ok());
  for (const std::string& path : {folder_ / "run", folder_ / "run/", folder_ / "runtime/../run"}) {
    const absl::StatusOr<RuntimeRecord> found = records_.Find(path);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->address, "127.0.0.1:4711");
    EXPECT_EQ(found->token, "c0ffee");
  }
}

TEST_F(RuntimeRecordsTest, NobodyElseCanReadARecordOrAToken) {
  ASSERT_TRUE(records_.Write(Record(IdentifyProcess(getpid()))).ok());
  const absl::StatusOr<std::string> token_file = records_.WriteCredentials(folder_ / "run", "c0ffee");
  ASSERT_TRUE(token_file.ok());
  EXPECT_EQ(ModeOf(records_.folder()), 0700);
  EXPECT_EQ(ModeOf(records_.RecordPath(folder_ / "run")), 0600);
  EXPECT_EQ(ModeOf(*token_file), 0600);
}

TEST_F(RuntimeRecordsTest, ARecordOfDeadProcessesIsTakenAway) {
  const ProcessId self = IdentifyProcess(getpid());
  ASSERT_TRUE(records_.Write(Record({self.pid, self.start + 1})).ok());  // the number was used again
  EXPECT_EQ(records_.Find(folder_ / "run").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ModeOf(records_.RecordPath(folder_ / "run")), -1);
}

TEST_F(RuntimeRecordsTest, SweepTakesWhatIsDeadAndLeavesWhatLives) {
  const ProcessId self = IdentifyProcess(getpid());
  ASSERT_TRUE(records_.Write(Record(self)).ok());
  RuntimeRecord dead = Record({self.pid, self.start + 1});
  dead.run_folder = folder_ / "other";
  ASSERT_TRUE(records_.Write(dead).ok());
  ASSERT_TRUE(records_.WriteCredentials(dead.run_folder, "f00").ok());
  records_.Sweep();
  EXPECT_TRUE(records_.Find(folder_ / "run").ok());
  EXPECT_EQ(ModeOf(records_.RecordPath(dead.run_folder)), -1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(records_.folder()), {}), 1);
}

TEST_F(RuntimeRecordsTest, AFolderThatOthersMayOpenIsRefused) {
  chmod(records_.folder().c_str(), 0755);
  const absl::Status status = RuntimeRecords::OpenAt(records_.folder()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("chmod 700"));
}

TEST_F(RuntimeRecordsTest, ALinkInPlaceOfTheFolderIsRefused) {
  std::filesystem::create_directory_symlink(folder_ / "run", folder_ / "link");
  EXPECT_EQ(RuntimeRecords::OpenAt(folder_ / "link").status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(RuntimeRecordsTest, ABrokenRecordIsNoLiveRun) {
  std::ofstream(records_.RecordPath(folder_ / "run")) << "{\"token\": 3}";
  EXPECT_EQ(records_.Find(folder_ / "run").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RuntimeRecordsTest, AFolderThatACoordinatorHoldsIsSeen) {
  EXPECT_FALSE(IsRunFolderHeld(folder_ / "run"));
  const UniqueFd held(open((folder_ / "run").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(flock(held.get(), LOCK_EX), 0);
  EXPECT_TRUE(IsRunFolderHeld(folder_ / "run"));
}

TEST(ProcessIdTest, APidThatIsNotThereIsNotAlive) {
  EXPECT_TRUE(IsAlive(IdentifyProcess(getpid())));
  EXPECT_FALSE(IsAlive(IdentifyProcess(0)));
  EXPECT_FALSE(IsAlive({getpid(), 0}));
}

TEST(TokenTest, IsSixtyFourHexadecimalDigitsAndNewEveryTime) {
  const absl::StatusOr<std::string> one = MakeToken(), two = MakeToken();
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(one->size(), 64u);
  EXPECT_EQ(one->find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(*one, *two);
}

TEST(ScratchTest, SweepRemovesTheFoldersOfDeadProcessesOnly) {
  const TempFolder parent;
  const std::string own = ScratchPathIn(parent.path());
  const absl::Status made = MakeScratch(own);
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_EQ(ModeOf(own), 0700);
  const std::string dead = own.substr(0, own.rfind('-')) + "-1";
  const std::string foreign = parent / "lockstep-something-else";
  std::filesystem::create_directories(dead + "/session");
  std::filesystem::create_directory(foreign);
  SweepScratchIn(parent.path());
  EXPECT_TRUE(std::filesystem::exists(own));
  EXPECT_TRUE(std::filesystem::exists(foreign));
  EXPECT_FALSE(std::filesystem::exists(dead));
}

}  // namespace
}  // namespace lockstep
