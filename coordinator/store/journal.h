#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// journal.db: an append-only list of Updates. Not thread-safe: the service calls it under its lock.
class Journal {
 public:
  virtual ~Journal() = default;
  // On the disk when this returns. `update.seq` must be the next. After an error nothing was appended.
  virtual absl::Status Append(const Update& update) = 0;
  // In order; stops at the first error of `each`. DataLoss: a gap, or a row that is not as it was written: each row
  // carries a seal over itself and the seal before it.
  virtual absl::Status Replay(const std::function<absl::Status(const Update&)>& each) = 0;
  virtual int64_t last_seq() const = 0;
};

// Creates the file if it is not there. `warning` gets a line where the file system makes SQLite's WAL unsafe (NFS);
// a rollback journal is used there.
absl::StatusOr<std::unique_ptr<Journal>> OpenJournal(const std::string& path, std::string* warning);
// For `verify` and reports: an existing file, never changed. Works on a run folder that cannot be written.
absl::StatusOr<std::unique_ptr<Journal>> OpenJournalReadOnly(const std::string& path);
std::unique_ptr<Journal> NewMemoryJournal();

}  // namespace lockstep
