#include "common/base/limits.h"

#include <sys/resource.h>

#include <algorithm>

namespace lockstep {
namespace {

// Enough; there are programs that go through all that they may have.
constexpr rlim_t kOpenFiles = 65536;

}  // namespace

void RaiseOpenFiles() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kOpenFiles) return;
  limit.rlim_cur = std::min(limit.rlim_max, kOpenFiles);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace lockstep
