#include "coordinator/store/journal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

using absl::StatusCode;

Update Grant(int64_t seq) {
  Update update;
  update.set_seq(seq);
  update.set_time(1.7e9 + static_cast<double>(seq) / 8);
  update.mutable_granted()->set_through_step(100 * seq);
  return update;
}

std::unique_ptr<Journal> Open(const std::string& path) {
  std::string warning;
  auto journal = OpenJournal(path, &warning);
  EXPECT_TRUE(journal.ok()) << journal.status();
  EXPECT_EQ(warning, "");
  return *std::move(journal);
}

std::vector<int64_t> Replayed(Journal* journal) {
  std::vector<int64_t> steps;
  const absl::Status status = journal->Replay([&](const Update& update) {
    EXPECT_EQ(update.seq() * 100, update.granted().through_step());
    steps.push_back(update.granted().through_step());
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return steps;
}

void Execute(const std::string& path, const char* sql) {
  auto database =
      Database::OpenToWrite(path, kJournalIdentity, kJournalSchema, Database::Durability::kEveryCommit, nullptr);
  ASSERT_TRUE(database.ok()) << database.status();
  const absl::Status status = (*database)->Execute(sql);
  ASSERT_TRUE(status.ok()) << status;
}

void AppendThree(const std::string& path) {
  auto journal = Open(path);
  for (int seq = 1; seq <= 3; ++seq) ASSERT_TRUE(journal->Append(Grant(seq)).ok());
}

absl::Status ReplayStatus(const std::string& path) {
  auto journal = OpenJournalReadOnly(path);
  if (!journal.ok()) return journal.status();
  return (*journal)->Replay([](const Update&) { return absl::OkStatus(); });
}

TEST(JournalTest, WhatWasAppendedIsReplayedInOrderAfterReopening) {
  const StoreFolder folder;
  {
    auto journal = Open(folder / "journal.db");
    EXPECT_EQ(journal->last_seq(), 0);
    EXPECT_TRUE(journal->Append(Grant(1)).ok());
    EXPECT_TRUE(journal->Append(Grant(2)).ok());
  }
  auto journal = Open(folder / "journal.db");
  EXPECT_EQ(journal->last_seq(), 2);
  EXPECT_TRUE(journal->Append(Grant(3)).ok());
  EXPECT_EQ(Replayed(journal.get()), (std::vector<int64_t>{100, 200, 300}));
}

TEST(JournalTest, EveryFieldComesBackBitForBit) {
  const StoreFolder folder;
  Update update = Grant(1);
  update.mutable_evaluated()->set_step(7);
  (*update.mutable_evaluated()->mutable_metrics())["loss"] = std::nan("");
  (*update.mutable_evaluated()->mutable_metrics())["accuracy"] = 0.1;
  auto journal = Open(folder / "journal.db");
  ASSERT_TRUE(journal->Append(update).ok());
  std::string wrote, read;
  update.SerializeToString(&wrote);
  ASSERT_TRUE(journal->Replay([&](const Update& u) { return u.SerializeToString(&read), absl::OkStatus(); }).ok());
  Update back;
  ASSERT_TRUE(back.ParseFromString(read));
  EXPECT_EQ(back.evaluated().metrics().at("accuracy"), 0.1);
  EXPECT_TRUE(std::isnan(back.evaluated().metrics().at("loss")));
  EXPECT_EQ(read.size(), wrote.size());
}

TEST(JournalTest, PeopleCanReadItAsJson) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  auto database = Database::OpenToRead(folder / "journal.db", kJournalIdentity);
  ASSERT_TRUE(database.ok());
  auto row = (*database)->Prepare(R"(SELECT time, json FROM "update" WHERE seq = 2)");
  ASSERT_TRUE(row.ok() && *row->Step());
  EXPECT_EQ(row->Real(0), Grant(2).time());
  EXPECT_NE(row->Text(1).find(R"("through_step":"200")"), std::string::npos) << row->Text(1);
}

TEST(JournalTest, RefusesANumberThatIsNotTheNext) {
  const StoreFolder folder;
  auto journal = Open(folder / "journal.db");
  EXPECT_TRUE(Fails(journal->Append(Grant(2)), StatusCode::kInvalidArgument, {"update 2", "the next is 1"}));
  ASSERT_TRUE(journal->Append(Grant(1)).ok());
  EXPECT_TRUE(Fails(journal->Append(Grant(1)), StatusCode::kInvalidArgument, {"update 1", "the next is 2"}));
  EXPECT_EQ(journal->last_seq(), 1);
}

TEST(JournalTest, TellsOfAnotherCoordinatorThatWritesToTheSameRun) {
  const StoreFolder folder;
  auto journal = Open(folder / "journal.db"), other = Open(folder / "journal.db");
  ASSERT_TRUE(journal->Append(Grant(1)).ok());
  EXPECT_TRUE(Fails(other->Append(Grant(1)), StatusCode::kAlreadyExists, {"journal.db", "another coordinator"}));
  EXPECT_EQ(other->last_seq(), 0);
}

TEST(JournalTest, ReplayStopsAtTheFirstError) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  auto journal = Open(folder / "journal.db");
  int calls = 0;
  const absl::Status status =
      journal->Replay([&](const Update&) { return ++calls == 2 ? absl::AbortedError("no") : absl::OkStatus(); });
  EXPECT_TRUE(absl::IsAborted(status));
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(journal->Append(Grant(4)).ok());
}

