#pragma once

namespace lockstep {

// Names the folder that holds everything of a run on one of its hosts; every process of the run there has it in its
// environment. Whoever started the run removes it, if it can reach the host.
constexpr char kHostFolderVariable[] = "LOCKSTEP_HOST_FOLDER";
constexpr char kHostFolderName[] = "lockstep-run-";  // its own name begins so

// For a worker that fails, since its host may be out of reach by then: starts a process that removes the folder once no
// process has it in its environment, and that gives up after a minute. Without that variable, or where that names no
// folder of a run's, it does nothing.
void RemoveHostFolderWhenAllHaveLeft();

}  // namespace lockstep
