#include "coordinator/supervise/scratch.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/supervise/runtime_record.h"

namespace lockstep {
namespace {

constexpr char kSharedMemory[] = "/dev/shm";

// Process numbers mean something within one namespace only, and containers may share /dev/shm.
std::string NamespaceId() {
  struct stat info {};
  return stat("/proc/self/ns/pid", &info) == 0 ? absl::StrCat(info.st_ino) : "0";
}

std::string NamePrefix() { return absl::StrCat("lockstep-", geteuid(), "-", NamespaceId(), "-"); }

// False for every name that is not exactly ours.
bool OwnerIsGone(absl::string_view rest) {
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, '-');
  ProcessId owner;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &owner.pid) || !absl::SimpleAtoi(parts[1], &owner.start))
    return false;
  return !IsAlive(owner);
}

}  // namespace

std::string ScratchPath(const std::string& fallback) {
  return ScratchPathIn(access(kSharedMemory, W_OK | X_OK) == 0 ? kSharedMemory : fallback);
}

std::string ScratchPathIn(const std::string& parent) {
  const ProcessId self = IdentifyProcess(getpid());
  return JoinPath(parent, absl::StrCat(NamePrefix(), self.pid, "-", self.start));
}

absl::Status MakeScratch(const std::string& path) {
  RETURN_IF_ERROR(FileSystem::Real()->RemoveAll(path));
  return mkdir(path.c_str(), 0700) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path);
}

void SweepScratch(const std::string& fallback) {
  SweepScratchIn(kSharedMemory);
  SweepScratchIn(fallback);
}

void SweepScratchIn(const std::string& parent) {
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(parent);
  if (!names.ok()) return;
  const std::string prefix = NamePrefix();
  for (const std::string& name : *names) {
    const std::string path = JoinPath(parent, name);
    struct stat info {};
    if (!absl::StartsWith(name, prefix) || !OwnerIsGone(absl::string_view(name).substr(prefix.size()))) continue;
    if (lstat(path.c_str(), &info) != 0 || info.st_uid != geteuid()) continue;
    FileSystem::Real()->RemoveAll(path).IgnoreError();
  }
}

}  // namespace lockstep
