#include "worker/comm/mpi_hosts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "common/base/file.h"

namespace lockstep {

HostIdentity OwnHostIdentity() {
  char name[65] = "";
  gethostname(name, sizeof(name) - 1);
  struct stat network = {};
  stat("/proc/self/ns/net", &network);
  const absl::StatusOr<std::string> boot = FileSystem::Real()->Read("/proc/sys/kernel/random/boot_id", 64);
  const std::string host = absl::StrCat(name, "/", boot.ok() ? *boot : "", "/", network.st_ino);
  HostIdentity identity;
  std::copy_n(host.begin(), std::min(host.size(), sizeof(identity.text) - 1), identity.text);
  return identity;
}

}  // namespace lockstep
