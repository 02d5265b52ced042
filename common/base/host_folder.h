#pragma once

#include <string>

namespace lockstep {

// Names the folder that holds everything of a run on one of its hosts; every process of the run there has it in its
// environment. Whoever started the run removes it, if it can reach the host.
constexpr char kHostFolderVariable[] = "LOCKSTEP_HOST_FOLDER";

// For a worker that fails, since its host may be out of reach by then: starts a process that removes the folder once no
// process has it in its environment, and that gives up after a minute. Without that variable it does nothing.
void RemoveHostFolderWhenAllHaveLeft();

}  // namespace lockstep
