#include "coordinator/service/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<FolderLock>> FolderLock::Take(const std::string& folder, std::string* warning) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, folder);
  std::unique_ptr<FolderLock> lock(new FolderLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(absl::StrCat(
        folder, ": another coordinator is at work in this folder; stop it first, or choose another --out"));
  }
  *warning = absl::StrCat(folder, ": cannot be locked (", std::strerror(errno),
                          "); take care that no second coordinator is started on it");
  return lock;
}

FolderLock::~FolderLock() { close(fd_); }

}  // namespace lockstep
