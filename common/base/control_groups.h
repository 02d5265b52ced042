#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep {

// What the control groups of a process let it use: its own and every group above it. `cgroup`: the text of
// /proc/<pid>/cgroup; `mount`: where control groups are mounted, versions 1 and 2 alike. A container may see its own
// group as the root of all.

// Of the processors' time, in cores, rounded up; 0: there is no quota.
int QuotaCores(absl::string_view cgroup, const std::string& mount);

// Of memory, in bytes: the tightest limit, and the least that is left below one; what could be given back at once, as
// files that are kept in memory, counts as left. -1: there is no limit.
struct MemoryLimit {
  int64_t limit = -1, left = -1;
};
MemoryLimit LimitOfMemory(absl::string_view cgroup, const std::string& mount);

// The same of this process.
int QuotaCoresHere();
MemoryLimit LimitOfMemoryHere();

}  // namespace lockstep