TEST(JournalTest, FindsAGap) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  Execute(folder / "journal.db", R"(DELETE FROM "update" WHERE seq = 2)");
  EXPECT_TRUE(Fails(ReplayStatus(folder / "journal.db"), StatusCode::kDataLoss, {"journal.db", "update 2 is missing"}));
}

TEST(JournalTest, FindsAMissingStart) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  Execute(folder / "journal.db", R"(DELETE FROM "update" WHERE seq = 1)");
  EXPECT_TRUE(Fails(ReplayStatus(folder / "journal.db"), StatusCode::kDataLoss, {"update 1 is missing"}));
}

TEST(JournalTest, FindsARowThatDoesNotParse) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  Execute(folder / "journal.db", R"(UPDATE "update" SET body = x'ffff' WHERE seq = 3)");
  EXPECT_TRUE(Fails(ReplayStatus(folder / "journal.db"), StatusCode::kDataLoss, {"update 3 is not as it was written"}));
}

TEST(JournalTest, FindsARowThatHoldsAnotherUpdate) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  Execute(folder / "journal.db",
          R"(UPDATE "update" SET body = (SELECT body FROM "update" WHERE seq = 1) WHERE seq = 3)");
  EXPECT_TRUE(Fails(ReplayStatus(folder / "journal.db"), StatusCode::kDataLoss, {"update 3 is not as it was written"}));
}

TEST(JournalTest, LeavesOneFileWhenItCloses) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  EXPECT_EQ(folder.FileCount(), 1);
}

TEST(JournalTest, ReadOnlyNeverWritesAndLeavesNothingBehind) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  {
    auto journal = OpenJournalReadOnly(folder / "journal.db");
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_EQ((*journal)->last_seq(), 3);
    EXPECT_TRUE(Fails((*journal)->Append(Grant(4)), StatusCode::kFailedPrecondition, {"journal.db"}));
    EXPECT_EQ(Replayed(journal->get()).size(), 3u);
  }
  EXPECT_EQ(folder.FileCount(), 1);
}

TEST(JournalTest, ReadOnlyWorksInAFolderThatCannotBeWritten) {
  const StoreFolder folder;
  AppendThree(folder / "journal.db");
  folder.Writable(false);
  const AsAnybody anybody;
  EXPECT_TRUE(absl::IsPermissionDenied(OpenJournal(folder / "journal.db", nullptr).status()));
  auto journal = OpenJournalReadOnly(folder / "journal.db");
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_EQ(Replayed(journal->get()).size(), 3u);
}

TEST(JournalTest, ReadOnlySeesWhatIsStillInTheLogOfACopy) {
  const StoreFolder folder, copy;
  auto journal = Open(folder / "journal.db");
  for (int seq = 1; seq <= 3; ++seq) ASSERT_TRUE(journal->Append(Grant(seq)).ok());
  folder.CopyTo(copy);
  ASSERT_TRUE(std::filesystem::file_size(copy / "journal.db-wal") > 0);
  copy.Writable(false);
  const AsAnybody anybody;
  auto read = OpenJournalReadOnly(copy / "journal.db");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(Replayed(read->get()).size(), 3u);
}

