#include "coordinator/store/sqlite.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/file.h"

namespace lockstep {
namespace {

constexpr int kBusyTimeoutMs = 5000;
constexpr int kCloseTimeoutMs = 1000;  // a reader holds the file for the time of one query

absl::Status SqliteStatus(sqlite3* database, int result, const std::string& path) {
  if (result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE) return absl::OkStatus();
  const std::string reason = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(result);
  switch (result & 0xff) {
    case SQLITE_NOTADB:
      return absl::DataLossError(absl::StrCat(path, ": not a SQLite database, or its start is damaged"));
    case SQLITE_CORRUPT:
      return absl::DataLossError(
          absl::StrCat(path, ": damaged (", reason, "); use a copy, or `sqlite3 ", path, " .recover`"));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(path, ": disk full; make room and resume the run"));
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return absl::PermissionDeniedError(absl::StrCat(path, ": cannot be written (", reason, ")"));
    case SQLITE_CONSTRAINT:
      return absl::AlreadyExistsError(absl::StrCat(path, ": ", reason));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(
          absl::StrCat(path, ": held by another process (", reason, "); end it and try again"));
    case SQLITE_CANTOPEN: {
      const int error = database != nullptr ? sqlite3_system_errno(database) : 0;
      if (error != 0) return ErrnoStatus(error, path);
      return absl::UnavailableError(absl::StrCat(path, ": ", reason));
    }
    case SQLITE_IOERR:
      return absl::UnavailableError(
          absl::StrCat(path, ": ", reason, " (SQLite's code ", result, "); see to the disk and resume the run"));
    default:
      return absl::InternalError(absl::StrCat(path, ": ", reason));
  }
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string UriOf(const std::string& path, absl::string_view query) {
  std::string uri = path[0] == '/' ? "file://" : "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      absl::StrAppendFormat(&uri, "%%%02X", static_cast<unsigned char>(c));
    } else {
      uri += c;
    }
  }
  return absl::StrCat(uri, "?", query);
}

bool HasContent(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && info.st_size > 0;
}

}  // namespace

const char* NetworkFileSystemName(int64_t file_system_type) {
  // Numbers of statfs(2) and of the file systems' own headers.
  switch (static_cast<uint32_t>(file_system_type)) {
    case 0x6969:
      return "NFS";
    case 0x517b:
      return "SMB";
    case 0xff534d42:
      return "CIFS";
    case 0xfe534d42:
      return "SMB2";
    case 0x5346414f:
      return "AFS";
    case 0x0bd00bd0:
      return "Lustre";
    case 0x00c36400:
      return "Ceph";
    case 0x47504653:
      return "GPFS";
    case 0x19830326:
      return "BeeGFS";
    default:
      return nullptr;
  }
}

Statement::Statement(sqlite3* database, sqlite3_stmt* statement, const std::string* path)
    : database_(database), statement_(statement), path_(path) {}

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_), statement_(std::exchange(other.statement_, nullptr)), path_(other.path_) {}

Statement::~Statement() {
  // The result repeats the last Step's error, which was reported there.
  sqlite3_finalize(statement_);
}

void Statement::Reset() {
  sqlite3_reset(statement_);  // as above
}

absl::StatusOr<bool> Statement::Step() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return SqliteStatus(database_, result, *path_);
}

absl::Status Statement::Finish() {
  for (;;) {
    const absl::StatusOr<bool> row = Step();
    if (row.ok() && *row) continue;
    Reset();
    return row.status();
  }
}

absl::Status Statement::Bind(int index, int64_t value) {
  return SqliteStatus(database_, sqlite3_bind_int64(statement_, index, value), *path_);
}

absl::Status Statement::Bind(int index, double value) {
  const int result =
      std::isfinite(value) ? sqlite3_bind_double(statement_, index, value) : sqlite3_bind_null(statement_, index);
  return SqliteStatus(database_, result, *path_);
}

absl::Status Statement::Bind(int index, absl::string_view value) {
  return SqliteStatus(database_,
                      sqlite3_bind_text64(statement_, index, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8),
                      *path_);
}

absl::Status Statement::Bind(int index, Blob value) {
  return SqliteStatus(database_,
                      sqlite3_bind_blob64(statement_, index, value.bytes.data(), value.bytes.size(), SQLITE_TRANSIENT),
                      *path_);
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_, column); }
double Statement::Real(int column) const { return sqlite3_column_double(statement_, column); }
std::string Statement::Text(int column) const { return std::string(Bytes(column)); }
bool Statement::IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
int Statement::columns() const { return sqlite3_column_count(statement_); }
std::string Statement::Name(int column) const { return sqlite3_column_name(statement_, column); }

absl::string_view Statement::Bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data), static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

Database::Database(sqlite3* database, std::string path, bool writer)
    : database_(database), path_(std::move(path)), writer_(writer) {}

