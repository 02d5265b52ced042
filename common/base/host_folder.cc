#include "common/base/host_folder.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace lockstep {
namespace {

// $0 is the folder. Processes whose environment cannot be read are others' or gone.
constexpr char kScript[] = R"sh(
for look in $(seq 30); do
  [ -d "$0" ] || exit 0
  grep -qsF "$0" /proc/[0-9]*/environ || { rm -rf "$0"; exit 0; }
  sleep 2
done
)sh";

}  // namespace

void RemoveHostFolderWhenAllHaveLeft() {
  const char* const folder = std::getenv(kHostFolderVariable);
  if (folder == nullptr || *folder != '/') return;
  const absl::string_view name = absl::string_view(folder).substr(absl::string_view(folder).rfind('/') + 1);
  if (!absl::StartsWith(name, kHostFolderName)) return;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t files;
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);  // outlives what ends this process's group
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  std::string shell = "sh", option = "-c", script = kScript, own = folder, path = "PATH=/usr/bin:/bin";
  char* const words[] = {shell.data(), option.data(), script.data(), own.data(), nullptr};
  char* const environment[] = {path.data(), nullptr};  // without the folder
  pid_t pid = 0;
  // Nobody is left to hear that it could not be started.
  posix_spawn(&pid, "/bin/sh", &files, &attributes, words, environment);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
}

}  // namespace lockstep