TEST(JournalTest, ReadOnlyNeedsAFile) {
  const StoreFolder folder;
  EXPECT_TRUE(Fails(OpenJournalReadOnly(folder / "journal.db").status(), StatusCode::kNotFound, {"journal.db"}));
  EXPECT_EQ(folder.FileCount(), 0);
}

TEST(JournalTest, NeedsAFolder) {
  const StoreFolder folder;
  EXPECT_TRUE(Fails(OpenJournal(folder / "no/journal.db", nullptr).status(), StatusCode::kNotFound, {"/no"}));
}

TEST(JournalTest, WorksUnderANameWithCharactersThatUrisReserve) {
  const StoreFolder folder;
  AppendThree(folder / "50% of a?b#c.db");
  EXPECT_TRUE(ReplayStatus(folder / "50% of a?b#c.db").ok());
  EXPECT_TRUE(std::filesystem::exists(folder / "50% of a?b#c.db"));
}

TEST(JournalTest, AfterADiskErrorNothingIsAppendedAndTheNextTryWorks) {
  const StoreFolder folder;
  auto journal = Open(folder / "journal.db");
  ASSERT_TRUE(journal->Append(Grant(1)).ok());
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full{std::filesystem::file_size(folder / "journal.db-wal"), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const absl::Status status = journal->Append(Grant(2));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(Fails(status, StatusCode::kUnavailable, {"journal.db", "disk I/O error", "resume"}));
  EXPECT_EQ(journal->last_seq(), 1);
  EXPECT_EQ(Replayed(journal.get()).size(), 1u);
  EXPECT_TRUE(journal->Append(Grant(2)).ok());
  EXPECT_EQ(Replayed(journal.get()).size(), 2u);
}

// Appends until it is killed, and tells of each update that was acknowledged.
[[noreturn]] void AppendForEver(const std::string& path, int acknowledge) {
  auto journal = OpenJournal(path, nullptr);
  if (!journal.ok()) _exit(1);
  for (int64_t seq = 1;; ++seq) {
    if (!(*journal)->Append(Grant(seq)).ok()) _exit(1);
    if (write(acknowledge, &seq, sizeof(seq)) != sizeof(seq)) _exit(1);
  }
}

TEST(JournalTest, WhatWasAcknowledgedIsThereAfterSigkill) {
  for (const int64_t kill_after : {1, 7, 40}) {
    const StoreFolder folder;
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) AppendForEver(folder / "journal.db", ends[1]);
    close(ends[1]);
    int64_t acknowledged = 0, seq = 0;
    while (acknowledged < kill_after && read(ends[0], &seq, sizeof(seq)) == sizeof(seq)) acknowledged = seq;
    kill(child, SIGKILL);
    while (read(ends[0], &seq, sizeof(seq)) == sizeof(seq)) acknowledged = seq;
    close(ends[0]);
    int how = 0;
    ASSERT_EQ(waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how));
    auto read_only = OpenJournalReadOnly(folder / "journal.db");
    ASSERT_TRUE(read_only.ok()) << read_only.status();
    EXPECT_GE((*read_only)->last_seq(), acknowledged);
    auto journal = Open(folder / "journal.db");
    EXPECT_GE(journal->last_seq(), acknowledged);
    EXPECT_LE(journal->last_seq(), acknowledged + 1);
    EXPECT_TRUE(journal->Append(Grant(journal->last_seq() + 1)).ok());
    EXPECT_EQ(static_cast<int64_t>(Replayed(journal.get()).size()), journal->last_seq());
  }
}

TEST(MemoryJournalTest, BehavesAsTheOneOnTheDisk) {
  auto journal = NewMemoryJournal();
  EXPECT_EQ(journal->last_seq(), 0);
  EXPECT_TRUE(Fails(journal->Append(Grant(2)), StatusCode::kInvalidArgument, {"update 2", "the next is 1"}));
  EXPECT_TRUE(journal->Append(Grant(1)).ok());
  EXPECT_TRUE(journal->Append(Grant(2)).ok());
  EXPECT_EQ(journal->last_seq(), 2);
  EXPECT_EQ(Replayed(journal.get()), (std::vector<int64_t>{100, 200}));
  EXPECT_TRUE(absl::IsAborted(journal->Replay([](const Update&) { return absl::AbortedError("no"); })));
}

}  // namespace
}  // namespace lockstep
