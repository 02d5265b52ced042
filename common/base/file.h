#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// A file being written, front to back. Not thread-safe. Destroyed without Close: closed, its content undefined.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status Append(absl::string_view data) = 0;
  // On the disk when this returns.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Close() = 0;
};

// Files behind an interface, so that a test can make the disk full. Errors name the path and the system's reason:
// NotFound, PermissionDenied, ResourceExhausted (disk full), else Unavailable. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, int mode = 0644) = 0;
  // Hands the file's content to `take`, front to back. InvalidArgument, at once or on the way: it is larger than that.
  virtual absl::Status ForEachPiece(const std::string& path, int64_t max_bytes,
                                    absl::FunctionRef<void(absl::string_view)> take) = 0;
  absl::StatusOr<std::string> Read(const std::string& path, int64_t max_bytes = int64_t{1} << 40);
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status SyncFolder(const std::string& path) = 0;
  virtual absl::Status MakeFolders(const std::string& path, int mode = 0755) = 0;
  // Removes a file, a link, or a folder with all that is in it; nothing there is no error. Never follows a link.
  virtual absl::Status RemoveAll(const std::string& path) = 0;
  // `link` points at `target` afterwards, whatever it was; in one atomic step.
  virtual absl::Status ReplaceLink(const std::string& target, const std::string& link) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) = 0;  // names, sorted
  virtual bool Exists(const std::string& path) = 0;
  // The machine's own; never destroyed.
  static FileSystem* Real();
};

// Writes `data` so that `path` holds either what it held before or all of it: temporary file, sync, rename, sync.
absl::Status WriteFileAtomically(FileSystem* files, const std::string& path, absl::string_view data, int mode = 0644);

// Where a person wants something to go: a file is whole or not there; a link leads to its file; what is no file, as a
// pipe or /dev/stdout, is written to and stays what it is. InvalidArgument: a folder.
absl::Status WriteOutput(const std::string& path, absl::string_view data);

std::string JoinPath(absl::string_view folder, absl::string_view name);

// An absl::Status out of errno, as FileSystem describes.
absl::Status ErrnoStatus(int error, absl::string_view where);

}  // namespace lockstep
