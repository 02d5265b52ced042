#include "common/base/memory.h"

#include <malloc.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int64_t kMostBytes = 1 << 20;  // of one of the kernel's text files

std::string ReadOrEmpty(const std::string& path) {
  absl::StatusOr<std::string> text = FileSystem::Real()->Read(path, kMostBytes);
  return text.ok() ? *std::move(text) : "";
}

// The number after "<name><blanks>" at the beginning of a line.
std::optional<int64_t> Field(absl::string_view text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, name)) continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t value = 0;
    if (!words.empty() && absl::SimpleAtoi(words[0], &value)) return value;
  }
  return std::nullopt;
}

std::optional<int64_t> Number(const std::string& path) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(ReadOrEmpty(path), &value)) return std::nullopt;
  return value;
}

struct Names {
  const char *limit, *used, *dropped;  // files, and the line of memory.stat with the cache that can be dropped
};

void BoundByGroup(const std::string& folder, absl::string_view group, const Names& names, AvailableMemory* available) {
  const std::optional<int64_t> limit = Number(absl::StrCat(folder, "/", names.limit));
  const std::optional<int64_t> used = Number(absl::StrCat(folder, "/", names.used));
  if (!limit.has_value() || !used.has_value()) return;  // "max": no limit here
  const int64_t dropped = Field(ReadOrEmpty(absl::StrCat(folder, "/memory.stat")), names.dropped).value_or(0);
  const int64_t left = std::max<int64_t>(0, *limit - *used + dropped);
  if (left < available->bytes) *available = {left, absl::StrCat("the memory limit of cgroup ", group)};
}

// The group named by a line of /proc/self/cgroup, and every group above it.
void BoundByLine(absl::string_view line, absl::string_view cgroup, AvailableMemory* available) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
  if (parts.size() != 3) return;
  const bool unified = parts[1].empty();
  const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
  if (!unified && std::find(controllers.begin(), controllers.end(), "memory") == controllers.end()) return;
  const Names names = unified ? Names{"memory.max", "memory.current", "inactive_file "}
                              : Names{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};
  const std::string root = absl::StrCat(cgroup, unified ? "" : "/memory");
  std::string group(absl::StripSuffix(parts[2], "/"));
  while (true) {
    BoundByGroup(absl::StrCat(root, group), group.empty() ? "/" : group, names, available);
    if (group.empty()) return;
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

}  // namespace

absl::StatusOr<AvailableMemory> GetAvailableMemory() { return GetAvailableMemory("/proc", "/sys/fs/cgroup"); }

absl::StatusOr<AvailableMemory> GetAvailableMemory(absl::string_view proc, absl::string_view cgroup) {
  const std::string meminfo = absl::StrCat(proc, "/meminfo");
  const std::optional<int64_t> bytes = BytesInLine(ReadOrEmpty(meminfo), "MemAvailable");
  if (!bytes.has_value()) return absl::InternalError(absl::StrCat(meminfo, ": no line MemAvailable"));
  AvailableMemory available{*bytes, "the machine (MemAvailable)"};
  const std::string groups = ReadOrEmpty(absl::StrCat(proc, "/self/cgroup"));
  for (absl::string_view line : absl::StrSplit(groups, '\n', absl::SkipEmpty())) {
    BoundByLine(line, cgroup, &available);
  }
  return available;
}

std::optional<int64_t> BytesInLine(absl::string_view text, absl::string_view name) {
  const std::optional<int64_t> kib = Field(text, absl::StrCat(name, ":"));
  return kib.has_value() ? std::optional<int64_t>(*kib << 10) : std::nullopt;
}

void KeepFreedMemory() {
  constexpr int kLargest = std::numeric_limits<int>::max();
  constexpr int kOlderLimit = 32 << 20;  // of an older glibc, which refuses more
  if (mallopt(M_MMAP_THRESHOLD, kLargest) == 0) mallopt(M_MMAP_THRESHOLD, kOlderLimit);
  mallopt(M_TRIM_THRESHOLD, kLargest);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace lockstep
