#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// How much memory this process may still take, and what bounds it.
struct AvailableMemory {
  int64_t bytes = 0;
  std::string bound_by;  // "the machine (MemAvailable)", "the memory limit of cgroup /docker/…"
};

// The least of what the kernel estimates as free for new work and what the limits of this process's control group and
// of those above it leave. Page cache that can be dropped counts as free. Internal: /proc cannot be read.
absl::StatusOr<AvailableMemory> GetAvailableMemory();

// The same from folders of one's own in place of /proc and /sys/fs/cgroup.
absl::StatusOr<AvailableMemory> GetAvailableMemory(absl::string_view proc, absl::string_view cgroup);

// In bytes what a line "<name>: <number> kB" says in `text`, that of /proc/meminfo or of a process's status. Nothing:
// there is no such line.
std::optional<int64_t> BytesInLine(absl::string_view text, absl::string_view name);

// From now on glibc keeps what is freed. What a step frees the next one allocates again; the pages of large blocks
// would go back to the kernel each time and be zeroed anew: a fifth to a quarter of the cnn's step on two cores. Before
// the first thread.
void KeepFreedMemory();

}  // namespace lockstep
