#include "common/base/control_groups.h"

#include <algorithm>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxText = 1 << 16;
constexpr char kMount[] = "/sys/fs/cgroup";
constexpr int64_t kUnlimited = int64_t{1} << 60;  // version 1 says a number beyond it

std::vector<std::string> WordsIn(const std::string& path) {
  return absl::StrSplit(FileSystem::Real()->Read(path, kMaxText).value_or(""), absl::ByAnyChar(" \n"),
                        absl::SkipEmpty());
}

// A number in a file; 0: there is none, or it says that nothing is limited.
int64_t NumberIn(const std::string& path, size_t word = 0) {
  const std::vector<std::string> words = WordsIn(path);
  int64_t number = 0;
  return word < words.size() && absl::SimpleAtoi(words[word], &number) && number > 0 ? number : 0;
}

// What stands after a word.
int64_t NumberAfter(const std::string& name, const std::string& path) {
  const std::vector<std::string> words = WordsIn(path);
  const auto at = std::find(words.begin(), words.end(), name);
  int64_t number = 0;
  return at != words.end() && at + 1 != words.end() && absl::SimpleAtoi(*(at + 1), &number) ? number : 0;
}

// The folders of a process's groups that `controller` has a say in.
void ForEachGroup(absl::string_view cgroup, const std::string& mount, const std::string& controller,
                  absl::FunctionRef<void(const std::string&)> use) {
  for (const absl::string_view line : absl::StrSplit(cgroup, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));  // 4:cpu,cpuacct:/docker/1f…
    if (fields.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    const bool version_1 = std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
    if (!version_1 && !fields[1].empty()) continue;
    for (std::string group = fields[2];; group.resize(group.rfind('/'))) {
      if (group == "/") group.clear();
      use(absl::StrCat(mount, version_1 ? absl::StrCat("/", controller) : "", group));
      if (group.find('/') == std::string::npos) break;
    }
  }
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

MemoryLimit MemoryOfGroup(const std::string& folder) {
  int64_t limit = NumberIn(folder + "/memory.max"), used = NumberIn(folder + "/memory.current");
  if (limit == 0) {
    limit = NumberIn(folder + "/memory.limit_in_bytes");
    used = NumberIn(folder + "/memory.usage_in_bytes");
  }
  if (limit == 0 || limit >= kUnlimited) return {};
  const int64_t files = NumberAfter("inactive_file", folder + "/memory.stat");
  return {limit, std::clamp<int64_t>(limit - used + files, 0, limit)};
}

std::string GroupsHere() { return FileSystem::Real()->Read("/proc/self/cgroup", kMaxText).value_or(""); }

}  // namespace

int QuotaCores(absl::string_view cgroup, const std::string& mount) {
  int least = 0;
  ForEachGroup(cgroup, mount, "cpu", [&](const std::string& folder) {
    const int cores = CoresOfGroup(folder);
    if (cores > 0) least = least == 0 ? cores : std::min(least, cores);
  });
  return least;
}

MemoryLimit LimitOfMemory(absl::string_view cgroup, const std::string& mount) {
  MemoryLimit tightest;
  ForEachGroup(cgroup, mount, "memory", [&](const std::string& folder) {
    const MemoryLimit group = MemoryOfGroup(folder);
    if (group.limit < 0) return;
    tightest.limit = tightest.limit < 0 ? group.limit : std::min(tightest.limit, group.limit);
    tightest.left = tightest.left < 0 ? group.left : std::min(tightest.left, group.left);
  });
  return tightest;
}

int QuotaCoresHere() { return QuotaCores(GroupsHere(), kMount); }
MemoryLimit LimitOfMemoryHere() { return LimitOfMemory(GroupsHere(), kMount); }

}  // namespace lockstep
