#include "coordinator/supervise/token.h"

#include <sys/random.h>

#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "common/base/file.h"

namespace lockstep {

absl::StatusOr<std::string> MakeToken() {
  char bytes[32];
  // Up to 256 bytes come whole or not at all.
  while (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
    if (errno != EINTR) return ErrnoStatus(errno, "random bytes for the run's token");
  }
  return absl::BytesToHexString(absl::string_view(bytes, sizeof(bytes)));
}

}  // namespace lockstep
