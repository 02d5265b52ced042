#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace lockstep {

// The cores that this process may run on, at least 1: those it is bound to, or as many as a control group's quota comes
// to (a container's --cpus), rounded up, if that is fewer. Of a machine with more than 1024 it is CPU_SETSIZE.
int UsableCores();

// What the control groups of a process let it use of the processors' time, in cores, rounded up; 0: there is no quota.
// `cgroup`: the text of /proc/<pid>/cgroup; `mount`: where control groups are mounted, versions 1 and 2 alike.
int QuotaCores(absl::string_view cgroup, const std::string& mount);

// Those of them that are cores of their own: where two share their arithmetic (hyper-threads) they count as one. At
// least 1.
int PhysicalCores();

}  // namespace lockstep
