#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace lockstep {

// SQLite as the store uses it: every result checked, errors as statuses that name the file. Not thread-safe.
//   NotFound            no such file
//   PermissionDenied    may not be read or written
//   ResourceExhausted   disk full
//   DataLoss            damaged, or not a database at all
//   AlreadyExists       a key that is there already
//   Unavailable         other errors of the disk; held by another process for longer than the busy timeout (5 s)

struct Blob {
  absl::string_view bytes;
};

// A prepared statement. Does not outlive its database.
class Statement {
 public:
  Statement(sqlite3* database, sqlite3_stmt* statement, const std::string* path);
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Starts anew with these values for the parameters, in order. A number that is not finite is stored as NULL.
  template <typename... Values>
  absl::Status Start(const Values&... values) {
    Reset();
    int index = 0;
    absl::Status status;
    ((status.ok() ? static_cast<void>(status = Bind(++index, values)) : static_cast<void>(0)), ...);
    return status;
  }
  // True: on the next row. False: done.
  absl::StatusOr<bool> Step();
  // Start and to the end; rows are dropped.
  template <typename... Values>
  absl::Status Run(const Values&... values) {
    RETURN_IF_ERROR(Start(values...));
    return Finish();
  }
  // Lets go of the row it is on, and with that of the database's read lock.
  void Reset();

  // Of the row it is on; column from 0. NULL is 0 or empty.
  int64_t Int(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;
  absl::string_view Bytes(int column) const;  // until the next Step or Reset
  bool IsNull(int column) const;
  int columns() const;
  std::string Name(int column) const;

 private:
  absl::Status Bind(int index, int64_t value);
  absl::Status Bind(int index, int value) { return Bind(index, static_cast<int64_t>(value)); }
  absl::Status Bind(int index, bool value) { return Bind(index, static_cast<int64_t>(value)); }
  absl::Status Bind(int index, double value);
  absl::Status Bind(int index, absl::string_view value);
  absl::Status Bind(int index, const std::string& value) { return Bind(index, absl::string_view(value)); }
  absl::Status Bind(int index, const char* value) { return Bind(index, absl::string_view(value)); }
  absl::Status Bind(int index, Blob value);
  absl::Status Finish();

  sqlite3* database_;
  sqlite3_stmt* statement_;
  const std::string* path_;
};

// What a database file of Lockstep says it is, in SQLite's application_id and user_version.
struct FileIdentity {
  const char* what;  // "run database", for messages
  int32_t application_id;
  int32_t version;
};

class Database {
 public:
  enum class Durability {
    kEveryCommit,  // on the disk when a commit returns
    kMostCommits,  // a power cut may take the last commits, never the file; a killed process loses nothing
  };

  // Opens or creates for writing, with a write-ahead log beside the file, so that readers never hold up the writer; a
  // new file is given `schema`. On a network file system, where the log is unsafe, a rollback journal is used and
  // `warning` gets a line. `file_system_type` is what statfs says of the folder; -1: ask it.
  static absl::StatusOr<std::unique_ptr<Database>> OpenToWrite(const std::string& path, const FileIdentity& identity,
                                                               const char* schema, Durability durability,
                                                               std::string* warning, int64_t file_system_type = -1);
  // An existing file, never changed; also while another process writes it, and in a folder that cannot be written,
  // with the log of a writer that was killed or not.
  static absl::StatusOr<std::unique_ptr<Database>> OpenToRead(const std::string& path, const FileIdentity& identity);

  // Gone with the object.
  static absl::StatusOr<std::unique_ptr<Database>> OpenInMemory(const FileIdentity& identity, const char* schema);

  // A writer folds its log into the file, so that the file alone is whole and can be read anywhere; where a reader is
  // in the way, the log stays, and the next one who opens finds it.
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  absl::Status Execute(const char* sql);
  absl::StatusOr<Statement> Prepare(absl::string_view sql);
  absl::StatusOr<bool> HasColumn(const std::string& table, const std::string& column);
  const std::string& path() const { return path_; }

 private:
  Database(sqlite3* database, std::string path, bool writer);
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& uri, const std::string& path, bool writer);
  absl::StatusOr<int64_t> Number(absl::string_view sql);
  absl::Status CheckIdentity(const FileIdentity& identity);
  absl::Status CreateOrCheck(const FileIdentity& identity, const char* schema);
  absl::Status ChooseJournal(int64_t file_system_type, std::string* warning);

  sqlite3* const database_;
  const std::string path_;
  const bool writer_;
};

// Rolls back when it goes without Commit.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Database* database, bool write = true);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  ~Transaction();
  absl::Status Commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;
};

// "NFS" and the like for a type that statfs gives; null for a local file system.
const char* NetworkFileSystemName(int64_t file_system_type);

}  // namespace lockstep
