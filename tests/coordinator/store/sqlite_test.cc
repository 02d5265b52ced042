#include "coordinator/store/sqlite.h"

#include <gtest/gtest.h>

#include <limits>

#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"
#include "coordinator/store/schema.h"
#include "tests/coordinator/store/store_testing.h"

namespace lockstep {
namespace {

using absl::StatusCode;

constexpr FileIdentity kIdentity{"test file", 0x12345678, 3};
constexpr char kSchema[] = "CREATE TABLE t (a, b)";
constexpr int64_t kNfs = 0x6969, kExt4 = 0xef53;

absl::StatusOr<std::unique_ptr<Database>> OpenToWrite(const std::string& path, std::string* warning = nullptr,
                                                      int64_t file_system_type = kExt4) {
  return Database::OpenToWrite(path, kIdentity, kSchema, Database::Durability::kMostCommits, warning, file_system_type);
}

std::string OneText(Database* database, absl::string_view sql) {
  auto statement = database->Prepare(sql);
  if (!statement.ok() || !statement->Step().value_or(false)) return "no row";
  return statement->Text(0);
}

TEST(SqliteTest, UsesTheWriteAheadLogOnALocalDisk) {
  const StoreFolder folder;
  std::string warning;
  auto database = OpenToWrite(folder / "a.db", &warning);
  ASSERT_TRUE(database.ok()) << database.status();
  EXPECT_EQ(warning, "");
  EXPECT_EQ(OneText(database->get(), "PRAGMA journal_mode"), "wal");
}

TEST(SqliteTest, UsesARollbackJournalOnNfsAndSaysSo) {
  const StoreFolder folder;
  std::string warning;
  auto database = OpenToWrite(folder / "a.db", &warning, kNfs);
  ASSERT_TRUE(database.ok()) << database.status();
  EXPECT_NE(warning.find("a.db: on NFS"), std::string::npos) << warning;
  EXPECT_EQ(warning.find('\n'), std::string::npos);
  EXPECT_EQ(OneText(database->get(), "PRAGMA journal_mode"), "delete");
  EXPECT_TRUE((*database)->Execute("INSERT INTO t VALUES (1, 2)").ok());
  EXPECT_EQ(OneText(database->get(), "SELECT a FROM t"), "1");
}

TEST(SqliteTest, AFileThatMovesToNfsLeavesTheLogBehind) {
  const StoreFolder folder;
  std::string warning;
  ASSERT_TRUE((*OpenToWrite(folder / "a.db"))->Execute("INSERT INTO t VALUES (1, 2)").ok());
  auto database = OpenToWrite(folder / "a.db", &warning, kNfs);
  ASSERT_TRUE(database.ok()) << database.status();
  EXPECT_EQ(OneText(database->get(), "PRAGMA journal_mode"), "delete");
  EXPECT_EQ(OneText(database->get(), "SELECT a FROM t"), "1");
}

TEST(SqliteTest, KnowsNetworkFileSystems) {
  EXPECT_STREQ(NetworkFileSystemName(kNfs), "NFS");
  EXPECT_STREQ(NetworkFileSystemName(0xff534d42), "CIFS");
  EXPECT_STREQ(NetworkFileSystemName(static_cast<int32_t>(0xff534d42)), "CIFS");
  EXPECT_EQ(NetworkFileSystemName(kExt4), nullptr);
  EXPECT_EQ(NetworkFileSystemName(0x01021994), nullptr) << "tmpfs";
}

TEST(SqliteTest, StoresWhatIsNotFiniteAsNull) {
  const StoreFolder folder;
  auto database = *OpenToWrite(folder / "a.db");
  auto insert = *database->Prepare("INSERT INTO t VALUES (?, ?)");
  ASSERT_TRUE(insert.Run(std::numeric_limits<double>::quiet_NaN(), 1.5).ok());
  ASSERT_TRUE(insert.Run(-std::numeric_limits<double>::infinity(), int64_t{1} << 62).ok());
  EXPECT_EQ(OneText(database.get(), "SELECT COUNT(*) FROM t WHERE a IS NULL"), "2");
  EXPECT_EQ(OneText(database.get(), "SELECT MAX(b) FROM t"), "4611686018427387904");
}

TEST(SqliteTest, ATransactionThatIsNotCommittedLeavesNothing) {
  const StoreFolder folder;
  auto database = *OpenToWrite(folder / "a.db");
  {
    auto transaction = Transaction::Begin(database.get());
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(database->Execute("INSERT INTO t VALUES (1, 2)").ok());
  }
  EXPECT_EQ(OneText(database.get(), "SELECT COUNT(*) FROM t"), "0");
}

TEST(SqliteTest, AFullDiskIsResourceExhausted) {
  const StoreFolder folder;
  auto database = *OpenToWrite(folder / "a.db");
  ASSERT_TRUE(database->Execute("PRAGMA max_page_count = 3").ok());
  auto insert = *database->Prepare("INSERT INTO t VALUES (?, ?)");
  EXPECT_TRUE(Fails(insert.Run(1, std::string(100000, 'x')), StatusCode::kResourceExhausted, {"a.db", "disk full"}));
  EXPECT_TRUE(insert.Run(1, "x").ok());
}

TEST(SqliteTest, AFileThatIsNoDatabaseIsRefusedInOneLine) {
  const StoreFolder folder;
  WriteFile(folder / "a.db", std::string(5000, 'x'));
  EXPECT_TRUE(Fails(OpenToWrite(folder / "a.db").status(), StatusCode::kDataLoss, {"a.db", "not a SQLite database"}));
  EXPECT_TRUE(Fails(OpenJournalReadOnly(folder / "a.db").status(), StatusCode::kDataLoss, {"a.db", "not a SQLite"}));
  EXPECT_TRUE(Fails(OpenRunDbReader(folder / "a.db").status(), StatusCode::kDataLoss, {"a.db", "not a SQLite"}));
  EXPECT_TRUE(Fails(OpenRunDb(folder / "a.db", nullptr).status(), StatusCode::kDataLoss, {"a.db", "not a SQLite"}));
}

TEST(SqliteTest, AnotherProgramsDatabaseIsRefusedInOneLine) {
  const StoreFolder folder;
  ASSERT_TRUE(OpenToWrite(folder / "a.db").ok());
  EXPECT_TRUE(Fails(OpenJournal(folder / "a.db", nullptr).status(), StatusCode::kFailedPrecondition,
                    {"a.db", "not a journal of Lockstep"}));
  EXPECT_TRUE(Fails(OpenJournalReadOnly(folder / "a.db").status(), StatusCode::kFailedPrecondition, {"not a journal"}));
  EXPECT_TRUE(Fails(OpenRunDbReader(folder / "a.db").status(), StatusCode::kFailedPrecondition,
                    {"a.db", "not a run database of Lockstep"}));
  EXPECT_TRUE(
      Fails(OpenRunDb(folder / "a.db", nullptr).status(), StatusCode::kFailedPrecondition, {"not a run database"}));
}

TEST(SqliteTest, AnEmptyFileIsNoRecordToRead) {
  const StoreFolder folder;
  WriteFile(folder / "run.db", "");
  EXPECT_TRUE(
      Fails(OpenRunDbReader(folder / "run.db").status(), StatusCode::kFailedPrecondition, {"run.db", "run database"}));
}

TEST(SqliteTest, AFolderIsNoDatabase) {
  const StoreFolder folder;
  EXPECT_TRUE(Fails(OpenRunDbReader(folder / ".").status(), StatusCode::kUnavailable, {"Is a directory"}));
}

TEST(SqliteTest, AnotherVersionsFileIsRefusedWithBothVersions) {
  const StoreFolder folder;
  ASSERT_TRUE((*OpenToWrite(folder / "a.db"))->Execute("PRAGMA user_version = 4").ok());
  EXPECT_TRUE(
      Fails(OpenToWrite(folder / "a.db").status(), StatusCode::kFailedPrecondition, {"version 4", "version 3"}));
  EXPECT_TRUE(
      Fails(Database::OpenToRead(folder / "a.db", kIdentity).status(), StatusCode::kFailedPrecondition, {"version 4"}));
}

TEST(SqliteTest, ADamagedPageIsDataLoss) {
  const StoreFolder folder;
  {
    auto database = *OpenToWrite(folder / "a.db");
    auto insert = *database->Prepare("INSERT INTO t VALUES (?, ?)");
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(insert.Run(i, "some text to fill pages with").ok());
  }
  {
    std::fstream file(folder / "a.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);  // the second page, where the table's tree begins
    file << std::string(4096, '\xee');
  }
  auto database = Database::OpenToRead(folder / "a.db", kIdentity);
  ASSERT_TRUE(database.ok()) << database.status();
  auto rows = *(*database)->Prepare("SELECT SUM(a) FROM t");
  EXPECT_TRUE(Fails(rows.Step().status(), StatusCode::kDataLoss, {"a.db", "damaged"}));
}

}  // namespace
}  // namespace lockstep
