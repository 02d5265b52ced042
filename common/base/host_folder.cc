#include "common/base/host_folder.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep {
namespace {

constexpr char kPresence[] = "/present";  // in the folder, locked by each worker that is there

// Processes whose environment cannot be read are others' or gone. Open MPI's daemon has the folder among its arguments.
constexpr char kWatch[] = R"sh(
exec 9>"$0/watched" && flock -n 9 || exit 0
daemons() {
  for one in $(grep -lsF "$0" /proc/[0-9]*/cmdline); do
    one=${one%/cmdline}
    [ "$(cat "$one/comm" 2>/dev/null)" != orted ] || echo "${one#/proc/}"
  done
}
began=
for look in $(seq 900); do
  [ -d "$0" ] || exit 0
  [ ! -e "$0/present" ] || break
  if [ -n "$(daemons)" ]; then began=yes; elif [ -n "$began" ]; then break; fi
  sleep 2
done
[ ! -e "$0/present" ] || flock "$0/present" true
for look in $(seq 30); do
  [ -d "$0" ] || exit 0
  grep -qsF "$0" /proc/[0-9]*/environ || {
    [ "$look" -gt 3 ] && kill -KILL $(daemons) 2>/dev/null
    [ -n "$(daemons)" ] || { rm -rf "$0"; exit 0; }
  }
  sleep 2
done
)sh";

}  // namespace

absl::string_view HostFolderWatch() { return kWatch; }

void HoldHostFolder() {
  const char* const folder = std::getenv(kHostFolderVariable);
  if (folder == nullptr || *folder != '/') return;
  const absl::string_view name = absl::string_view(folder).substr(absl::string_view(folder).rfind('/') + 1);
  if (!absl::StartsWith(name, kHostFolderName)) return;
  std::string own = folder;
  // For the rest of this process's life.
  const int fd = open(absl::StrCat(folder, kPresence).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || flock(fd, LOCK_SH) != 0) return;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t files;
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);  // outlives what ends this process's group
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&files, standard, "/dev/null", O_RDWR, 0);
  }
  std::string shell = "sh", option = "-c", script = kWatch, path = "PATH=/usr/bin:/bin";
  char* const words[] = {shell.data(), option.data(), script.data(), own.data(), nullptr};
  char* const environment[] = {path.data(), nullptr};  // without the folder
  pid_t pid = 0;
  // That it could not be started is no reason not to train.
  posix_spawn(&pid, "/bin/sh", &files, &attributes, words, environment);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
}

}  // namespace lockstep
