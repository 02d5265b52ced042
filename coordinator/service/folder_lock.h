#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// Keeps a second coordinator off a run folder: a lock on the folder itself, so that nothing is left behind. Given back
// on destruction, or by the system when the process ends.
class FolderLock {
 public:
  // FailedPrecondition: another coordinator has it. `warning` gets a line where the file system knows no such locks.
  static absl::StatusOr<std::unique_ptr<FolderLock>> Take(const std::string& folder, std::string* warning);
  ~FolderLock();

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace lockstep
