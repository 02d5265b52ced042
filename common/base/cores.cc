#include "common/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"

namespace lockstep {

namespace {

constexpr int64_t kMaxText = 1 << 16;

// A number in a file; 0: there is none, or it says that nothing is limited.
int64_t NumberIn(const std::string& path, size_t word = 0) {
  const absl::StatusOr<std::string> text = FileSystem::Real()->Read(path, kMaxText);
  if (!text.ok()) return 0;
  const std::vector<std::string> words = absl::StrSplit(*text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int64_t number = 0;
  return word < words.size() && absl::SimpleAtoi(words[word], &number) && number > 0 ? number : 0;
}

// Of one group: in version 2 "150000 100000" or "max 100000", in version 1 two files.
int CoresOfGroup(const std::string& folder) {
  int64_t quota = NumberIn(folder + "/cpu.max"), period = NumberIn(folder + "/cpu.max", 1);
  if (quota == 0) {
    quota = NumberIn(folder + "/cpu.cfs_quota_us");
    period = NumberIn(folder + "/cpu.cfs_period_us");
  }
  return quota == 0 || period == 0 ? 0 : static_cast<int>((quota + period - 1) / period);
}

int BoundCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return CPU_SETSIZE;  // there are more
  return std::max(1, CPU_COUNT(&cores));
}

int QuotaHere() {
  return QuotaCores(FileSystem::Real()->Read("/proc/self/cgroup", kMaxText).value_or(""), "/sys/fs/cgroup");
}

}  // namespace

int QuotaCores(absl::string_view cgroup, const std::string& mount) {
  int least = 0;
  for (const absl::string_view line : absl::StrSplit(cgroup, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));  // 4:cpu,cpuacct:/docker/1f…
    if (fields.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    const bool version_1 = std::find(controllers.begin(), controllers.end(), "cpu") != controllers.end();
    if (!version_1 && !fields[1].empty()) continue;
    // Every group above it limits it too. A container may see its own group as the root of all.
    for (std::string group = fields[2];; group.resize(group.rfind('/'))) {
      if (group == "/") group.clear();
      const int cores = CoresOfGroup(absl::StrCat(mount, version_1 ? "/cpu" : "", group));
      if (cores > 0) least = least == 0 ? cores : std::min(least, cores);
      if (group.find('/') == std::string::npos) break;
    }
  }
  return least;
}

int UsableCores() {
  const int bound = BoundCores(), quota = QuotaHere();
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
