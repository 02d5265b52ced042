#include "coordinator/store/journal.h"

#include <xxhash.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep {
namespace {

using google::protobuf::util::JsonPrintOptions;
using google::protobuf::util::MessageToJsonString;

absl::Status CheckNext(const Update& update, int64_t last, absl::string_view where) {
  if (update.seq() == last + 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": update ", update.seq(), " cannot follow update ", last, "; the next is ", last + 1));
}

std::string Seal(absl::string_view before, int64_t seq, double time, absl::string_view body, absl::string_view json) {
  const std::string sealed =
      absl::StrCat(before, " ", seq, " ", absl::StrFormat("%a", time), " ", body.size(), " ", body, json);
  return absl::StrFormat("%016x", XXH3_64bits(sealed.data(), sealed.size()));
}

class SqliteJournal : public Journal {
 public:
  static absl::StatusOr<std::unique_ptr<Journal>> Make(std::unique_ptr<Database> database, bool writable) {
    ASSIGN_OR_RETURN(Statement newest,
                     database->Prepare(R"(SELECT seq, seal FROM "update" ORDER BY seq DESC LIMIT 1)"));
    ASSIGN_OR_RETURN(const bool row, newest.Step());
    const int64_t last = row ? newest.Int(0) : 0;
    const std::string seal = row ? newest.Text(1) : "";
    newest.Reset();
    std::unique_ptr<Statement> insert;
    if (writable) {
      ASSIGN_OR_RETURN(
          Statement prepared,
          database->Prepare(R"(INSERT INTO "update" (seq, time, body, json, seal) VALUES (?, ?, ?, ?, ?))"));
      insert = std::make_unique<Statement>(std::move(prepared));
    }
    return std::unique_ptr<Journal>(new SqliteJournal(std::move(database), std::move(insert), last, seal));
  }

  absl::Status Append(const Update& update) override {
    if (insert_ == nullptr) return absl::FailedPreconditionError(absl::StrCat(path(), ": opened for reading alone"));
    RETURN_IF_ERROR(CheckNext(update, last_seq_, path()));
    std::string body, json;
    if (!update.SerializeToString(&body)) {
      return absl::InternalError(absl::StrCat(path(), ": update ", update.seq(), " does not serialize"));
    }
    JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    if (!MessageToJsonString(update, &json, options).ok()) json = "{}";  // for people alone; `body` is what counts
    std::string seal = Seal(last_seal_, update.seq(), update.time(), body, json);
    const absl::Status status = insert_->Run(update.seq(), update.time(), Blob{body}, json, seal);
    if (absl::IsAlreadyExists(status)) {
      return absl::AlreadyExistsError(absl::StrCat(
          path(), ": update ", update.seq(), " is there already: another coordinator writes to this run; end one"));
    }
    RETURN_IF_ERROR(status);
    last_seq_ = update.seq();
    last_seal_ = std::move(seal);
    return absl::OkStatus();
  }

  absl::Status Replay(const std::function<absl::Status(const Update&)>& each) override {
    ASSIGN_OR_RETURN(Statement rows,
                     database_->Prepare(R"(SELECT seq, time, body, json, seal FROM "update" ORDER BY seq)"));
    Update update;
    std::string seal;
    for (int64_t expected = 1;; ++expected) {
      ASSIGN_OR_RETURN(const bool row, rows.Step());
      if (!row) return absl::OkStatus();
      const int64_t seq = rows.Int(0);
      if (seq != expected) {
        return absl::DataLossError(absl::StrCat(path(), ": update ", expected, " is missing (the next one there is ",
                                                seq, "); use an undamaged copy of the run folder"));
      }
      const absl::string_view body = rows.Bytes(2);
      seal = Seal(seal, seq, rows.Real(1), body, rows.Bytes(3));
      if (seal != rows.Bytes(4) || !update.ParseFromArray(body.data(), static_cast<int>(body.size())) ||
          update.seq() != seq) {
        return absl::DataLossError(absl::StrCat(path(), ": update ", seq,
                                                " is not as it was written; use an undamaged copy of the run folder"));
      }
      RETURN_IF_ERROR(each(update));
    }
  }

  int64_t last_seq() const override { return last_seq_; }

 private:
  SqliteJournal(std::unique_ptr<Database> database, std::unique_ptr<Statement> insert, int64_t last, std::string seal)
      : database_(std::move(database)), insert_(std::move(insert)), last_seq_(last), last_seal_(std::move(seal)) {}
  const std::string& path() const { return database_->path(); }

  const std::unique_ptr<Database> database_;
  const std::unique_ptr<Statement> insert_;  // null: read-only
  int64_t last_seq_;
  std::string last_seal_;  // of the last row; empty: none yet
};

class MemoryJournal : public Journal {
 public:
  absl::Status Append(const Update& update) override {
    RETURN_IF_ERROR(CheckNext(update, last_seq(), "journal"));
    updates_.push_back(update);
    return absl::OkStatus();
  }
  absl::Status Replay(const std::function<absl::Status(const Update&)>& each) override {
    for (const Update& update : updates_) RETURN_IF_ERROR(each(update));
    return absl::OkStatus();
  }
  int64_t last_seq() const override { return static_cast<int64_t>(updates_.size()); }

 private:
  std::vector<Update> updates_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenJournal(const std::string& path, std::string* warning) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToWrite(path, kJournalIdentity, kJournalSchema,
                                                        Database::Durability::kEveryCommit, warning));
  return SqliteJournal::Make(std::move(database), true);
}

absl::StatusOr<std::unique_ptr<Journal>> OpenJournalReadOnly(const std::string& path) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToRead(path, kJournalIdentity));
  return SqliteJournal::Make(std::move(database), false);
}

std::unique_ptr<Journal> NewMemoryJournal() { return std::make_unique<MemoryJournal>(); }

}  // namespace lockstep
