#include "common/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/control_groups.h"
#include "common/base/file.h"

namespace lockstep {
namespace {

int BoundCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return CPU_SETSIZE;  // there are more
  return std::max(1, CPU_COUNT(&cores));
}

}  // namespace

int UsableCores() {
  const int bound = BoundCores(), quota = QuotaCoresHere();
  return quota == 0 ? bound : std::min(bound, quota);
}

int PhysicalCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return CPU_SETSIZE;
  std::set<std::string> together;  // "0,4" of each
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &cores)) continue;
    const std::string path = absl::StrCat("/sys/devices/system/cpu/cpu", core, "/topology/core_cpus_list");
    // Where the machine does not say, each is one.
    together.insert(FileSystem::Real()->Read(path, 4096).value_or(absl::StrCat(core)));
  }
  return std::clamp<int>(static_cast<int>(together.size()), 1, UsableCores());
}

}  // namespace lockstep