Database::~Database() {
  if (writer_) {
    sqlite3_busy_timeout(database_, kCloseTimeoutMs);
    // A file in WAL mode cannot be read from a folder that cannot be written, so the mode is left as well.
    sqlite3_exec(database_, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr);
  }
  sqlite3_close_v2(database_);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& uri, const std::string& path, bool writer) {
  sqlite3* database = nullptr;
  const int access = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const int result = sqlite3_open_v2(uri.c_str(), &database, access | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
  if (result != SQLITE_OK) {
    const absl::Status status = SqliteStatus(database, result, path);
    sqlite3_close_v2(database);
    return status;
  }
  auto opened = std::unique_ptr<Database>(new Database(database, path, writer));
  RETURN_IF_ERROR(SqliteStatus(database, sqlite3_extended_result_codes(database, 1), path));
  RETURN_IF_ERROR(SqliteStatus(database, sqlite3_busy_timeout(database, kBusyTimeoutMs), path));
  return opened;
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenToWrite(const std::string& path, const FileIdentity& identity,
                                                                const char* schema, Durability durability,
                                                                std::string* warning, int64_t file_system_type) {
  if (file_system_type < 0) {
    struct statfs info;
    if (statfs(FolderOf(path).c_str(), &info) != 0) return ErrnoStatus(errno, FolderOf(path));
    file_system_type = static_cast<uint32_t>(info.f_type);
  }
  ASSIGN_OR_RETURN(auto database, Open(UriOf(path, "mode=rwc"), path, true));
  RETURN_IF_ERROR(database->ChooseJournal(file_system_type, warning));
  const bool every = durability == Durability::kEveryCommit;
  RETURN_IF_ERROR(database->Execute(every ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"));
  RETURN_IF_ERROR(database->CreateOrCheck(identity, schema));
  return database;
}

absl::Status Database::ChooseJournal(int64_t file_system_type, std::string* warning) {
  const char* network = NetworkFileSystemName(file_system_type);
  if (network == nullptr) {
    ASSIGN_OR_RETURN(Statement choose, Prepare("PRAGMA journal_mode = WAL"));
    ASSIGN_OR_RETURN(const bool row, choose.Step());
    if (row && choose.Text(0) == "wal") return absl::OkStatus();
  }
  if (warning != nullptr) {
    *warning =
        absl::StrCat(path_, ": on ", network != nullptr ? network : "a file system without shared memory",
                     ", where SQLite's write-ahead log is unsafe; a rollback journal is used, so a reader may hold "
                     "up the coordinator: put the run folder on a local disk");
  }
  return Execute("PRAGMA journal_mode = DELETE");
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenToRead(const std::string& path, const FileIdentity& identity) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  if (S_ISDIR(info.st_mode)) return ErrnoStatus(EISDIR, path);
  ASSIGN_OR_RETURN(auto database, Open(UriOf(path, "mode=ro"), path, false));
  absl::Status status = database->CheckIdentity(identity);
  if (status.ok()) return database;
  if (absl::IsDataLoss(status) || absl::IsFailedPrecondition(status)) return status;
  // A log that was left behind, in a folder where its index cannot be made: nobody writes there, so it is read without
  // locks, the index in memory. Without a log the file alone is whole.
  const bool log = HasContent(path + "-wal");
  ASSIGN_OR_RETURN(database, Open(UriOf(path, log ? "mode=ro&vfs=unix-none" : "mode=ro&immutable=1"), path, false));
  if (log) RETURN_IF_ERROR(database->Execute("PRAGMA locking_mode = EXCLUSIVE"));
  RETURN_IF_ERROR(database->CheckIdentity(identity));
  return database;
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenInMemory(const FileIdentity& identity, const char* schema) {
  ASSIGN_OR_RETURN(auto database, Open("file::memory:", "memory", true));
  RETURN_IF_ERROR(database->CreateOrCheck(identity, schema));
  return database;
}

absl::StatusOr<int64_t> Database::Number(absl::string_view sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? statement.Int(0) : 0;
}

absl::Status Database::CheckIdentity(const FileIdentity& identity) {
  ASSIGN_OR_RETURN(const int64_t id, Number("PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t version, Number("PRAGMA user_version"));
  if (id != identity.application_id) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": a SQLite database, but not a ", identity.what, " of Lockstep"));
  }
  if (version != identity.version) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": ", identity.what, " in version ", version,
                                                      " of its layout; this Lockstep knows version ", identity.version,
                                                      ": use the Lockstep that wrote it"));
  }
  return absl::OkStatus();
}

absl::Status Database::CreateOrCheck(const FileIdentity& identity, const char* schema) {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(this));
  ASSIGN_OR_RETURN(const int64_t tables, Number("SELECT COUNT(*) FROM sqlite_master"));
  if (tables > 0) {
    RETURN_IF_ERROR(CheckIdentity(identity));
    return transaction.Commit();
  }
  RETURN_IF_ERROR(Execute(schema));
  RETURN_IF_ERROR(Execute(absl::StrCat("PRAGMA application_id = ", identity.application_id).c_str()));
  RETURN_IF_ERROR(Execute(absl::StrCat("PRAGMA user_version = ", identity.version).c_str()));
  return transaction.Commit();
}

absl::Status Database::Execute(const char* sql) {
  return SqliteStatus(database_, sqlite3_exec(database_, sql, nullptr, nullptr, nullptr), path_);
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v2(database_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  RETURN_IF_ERROR(SqliteStatus(database_, result, path_));
  return Statement(database_, statement, &path_);
}

absl::StatusOr<bool> Database::HasColumn(const std::string& table, const std::string& column) {
  ASSIGN_OR_RETURN(Statement statement, Prepare("SELECT COUNT(*) FROM pragma_table_info(?) WHERE name = ?"));
  RETURN_IF_ERROR(statement.Start(table, column));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row && statement.Int(0) > 0;
}

absl::StatusOr<Transaction> Transaction::Begin(Database* database, bool write) {
  RETURN_IF_ERROR(database->Execute(write ? "BEGIN IMMEDIATE" : "BEGIN"));
  return Transaction(database);
}

Transaction::~Transaction() {
  // An error that ended the transaction by itself makes this fail, with nothing left to undo.
  if (database_ != nullptr) (void)database_->Execute("ROLLBACK");
}

absl::Status Transaction::Commit() {
  RETURN_IF_ERROR(database_->Execute("COMMIT"));
  database_ = nullptr;
  return absl::OkStatus();
}

}  // namespace lockstep
