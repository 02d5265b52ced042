#pragma once

namespace lockstep {

// Names the folder that holds everything of a run on one of its hosts; every process of the run there has it in its
// environment. Whoever started the run removes it, if it can reach the host.
constexpr char kHostFolderVariable[] = "LOCKSTEP_HOST_FOLDER";
constexpr char kHostFolderName[] = "lockstep-run-";  // its own name begins so

// For a worker, when it begins: its host may be out of reach when the run ends, and nothing says how this process will.
// Starts a process, one for a host, that removes the folder once all that called this have ended and no process has it
// in its environment; it gives up a minute after they have. Until then it sleeps. Without that variable, or where that
// names no folder of a run's, nothing is done.
void RemoveHostFolderWhenAllHaveLeft();

}  // namespace lockstep
