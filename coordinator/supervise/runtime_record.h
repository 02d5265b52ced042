#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// A process that cannot be mistaken for a later one with the same number.
struct ProcessId {
  pid_t pid = 0;
  int64_t start = 0;  // clock ticks since boot, field 22 of /proc/<pid>/stat
};
// Of a process that is there; start 0: it is not.
ProcessId IdentifyProcess(pid_t pid);
// False for a zombie too.
bool IsAlive(const ProcessId& process);

// Where `status`, `stop` and the others find a live run: its address, its token and its processes. A 0600 file in the
// user's runtime folder, named by the hash of the run folder's canonical path. Holds the token, so it never lies in the
// run folder, which people copy and share.
struct RuntimeRecord {
  std::string run_folder;  // canonical
  std::string address;
  std::string token;
  std::string scratch;   // the run's temporary folder; may be empty
  ProcessId supervisor;  // pid 0: none, `lockstep serve` by hand
  ProcessId coordinator;
};

// Live records of one user. Stateless; every call reads the disk.
class RuntimeRecords {
 public:
  // $XDG_RUNTIME_DIR/lockstep if that is there and writable, else /tmp/lockstep-<uid>; made with mode 0700.
  // PermissionDenied: the folder is somebody else's, or open to others.
  static absl::StatusOr<RuntimeRecords> Open();
  // In a folder of the caller's choice, held to the same rules.
  static absl::StatusOr<RuntimeRecords> OpenAt(const std::string& folder);

  absl::Status Write(const RuntimeRecord& record) const;
  // NotFound: no live run in that folder. A record whose processes are all gone is removed.
  absl::StatusOr<RuntimeRecord> Find(const std::string& run_folder) const;
  void Remove(const std::string& run_folder) const;
  // Removes what dead runs left: records, token files.
  void Sweep() const;

  // A 0600 file with the run's credentials. Remove takes it away too.
  absl::StatusOr<std::string> WriteCredentials(const std::string& run_folder, const std::string& text) const;
  // Where a coordinator listens for this user's commands. Remove takes it away too. FailedPrecondition: the folder's
  // path is too long for a socket's.
  absl::StatusOr<std::string> SocketPath(const std::string& run_folder) const;

  std::string RecordPath(const std::string& run_folder) const;
  const std::string& folder() const { return folder_; }

 private:
  explicit RuntimeRecords(std::string folder) : folder_(std::move(folder)) {}
  void RemoveIfAlone(const std::string& name) const;
  // Beside the record, of the same run.
  std::string PathBeside(const std::string& run_folder, absl::string_view ending) const;
  std::string folder_;
};

// Whether a coordinator holds the folder's lock, on whatever machine of a shared file system that knows such locks.
bool IsRunFolderHeld(const std::string& run_folder);

}  // namespace lockstep
