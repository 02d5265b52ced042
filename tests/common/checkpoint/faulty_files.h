#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/file.h"

namespace lockstep {

enum class Fault {
  kNone,
  kOneError,  // one operation fails, those after it work
  kDiskFull,  // from one operation on, nothing more can be written; renaming and removing work
  kCrash,     // the process dies within one operation: half of it is done; what was done before it stays
  kPowerCut,  // a crash that also takes what was not synced: content, new names, renames
};

// The machine's files, and a fault at the `at`-th operation that changes something, from 1. A process that has crashed
// changes and reads nothing any more. What is synced is only remembered, which takes no time. Not thread-safe.
class FaultyFiles : public FileSystem {
 public:
  FaultyFiles(Fault fault, int at) : fault_(fault), at_(at) {}

  int operations() const { return operations_; }
  bool dead() const { return dead_; }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, int mode) override;
  absl::Status ForEachPiece(const std::string& path, int64_t max_bytes,
                            absl::FunctionRef<void(absl::string_view)> take) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncFolder(const std::string& path) override;
  absl::Status MakeFolders(const std::string& path, int mode) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::Status ReplaceLink(const std::string& target, const std::string& link) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override;
  bool Exists(const std::string& path) override;

 private:
  class File;
  // What a power cut takes back as long as its folder is not synced: `to` gets the name `from` back, or, when that is
  // empty, is gone. A link points at `target` again.
  struct Unsynced {
    std::string from, to, target;
  };

  // Counts an operation. An error: it must not be done; before a crash, `half` of it is.
  absl::Status Operate(
      bool writes, const std::string& path, const std::function<void()>& half = [] {});
  void Die();
  // Where things are after a rename.
  void Moved(const std::string& from, const std::string& to);

  const Fault fault_;
  const int at_;
  int operations_ = 0;
  bool dead_ = false;
  std::vector<Unsynced> unsynced_;
  std::vector<std::string> unsynced_content_;
};

}  // namespace lockstep
