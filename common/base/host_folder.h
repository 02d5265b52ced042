#pragma once

#include "absl/strings/string_view.h"

namespace lockstep {

// Names the folder that holds everything of a run on one of its hosts; every process of the run there has it in its
// environment. Whoever started the run removes it, if it can reach the host. For when it cannot, a process stands by on
// each host that sees to it, whatever ended the others there.
constexpr char kHostFolderVariable[] = "LOCKSTEP_HOST_FOLDER";
constexpr char kHostFolderName[] = "lockstep-run-";  // its own name begins so

// That process, for a shell: with the folder as $0. Of several for one folder the first stays. It waits for a worker to
// hold the folder, half an hour at most, and for the last of them to end; sleeping, but for a look every two seconds at
// the beginning. Then it ends Open MPI's daemon and removes the folder once no process has it in its environment, or
// gives up after a minute.
absl::string_view HostFolderWatch();

// For a worker, when it begins: holds the folder for the rest of this process's life, and starts that process, since
// where a host was made ready by a batch system's means it may be gone. Without that variable, or where that names no
// folder of a run's, nothing is done.
void HoldHostFolder();

}  // namespace lockstep
